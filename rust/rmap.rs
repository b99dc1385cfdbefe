// SPDX-License-Identifier: GPL-2.0

//! rmap walks: from an anon to each (mm, address) that may map it.
//!
//! A walk reads one interval tree under its lock. What it finds is where the page may be mapped: the
//! VMA can have been unmapped since, or hold another page there. So it is looked up again, under the
//! mmap lock of its process, before anything is done to it.

use crate::{
    anon::Anon,
    anon_vma::{
        AnonVma,
        Mapping,
        Walk, //
    },
    helpers,
    interval_tree::Interval,
    process,
    stats,
    vma::VmaState,
    zap::zap, //
};
use core::{
    convert::Infallible,
    fmt,
    ops::ControlFlow, //
};
use kernel::{
    mm::{
        virt::VmaRef,
        MmWithUser, //
    },
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTree,
    task::Pid, //
};

/// Room for what a walk from `anon` finds; [`ENOMEM`].
///
/// A walk that finds more works through it in portions, so the room need not be enough; but it must be
/// there before something is begun that can't be undone.
pub(crate) fn reserve(anon: &Anon) -> Result<KVec<Mapping>> {
    reserve_range(anon.anon_vma(), Interval::point(anon.index().0))
}

fn reserve_range(anon_vma: &AnonVma, range: Interval) -> Result<KVec<Mapping>> {
    /// For mappings that come into being after they were counted.
    const SPARE: usize = 8;

    Ok(KVec::with_capacity(
        anon_vma.count(range) + SPARE,
        GFP_KERNEL,
    )?)
}

/// Calls `visit` for each place where a page of `anon_vma` with an index in `range` may be mapped, until
/// it breaks; for some twice, if VMAs change meanwhile. Returns what the last pass has cost.
///
/// The range is that of one index, of several, or [all](Interval::ALL) for a page whose index is not
/// known. A place to which pages are moved during the walk is visited too.
///
/// Takes O(log n + k): n VMAs in the tree, k that cover a part of the range. `visit` is called without
/// locks.
pub(crate) fn walk<B>(
    anon_vma: &AnonVma,
    range: Interval,
    room: &mut KVec<Mapping>,
    mut visit: impl FnMut(&Mapping) -> ControlFlow<B>,
) -> ControlFlow<B, Walk> {
    let mut done = 0;
    let mut changes = None;
    loop {
        let walk = anon_vma.walk(range, done, room);
        if changes.replace(walk.changes) != Some(walk.changes) && done > 0 {
            // The order may be another than that of the last portion: count from the start again.
            done = 0;
            continue;
        }
        done += room.len();
        for mapping in room.drain_all() {
            visit(&mapping)?;
        }
        if done as u64 >= walk.mappings {
            if anon_vma.generation() == walk.generation {
                return ControlFlow::Continue(walk);
            }
            done = 0;
        }
    }
}

/// Zaps all mappings of `anon`, and calls `holder` with each address space whose amap holds it and the
/// address there (for some twice, if mappings move meanwhile).
///
/// The caller must have made sure that no mapping is installed any more, by a change under the anon's
/// lock that faults look at. Then there is none when this returns, also while VMAs are split, moved,
/// forked or unmapped at the same time. Returns what the last walk has cost.
///
/// Takes O(log n + k): n VMAs in the tree, k that cover the index. Sleeps; takes the mmap locks of the
/// processes it finds, so the caller must hold none, and no lock of the driver.
pub(crate) fn unmap(
    anon: &Anon,
    mut room: KVec<Mapping>,
    mut holder: impl FnMut(&MmWithUser, usize),
) -> Walk {
    let index = Interval::point(anon.index().0);
    let walked = walk(anon.anon_vma(), index, &mut room, |mapping| {
        unmap_one(anon, mapping, &mut holder);
        ControlFlow::<Infallible>::Continue(())
    });
    match walked {
        ControlFlow::Continue(walk) => walk,
        ControlFlow::Break(never) => match never {},
    }
}

/// Zaps one mapping, if it still is one.
fn unmap_one(anon: &Anon, mapping: &Mapping, holder: &mut impl FnMut(&MmWithUser, usize)) {
    // Without users nobody accesses the address space any more.
    let Some(mm) = mapping.mm.mmget_not_zero() else {
        return;
    };
    let zapped = with_vma(anon, &mm, mapping, |vma, state| {
        if state.amap().lock().holds(anon) {
            holder(&mm, mapping.address);
        }
        let index = Interval::point(anon.index().0);
        let before = anon.lock().mapcount();
        // SAFETY: The VMA has this amap and base, and the mmap lock is held.
        unsafe { zap(vma.as_ptr(), state.amap(), state.base(), index) };
        let after = anon.lock().mapcount();
        stats::ZAPPED.add(before.saturating_sub(after));
    });
    if zapped.is_none() {
        // munmap takes a VMA away before it clears the page tables, and does the latter with the mmap
        // lock held for reading only. Getting it for writing means that it is through.
        // SAFETY: `mm` has users, and the lock is not held.
        unsafe {
            helpers::anon_rmap_mmap_write_lock(mm.as_raw());
            helpers::anon_rmap_mmap_write_unlock(mm.as_raw());
        }
    }
}

/// What `f` makes of the VMA of `mapping` under the mmap lock, if it still puts the index of `anon` there.
fn with_vma<R>(
    anon: &Anon,
    mm: &MmWithUser,
    mapping: &Mapping,
    f: impl FnOnce(&VmaRef, &VmaState) -> R,
) -> Option<R> {
    let mmap_lock = mm.mmap_read_lock();
    let vma = mmap_lock.vma_lookup(mapping.address)?;
    // SAFETY: The VMA is locked by the mmap lock.
    let state = unsafe { VmaState::of(vma.as_ptr()) }?;
    (state.base().index(mapping.address) == anon.index()).then(|| f(vma, &state))
}

/// An address of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) pid: Pid,
    pub(crate) address: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid={} address={:#x}", self.pid, self.address)
    }
}

/// Where page tables map `anon`, of the VMAs that cover indices in `range`: at these, whatever the index
/// of `anon`. [`ENOMEM`].
///
/// Exact as long as nobody changes mappings meanwhile. Takes the time of a [`walk`], and that of looking
/// at each page table entry. Locking as for [`unmap`].
pub(crate) fn mapped_at(anon: &Anon, range: Interval) -> Result<RBTree<Place, ()>> {
    let pfn = anon.lock().pfn();
    let mut places = RBTree::new();
    let mut room = reserve_range(anon.anon_vma(), range)?;
    let walked = walk(
        anon.anon_vma(),
        range,
        &mut room,
        |mapping| match add_mapped(pfn, mapping, &mut places) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        },
    );
    if let ControlFlow::Break(error) = walked {
        return Err(error);
    }
    Ok(places)
}

/// Adds to `places` those addresses of `mapping` at which the page table maps frame `pfn`.
fn add_mapped(pfn: u64, mapping: &Mapping, places: &mut RBTree<Place, ()>) -> Result {
    let Some(mm) = mapping.mm.mmget_not_zero() else {
        return Ok(());
    };
    let pid = process::pid(&mm);
    let mmap_lock = mm.mmap_read_lock();
    for page in 0..mapping.pages as usize {
        let address = mapping.address + page * PAGE_SIZE;
        // Page tables are there for as long as a VMA is.
        if mmap_lock.vma_lookup(address).is_none() {
            continue;
        }
        // SAFETY: The mmap lock is held, and the address is that of a VMA.
        if unsafe { helpers::anon_rmap_maps_pfn(mm.as_raw(), address, pfn as usize) } {
            places.try_create_and_insert(Place { pid, address }, (), GFP_KERNEL)?;
        }
    }
    Ok(())
}

/// The processes that a walk finds and whose amaps hold `anon`: who would be hit if it failed. With what
/// `examine` makes of their address spaces; [`ENOMEM`].
///
/// Locking as for [`unmap`].
pub(crate) fn holders<T>(
    anon: &Anon,
    examine: impl Fn(&MmWithUser, Place) -> T,
) -> Result<KVec<(Place, T)>> {
    let index = Interval::point(anon.index().0);
    let mut holders = KVec::<(Place, T)>::new();
    let mut room = reserve(anon)?;
    let walked = walk(anon.anon_vma(), index, &mut room, |mapping| {
        let Some(mm) = mapping.mm.mmget_not_zero() else {
            return ControlFlow::Continue(());
        };
        let holds = with_vma(anon, &mm, mapping, |_, state| {
            state.amap().lock().holds(anon)
        });
        let place = Place {
            pid: process::pid(&mm),
            address: mapping.address,
        };
        if holds == Some(true) && holders.iter().all(|(known, _)| *known != place) {
            if let Err(error) = holders.push((place, examine(&mm, place)), GFP_KERNEL) {
                return ControlFlow::Break(error);
            }
        }
        ControlFlow::Continue(())
    });
    if let ControlFlow::Break(error) = walked {
        return Err(error.into());
    }
    Ok(holders)
}
