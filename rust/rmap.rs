// SPDX-License-Identifier: GPL-2.0-only

//! rmap walks: from an anon to each (mm, address) that may map it.
//!
//! A walk reads one interval tree, in portions. What it finds is where the page may be mapped: the VMA can have been unmapped
//! since, or hold another page there.
//!
//! **A walk takes no mmap lock, and waits for no process.** It does what core mm does for a page of a file: with the `i_mmap`
//! of the [family](crate::anon_vma::family) locked, VMAs that are linked there stay, and so do their page tables. So a walk looks
//! into the page table, and zaps the entry if it is one of the page.
//!
//! Nor does it start again when something changes, since each place needs to be seen once:
//!
//! * Who installs an entry looks at the state of the anon under its lock, and has linked the VMA before.
//! * A split moves no entry, and what covers an index moves forward in the order of the tree.
//! * mremap moves entries to a VMA that comes later in the tree. It moves them back only with `i_mmap` locked for writing, which the
//!   walk keeps between the two, see [`Family::is_moving`](crate::anon_vma::family::Family::is_moving).
//! * fork leaves no entry of a page in the child.

use crate::{
    anon::Anon,
    anon_vma::{
        rmap_mm::RmapMm,
        rmap_vma::{
            Entry,
            PageId,
            RmapVma,
            Zap, //
        },
        Cost,
        Mapping,
        Walk, //
    },
    failure::Place,
    helpers,
    index::Index,
    index::Indices,
    process,
    stats,
    vma::VmaState, //
};
use core::ops::ControlFlow;
use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Zaps all mappings of the page of `anon`, also those of anons that it is [merged](crate::anon::merge) with.
///
/// The caller must have made sure that no mapping is installed any more, by a change under the anon's
/// lock that faults look at. Then there is none when this returns, also while VMAs are split, moved,
/// forked or unmapped at the same time. Returns what the walk has cost.
///
/// That a page was written since the last `clear_refs` (soft-dirty) is noted with the anon, for who maps it next.
///
/// Takes O(log n + k) for each anon: n VMAs in the tree, k that cover the index, whatever others do meanwhile. Allocates nothing. Sleeps; takes
/// the lock of the family's walks and `i_mmap`, for one portion at a time, so the caller must hold no lock of the driver.
pub(crate) fn unmap(anon: &Anon) -> Cost {
    unmap_each(anon, |_, _| ())
}

/// As [`unmap`]; calls `unmapped` for the VMAs that mapped the page, with the index there, with `i_mmap` locked.
pub(crate) fn unmap_each(anon: &Anon, mut unmapped: impl FnMut(&RmapVma, Index)) -> Cost {
    let mut cost = Cost::default();
    let _ = anon.each_in_frame(|anon| {
        cost.add(unmap_one(anon, &mut unmapped));
        Ok(())
    });
    cost
}

/// As [`unmap_each`], but not for what `anon` is merged with.
pub(crate) fn unmap_one(anon: &Anon, mut unmapped: impl FnMut(&RmapVma, Index)) -> Cost {
    let index = anon.index();
    // It stays what it is, by the state that the caller has set.
    let pfn = anon.lock().pfn();
    let anon_vma = anon.anon_vma();
    let mut walk = Walk::new(Indices::one(index));
    let mut was_soft_dirty = false;
    while !walk.is_over {
        let family = anon_vma.family();
        let mut unflushed = Unflushed::default();
        // What has been closed meanwhile goes with all that it held, and not under these locks.
        let mut found = [const { None }; Walk::PORTION];
        let walker = family.walker();
        loop {
            for (Mapping { vma, .. }, found) in walk.next(anon_vma).zip(&mut found) {
                match vma.zap(&walker, index, pfn) {
                    Zap::Done { soft_dirty } => {
                        stats::ZAPPED.inc();
                        was_soft_dirty |= soft_dirty;
                        unmapped(&vma, index);
                    }
                    Zap::Nothing => (),
                    Zap::Unflushed => unflushed.add(&vma),
                }
                *found = Some(vma);
            }
            // Others get their turn between two portions, but not while entries are moving. And a VMA is linked with `i_mmap`
            // locked for writing: who makes more of them all the time, to run away, has to wait for the end.
            if walk.is_over || !(walk.is_chasing() || family.is_moving()) {
                break;
            }
        }
        drop(walker);
        unflushed.wait();
    }
    if was_soft_dirty {
        anon.lock().set_soft_dirty();
    }
    walk.cost
}

/// Takes the zeroes that all share out of the page table at `index` of a VMA, if they are mapped there. Does nothing if the VMA
/// does not cover the index any more. Locking as for [`unmap`].
pub(crate) fn unmap_zeroes(state: &VmaState, index: Index) {
    let vma = state.rmap_vma();
    let mut unflushed = Unflushed::default();
    // SAFETY: No requirements.
    let zeroes = unsafe { helpers::anon_rmap_zero_pfn() } as u64;
    let walker = vma.family().walker();
    // The links are split before the VMA, which waits for `i_mmap` then: so it covers what they do.
    let covers = state.covers(&state.amap().lock(), index);
    if covers && vma.zap(&walker, index, zeroes) == Zap::Unflushed {
        unflushed.add(vma);
    }
    drop(walker);
    unflushed.wait();
}

/// Address spaces where a VMA that has been unmapped can still be in a TLB.
#[derive(Default)]
struct Unflushed([Option<Arc<RmapMm>>; 8]);

impl Unflushed {
    /// Adds that of `vma`. If there is no place, it takes that of another one, which so gets less time.
    fn add(&mut self, vma: &RmapVma) {
        let mm = vma.mm();
        let is_free =
            |place: &Option<Arc<RmapMm>>| place.as_ref().is_none_or(|other| Arc::ptr_eq(other, mm));
        let free = self.0.iter().position(is_free).unwrap_or(0);
        if let Some(place) = self.0.get_mut(free) {
            *place = Some(mm.clone());
        }
    }

    /// Waits until what core mm has unmapped is in no TLB any more: it goes on to flush, but not with `i_mmap` locked. It
    /// does not take the process: nothing else is waited for longer than a moment.
    fn wait(self) {
        const LOOKS: usize = 200;

        // They are in the first places.
        for mm in self.0.iter().map_while(Option::as_ref) {
            for _ in 0..LOOKS {
                if !mm.is_unflushed() {
                    break;
                }
                fsleep(Delta::from_micros(500));
            }
        }
    }
}

/// Where page tables map the page of `anon`, and of what it is merged with: at the index of each, or at all of `indices`, of the VMAs that
/// cover some.
///
/// Exact as long as nobody changes mappings meanwhile. Takes the time of a walk as in [`unmap`], and for each VMA that of
/// looking at the page tables that it has. Locking as for [`unmap`].
///
/// # Errors
///
/// [`ENOMEM`]; [`EINTR`] if the current task is being killed.
pub(crate) fn mapped_at(anon: &Anon, indices: Option<Indices>) -> Result<RBTree<Place, ()>> {
    let pfn = anon.lock().pfn();
    let mut places = RBTree::new();
    anon.each_in_frame(|anon| {
        let mut walk = Walk::new(indices.unwrap_or(Indices::one(anon.index())));
        while !walk.is_over && !walk.is_chasing() {
            for mapping in walk.next(anon.anon_vma()) {
                add_mapped(&mapping, pfn, &mut places)?;
            }
        }
        Ok(())
    })?;
    Ok(places)
}

/// Adds to `places` where `mapping` maps frame `pfn`.
fn add_mapped(mapping: &Mapping, pfn: u64, places: &mut RBTree<Place, ()>) -> Result {
    let Mapping { vma, indices } = mapping;
    let mut rest = Some(*indices);
    while let Some(indices) = rest {
        if process::is_current_killed() {
            return Err(EINTR);
        }
        let mut found = None;
        rest = vma.entries(&vma.family().i_mmap(), indices, |index, entry| {
            if entry == Entry::Page(pfn) {
                found = Some(index);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if let Some(index) = found {
            places.try_create_and_insert(vma.place(index), (), GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(())
}

/// Calls `examine` for each place that a walk finds where an amap holds `anon`, or what it is merged with: with the address space, the
/// place, and which of these it is. That is who would be hit if the page failed, or is. For some twice, if mappings move meanwhile.
///
/// Takes the time of a walk as in [`unmap`]. Takes the locks of amaps, one at a time, none during `examine`.
///
/// # Errors
///
/// What `examine` returns.
pub(crate) fn holders(
    anon: &Anon,
    mut examine: impl FnMut(&Arc<RmapMm>, Place, PageId) -> Result,
) -> Result {
    anon.each_in_frame(|anon| holders_of_one(anon, |mm, place| examine(mm, place, anon.id())))
}

/// As [`holders`], but not for what `anon` is merged with.
pub(crate) fn holders_of_one(
    anon: &Anon,
    mut examine: impl FnMut(&Arc<RmapMm>, Place) -> Result,
) -> Result {
    let index = anon.index();
    let mut walk = Walk::new(Indices::one(index));
    // What is made after that did not hold the page when this began.
    while !walk.is_over && !walk.is_chasing() {
        for Mapping { vma, .. } in walk.next(anon.anon_vma()) {
            // What it has, if it is being taken down, goes with it.
            if !vma.mm().is_exiting() && vma.holds(index, anon.id()) {
                examine(vma.mm(), vma.place(index))?;
            }
        }
    }
    Ok(())
}
