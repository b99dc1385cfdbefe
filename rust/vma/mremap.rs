// SPDX-License-Identifier: GPL-2.0

//! mremap: pages move to another VMA, and keep their indices.
//!
//! Core mm makes the new VMA ([`VmaState::begin_move`]), moves the page tables, and tells us
//! ([`VmaState::finish_move`]) or, if that failed, closes the new VMA. It holds the mmap lock for writing all
//! the time, so there are no faults.

use super::{
    range,
    Unpublished,
    VmaState, //
};
use crate::{
    address_space::{
        pages,
        Subscription, //
    },
    amap::{
        Amap,
        Sharing, //
    },
    anon_vma::Links,
    helpers,
    index::Base, //
};
use kernel::{
    bindings,
    page::PAGE_SHIFT,
    prelude::*,
    sync::ArcBorrow, //
};

impl VmaState {
    /// Makes `vma` the target of a move of this VMA's pages from `delta` pages behind its start on.
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `vma` must be a VMA under construction, the mmap lock held for writing.
    pub(super) unsafe fn begin_move(
        source: ArcBorrow<'_, Self>,
        vma: *mut bindings::vm_area_struct,
        delta: usize,
    ) -> Result {
        // SAFETY: The mmap lock is held for writing.
        let ((start, end), (source_start, _)) = unsafe { (range(vma), range(source.vma())) };
        let first = source.base.index(source_start + (delta << PAGE_SHIFT));
        let base = Base::placing(first, start);
        let indices = base.interval(start, end)?;
        // SAFETY: The mmap lock is held for writing.
        let space = unsafe { Subscription::new(source.space.mm().as_raw()) }?;
        let amap = match source.amap.sharing() {
            Sharing::Shared => source.amap.clone(),
            Sharing::Private => Amap::new(Sharing::Private, source.amap.anon_vma().clone())?,
        };
        let links = source.links(&source.amap.lock()).map_or(0, Links::len);
        let mut unpublished = Unpublished::new(space, amap, base, links)?;
        let reservation = core::mem::take(&mut unpublished.links);
        let links = {
            let mut slots = source.amap.lock();
            source
                .links_mut(&mut slots)
                .ok_or(EINVAL)?
                .copy_for_move(indices, reservation)
                .map_err(|_| ENOMEM)?
        };
        let source = Some(source.into());
        // SAFETY: The VMA is under construction.
        unsafe { Self::publish(unpublished, vma, pages(start, end)?, links, source) };
        Ok(())
    }

    /// Moves the anons after core mm has moved the page tables. On error nothing has changed, and
    /// core mm moves the page tables back.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn finish_move(&self) -> Result {
        let source = self
            .registration
            .access_mut(&mut self.space.vmas().lock())
            .source
            .take()
            .ok_or(EINVAL)?;
        if source.amap.sharing() == Sharing::Shared {
            return Ok(());
        }
        let (mut start, mut len) = (0, 0);
        // SAFETY: Both pointers are valid for writes.
        if !unsafe { helpers::anon_rmap_current_mremap(&mut start, &mut len) } {
            return Err(EINVAL);
        }
        // SAFETY: mremap holds the mmap lock for writing.
        let (source_start, source_end) = unsafe { range(source.vma()) };
        let moved = source.base.interval(
            start.max(source_start),
            start.saturating_add(len).min(source_end),
        )?;
        source.amap.share_range(moved, &self.amap)?;
        match source.amap.remove_range(moved) {
            Ok(_removed) => Ok(()),
            Err(error) => {
                let undone = self.amap.remove_range(moved);
                self.amap.lock().lost |= undone.is_err();
                Err(error)
            }
        }
    }
}
