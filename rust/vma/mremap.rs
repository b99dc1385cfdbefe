// SPDX-License-Identifier: GPL-2.0-only

//! mremap: pages move to another VMA, and keep their indices.
//!
//! Core mm makes the new VMA ([`VmaMut::begin_move`]), announces to our mmu notifier what it moves, moves the page
//! tables, and tells us ([`VmaMut::finish_move`]) or, if that failed, moves them back and closes the new VMA. It
//! holds the mmap lock for writing all the time, so there are no faults.
//!
//! A failure does not wait for that: its walk looks at the source before it looks at the target, which comes later in
//! each tree, and entries move in that direction. They move back only with `i_mmap` locked for writing, which a walk does not
//! give up between the two.

use super::{
    locked::{
        VmaMut,
        VmaNew, //
    },
    mm_state::Move,
    notifier::Subscription,
    VmaState, //
    VmaStateReservation,
};
use crate::{
    amap::Amap,
    anon_vma::{
        family::{
            Sharing,
            MAX_INDEX, //
        },
        Links, //
    },
    commit_charge::Charge,
    index::{
        Base,
        Index,
        Pages, //
    }, //
};
use core::{
    mem,
    ops::Range, //
};
use kernel::prelude::*;

impl VmaMut<'_> {
    /// Makes `vma` the target of a move of pages of this VMA; its offset says from which one on. [`ENOMEM`].
    pub(super) fn begin_move(self, vma: &VmaNew<'_>) -> Result {
        let source = self.state();
        let Range { start, end } = vma.range();
        let base = Base::placing(Index(source.rmap.window().index(vma.pgoff())), start);
        let indices = base.indices(start..end)?;
        if indices.last().0 > MAX_INDEX {
            return Err(ENOMEM);
        }
        let mm_state = Subscription::new(vma.mm())?;
        let family = source.rmap.family().clone();
        let amap = match source.amap().sharing() {
            Sharing::Shared => source.amap().clone(),
            Sharing::Private => {
                let anon_vma = source.amap().anon_vma().clone();
                Amap::new(Sharing::Private, anon_vma, source.amap().is_mergeable())?
            }
        };
        // What a fault may still link is needed, too.
        self.start_write();
        self.catch_up_uncharged()?;
        let links = source.links(&source.amap().lock()).map_or(0, Links::len);
        let window = family.next_window()?;
        let mut reserved =
            VmaStateReservation::new(mm_state, family, amap, base, [window; 2], links)?;
        if source.is_charged() {
            // That of the source is given back with it, if it goes.
            reserved.charge = Some(Charge::for_addresses(start..end)?);
        }
        let reservation = mem::take(&mut reserved.links);
        let links = {
            let mut slots = source.amap().lock();
            source
                .links_mut(&mut slots)
                .ok_or(EINVAL)?
                .copy(indices, reservation)
                .map_err(|_| ENOMEM)?
        };
        let old = {
            let mut vmas = source.mm_state.vmas().lock();
            let registration = reserved.state.registration.access_mut(&mut vmas);
            registration.moving_here = true;
            vmas.moves += 1;
            vmas.moving.replace(Move {
                source: source.into(),
                source_start: self.range().start,
                moved: None,
            })
        };
        drop(old);
        reserved.state.rmap.family().begin_move();
        // As core mm says of each page that it moves; here that is also what is in no page table.
        vma.set_soft_dirty();
        VmaState::publish(reserved, vma, Pages::of(start..end)?, links);
        Ok(())
    }

    /// Moves the anons after core mm has moved the page tables. On error nothing has changed, and there is nothing in
    /// the page tables that core mm could move back.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`EINVAL`] if nothing was moved: mremap with an old length of 0 duplicates a shared mapping, and
    /// ours only look like one to core mm.
    pub(super) fn finish_move(self) -> Result {
        self.state().move_anons().inspect_err(|_| {
            // Core mm is to have nothing to move back from this VMA. Page tables are only a cache.
            self.zap_as_written(self.range());
            self.state().end_move();
        })
    }
}

impl VmaState {
    fn move_anons(&self) -> Result {
        let (source, moved) = {
            let vmas = self.mm_state.vmas().lock();
            let moving = vmas.moving.as_ref().ok_or(EINVAL)?;
            (moving.source.clone(), moving.moved.clone().ok_or(EINVAL)?)
        };
        if source.amap().sharing() == Sharing::Private {
            source.amap().finish_discards()?;
            let moved = source.base().indices(moved.start..moved.end)?;
            source.amap().share_range(moved, self.amap())?;
            match source.amap().remove_range(moved) {
                Ok(removed) => drop(removed),
                Err(error) => {
                    let undone = self.amap().remove_range(moved);
                    self.amap().lock().lost |= undone.is_err();
                    return Err(error);
                }
            }
            let (lost, has_mapped_zeroes) = {
                let slots = source.amap().lock();
                (slots.lost, slots.has_mapped_zeroes)
            };
            let mut slots = self.amap().lock();
            slots.lost |= lost;
            slots.has_mapped_zeroes |= has_mapped_zeroes;
        }
        self.end_move();
        // Those of the source were not all for what was moved.
        self.prune_links();
        Ok(())
    }

    /// Ends a move to this VMA, whatever has become of it.
    pub(super) fn end_move(&self) {
        let moving = {
            let mut vmas = self.mm_state.vmas().lock();
            self.registration.access_mut(&mut vmas).moving_here = false;
            vmas.moving.take()
        };
        self.rmap.family().end_move();
        drop(moving);
    }
}
