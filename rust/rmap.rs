// SPDX-License-Identifier: GPL-2.0

//! rmap walks: from an anon to each (mm, address) that may map it.
//!
//! A walk reads one interval tree under its lock. What it finds is where the page may be mapped: the
//! VMA can have been unmapped since, or hold another page there. So it is looked up again, under the
//! mmap lock of its process, before anything is done to it.
//!
//! A page can be moved meanwhile, but only within an address space, and with the mmap lock held for
//! writing. So it is enough to see each address space at one time: if pages have been moved in the tree since
//! it was read, the places of the address space are looked up again under its mmap lock. A walk thus ends
//! however many moves go on.

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
        MmWithUser,
        MmapReadGuard, //
    },
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTree,
    task::Pid, //
};

/// Room for what a walk from `anon` finds; [`ENOMEM`].
///
/// A walk that finds more makes more room, or works through it in portions, so the room need not be enough; but
/// it must be there before something is begun that can't be undone.
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

/// What a visit has found at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// All that there was to be seen.
    Done,
    /// No VMA. It may have been taken away a moment ago by munmap, which clears the page tables later, with
    /// the mmap lock held for reading only.
    NoVma,
}

/// Calls `visit`, with the mmap lock, for each place where a page of `anon_vma` with an index in `range` may be
/// mapped, until it breaks; for some twice, if VMAs change meanwhile. Returns what the walk has cost.
///
/// The range is that of one index, of several, or [all](Interval::ALL) for a page whose index is not
/// known. A place to which pages are moved during the walk is visited too. What is mapped anew during the
/// walk may be missed: see [`unmap`] for how that is excluded.
///
/// Takes O(log n + k): n VMAs in the tree, k that cover a part of the range; for each address space again, if
/// pages are moved meanwhile. Takes mmap locks, so the caller must hold none, and no lock of the driver.
pub(crate) fn walk<B>(
    anon_vma: &AnonVma,
    range: Interval,
    room: &mut KVec<Mapping>,
    mut visit: impl FnMut(&MmWithUser, &MmapReadGuard<'_>, &Mapping) -> ControlFlow<B, Visit>,
) -> ControlFlow<B, Walk> {
    let mut done = 0;
    let mut changes = None;
    loop {
        let walk = anon_vma.walk(range, done, room);
        if walk.mappings as usize > room.capacity() && grow(room, walk.mappings as usize) {
            done = 0;
            continue;
        }
        // There is no memory for all of them: portions.
        if changes.replace(walk.changes) != Some(walk.changes) && done > 0 {
            // The order may be another than that of the last portion: count from the start again.
            done = 0;
            continue;
        }
        done += room.len();
        for mapping in room.drain_all() {
            visit_safely(anon_vma, range, walk.generation, &mapping, &mut visit)?;
        }
        if done as u64 >= walk.mappings {
            return ControlFlow::Continue(walk);
        }
    }
}

/// Makes room for more than `mappings`, if there is memory.
fn grow(room: &mut KVec<Mapping>, mappings: usize) -> bool {
    room.clear();
    // Twice as much, since they can become more until the next look.
    room.reserve(2 * mappings, GFP_KERNEL | __GFP_NOWARN)
        .is_ok()
}

/// Visits `mapping`, which was found at `generation` of the tree; if pages have been moved since then, all
/// places of its address space.
fn visit_safely<B>(
    anon_vma: &AnonVma,
    range: Interval,
    generation: u64,
    mapping: &Mapping,
    visit: &mut impl FnMut(&MmWithUser, &MmapReadGuard<'_>, &Mapping) -> ControlFlow<B, Visit>,
) -> ControlFlow<B> {
    // Without users nobody accesses the address space any more.
    let Some(mm) = mapping.mm.mmget_not_zero() else {
        return ControlFlow::Continue(());
    };
    let mut known = true;
    loop {
        let mut seen = Visit::Done;
        {
            let mmap_lock = mm.mmap_read_lock();
            if known && anon_vma.generation() == generation {
                seen = visit(&mm, &mmap_lock, mapping)?;
            } else {
                let mut after = None;
                while let Some(mapping) = anon_vma.next_place(&mm, range, after) {
                    after = Some(mapping.address);
                    if visit(&mm, &mmap_lock, &mapping)? == Visit::NoVma {
                        seen = Visit::NoVma;
                    }
                }
            }
        }
        if seen == Visit::Done {
            return ControlFlow::Continue(());
        }
        // Getting the lock for writing means that munmap is through. It closes VMAs before it gives the lock
        // up, so there is no such place in the tree any more.
        // SAFETY: `mm` has users, and the lock is not held.
        unsafe {
            helpers::anon_rmap_mmap_write_lock(mm.as_raw());
            helpers::anon_rmap_mmap_write_unlock(mm.as_raw());
        }
        known = false;
    }
}

/// Zaps all mappings of `anon`, and calls `holder` with each address space whose amap holds it and the
/// address there (for some twice, if mappings move meanwhile).
///
/// The caller must have made sure that no mapping is installed any more, by a change under the anon's
/// lock that faults look at. Then there is none when this returns, also while VMAs are split, moved,
/// forked or unmapped at the same time. Returns what the walk has cost.
///
/// Takes the time of a [`walk`]. Sleeps; takes the mmap locks of the processes it finds, so the caller must
/// hold none, and no lock of the driver.
pub(crate) fn unmap(
    anon: &Anon,
    mut room: KVec<Mapping>,
    mut holder: impl FnMut(&MmWithUser, usize),
) -> Walk {
    let index = Interval::point(anon.index().0);
    let walked = walk(
        anon.anon_vma(),
        index,
        &mut room,
        |mm, mmap_lock, mapping| {
            let unmapped = with_vma(anon, mmap_lock, mapping, |vma, state| {
                if state.amap().lock().holds(anon) {
                    holder(mm, mapping.address);
                }
                let before = anon.lock().mapcount();
                // SAFETY: The VMA has this amap and base, and the mmap lock is held.
                unsafe { zap(vma.as_ptr(), state.amap(), state.base(), index) };
                let after = anon.lock().mapcount();
                stats::ZAPPED.add(before.saturating_sub(after));
            });
            ControlFlow::<Infallible, _>::Continue(unmapped.err().unwrap_or(Visit::Done))
        },
    );
    match walked {
        ControlFlow::Continue(walk) => walk,
        ControlFlow::Break(never) => match never {},
    }
}

/// What `f` makes of the VMA of `mapping`, if it still puts the index of `anon` there; else what there is.
fn with_vma<R>(
    anon: &Anon,
    mmap_lock: &MmapReadGuard<'_>,
    mapping: &Mapping,
    f: impl FnOnce(&VmaRef, &VmaState) -> R,
) -> Result<R, Visit> {
    let vma = mmap_lock.vma_lookup(mapping.address).ok_or(Visit::NoVma)?;
    // SAFETY: The VMA is locked by the mmap lock.
    match unsafe { VmaState::of(vma.as_ptr()) } {
        Some(state) if state.base().index(mapping.address) == anon.index() => Ok(f(vma, &state)),
        // Something else is mapped there since.
        _ => Err(Visit::Done),
    }
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
        |mm, mmap_lock, mapping| match add_mapped(pfn, mm, mmap_lock, mapping, &mut places) {
            Ok(()) => ControlFlow::Continue(Visit::Done),
            Err(error) => ControlFlow::Break(error),
        },
    );
    if let ControlFlow::Break(error) = walked {
        return Err(error);
    }
    Ok(places)
}

/// Adds to `places` those addresses of `mapping` at which the page table maps frame `pfn`.
fn add_mapped(
    pfn: u64,
    mm: &MmWithUser,
    mmap_lock: &MmapReadGuard<'_>,
    mapping: &Mapping,
    places: &mut RBTree<Place, ()>,
) -> Result {
    let pid = process::pid(mm);
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
    let walked = walk(
        anon.anon_vma(),
        index,
        &mut room,
        |mm, mmap_lock, mapping| {
            let holds = with_vma(anon, mmap_lock, mapping, |_, state| {
                state.amap().lock().holds(anon)
            });
            let place = Place {
                pid: process::pid(mm),
                address: mapping.address,
            };
            if holds == Ok(true) && holders.iter().all(|(known, _)| *known != place) {
                if let Err(error) = holders.push((place, examine(mm, place)), GFP_KERNEL) {
                    return ControlFlow::Break(error);
                }
            }
            ControlFlow::Continue(Visit::Done)
        },
    );
    if let ControlFlow::Break(error) = walked {
        return Err(error.into());
    }
    Ok(holders)
}
