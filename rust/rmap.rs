// SPDX-License-Identifier: GPL-2.0

//! rmap walks: from an anon to each (mm, address) that may map it.
//!
//! A walk reads one interval tree under its lock. What it finds is where the page may be mapped: the
//! VMA can have been unmapped since, or hold another page there. So it is looked up again, under the
//! mmap lock of its process, before anything is done to it.

use crate::{
    anon::Anon,
    anon_vma::{
        Mapping,
        Walk, //
    },
    helpers,
    interval_tree::Interval,
    stats,
    vma::VmaState,
    zap::zap, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*, //
};

/// Room for what a walk from `anon` finds; [`ENOMEM`].
///
/// A walk that finds more works through it in portions, so the room need not be enough; but it must be
/// there before something is begun that can't be undone.
pub(crate) fn reserve(anon: &Anon) -> Result<KVec<Mapping>> {
    /// For mappings that come into being after they were counted.
    const SPARE: usize = 8;

    Ok(KVec::with_capacity(
        anon.anon_vma().count(anon.index()) + SPARE,
        GFP_KERNEL,
    )?)
}

/// Zaps all mappings of `anon`, and calls `holder` for each address space whose amap holds it (for some
/// twice, if mappings move meanwhile).
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
    mut holder: impl FnMut(&MmWithUser),
) -> Walk {
    let mut done = 0;
    let mut changes = None;
    loop {
        let walk = anon.anon_vma().walk(anon.index(), done, &mut room);
        if changes.replace(walk.changes) != Some(walk.changes) && done > 0 {
            // The tree has changed since the last portion: count portions from the start again.
            done = 0;
            continue;
        }
        done += room.len();
        for mapping in room.drain_all() {
            unmap_one(anon, &mapping, &mut holder);
        }
        if done as u64 >= walk.mappings {
            if anon.anon_vma().generation() == walk.generation {
                return walk;
            }
            done = 0;
        }
    }
}

/// Zaps one mapping, if it still is one.
fn unmap_one(anon: &Anon, mapping: &Mapping, holder: &mut impl FnMut(&MmWithUser)) {
    // Without users nobody accesses the address space any more.
    let Some(mm) = mapping.mm.mmget_not_zero() else {
        return;
    };
    {
        let mmap_lock = mm.mmap_read_lock();
        let vma = mmap_lock.vma_lookup(mapping.address);
        // SAFETY: The VMA is locked by the mmap lock.
        let state = vma.and_then(|vma| unsafe { VmaState::of(vma.as_ptr()) });
        if let (Some(vma), Some(state)) = (vma, state) {
            if state.base().index(mapping.address) == anon.index() {
                if state.amap().lock().holds(anon) {
                    holder(&mm);
                }
                let before = anon.lock().mapcount();
                // SAFETY: The VMA has this amap and base, and the mmap lock is held.
                unsafe {
                    zap(
                        vma.as_ptr(),
                        state.amap(),
                        state.base(),
                        Interval::point(anon.index().0),
                    )
                };
                let after = anon.lock().mapcount();
                stats::ZAPPED.add(before.saturating_sub(after));
                return;
            }
        }
    }
    // munmap takes a VMA away before it clears the page tables, and does the latter with the mmap lock
    // held for reading only. Getting it for writing means that it is through.
    // SAFETY: `mm` has users, and the lock is not held.
    unsafe {
        helpers::anon_rmap_mmap_write_lock(mm.as_raw());
        helpers::anon_rmap_mmap_write_unlock(mm.as_raw());
    }
}
