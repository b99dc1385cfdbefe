// SPDX-License-Identifier: GPL-2.0-only

//! Soft-dirty: what must be said to have been written since the last `clear_refs`, where core mm forgets it.

use super::{
    locked::MmWriteLocked,
    VmaState, //
};
use crate::{
    anon::{
        content::Content,
        Anon, //
    },
    anon_vma::Links,
    index::{
        Index,
        Indices,
        Pages, //
    }, //
};
use core::ptr;
use kernel::{
    mm::Mm,
    warn_on, //
};

impl VmaState {
    /// Has whoever maps a page of `pages` next say that it was written. A page that was only read may be said to have been written,
    /// too; that one was is never missed.
    pub(super) fn note_soft_dirty(&self, pages: Pages) {
        if let Ok(indices) = self.base().indices(pages.addresses()) {
            self.for_each_page(indices, |_, content| content.set_soft_dirty());
        }
    }

    /// Makes the entries of pages soft-dirty that a device may be writing to: core mm has made them clean, and would not be told of
    /// the writes to come.
    ///
    /// `mm` must be the one of the VMA.
    pub(super) fn keep_pinned_soft_dirty(&self, mm: MmWriteLocked<'_>) {
        if warn_on!(!ptr::eq::<Mm>(&**mm, self.mm_state.mm())) {
            return;
        }
        let indices = self.links(&self.amap().lock()).map(Links::indices);
        if let Some(indices) = indices {
            self.for_each_page(indices, |anon, content| {
                if content.is_exclusive() && content.maybe_dma_pinned() {
                    // SAFETY: The mmap lock is held.
                    unsafe { self.rmap.set_soft_dirty(anon.index(), content.pfn()) };
                }
            });
        }
    }

    /// Calls `f` for each page at `indices`, with the locks of the amap and of the page's anon. Gives up the amap's lock now and then.
    fn for_each_page(&self, indices: Indices, mut f: impl FnMut(&Anon, &mut Content)) {
        /// Pages that are looked at with the lock held.
        const PAGES: usize = 1024;

        let mut rest = Some(indices);
        while let Some(indices) = rest {
            let slots = self.amap().lock();
            let mut last = None;
            for (index, slot) in slots
                .anons
                .iter_range(indices.first().0, indices.last().0)
                .take(PAGES)
            {
                f(slot.value, &mut slot.value.lock());
                last = Some(Index(index));
            }
            rest = last.and_then(|last| indices.behind(last));
        }
    }
}
