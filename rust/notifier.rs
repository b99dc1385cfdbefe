// SPDX-License-Identifier: GPL-2.0

//! The mmu notifier: how the driver learns of `MADV_DONTNEED`.
//!
//! Core mm announces that it will clear page table entries of a range, clears them, and says that
//! it has. A driver's file mapping would get the same pages back afterwards; anonymous memory is
//! gone. So the range is blocked when the clearing begins, and taken out of the amap when it has
//! ended: not before, since until then page tables map the pages, and somebody who shares them must
//! not find himself alone with them.
//!
//! What is shared memory to the user stays, as in shared anonymous memory. It is blocked, too: core mm frees
//! page tables that become empty, and a fault that has made sure of having one must not lose it.
//!
//! Core mm says the same when it looks for a huge page to split on the border of a VMA that it changes,
//! and clears nothing. Then the VMA is locked for writing, and for `MADV_DONTNEED` only for reading.
//!
//! Both may be called from reclaim, for memory that is not the device's. So nothing is locked before
//! the range is known to be ours, and nothing is allocated that could reclaim.

use crate::{
    address_space::{
        pages,
        AddressSpace,
        Vmas, //
    },
    amap::{
        Amap,
        Sharing, //
    },
    helpers,
    interval_tree::Interval,
    radix_tree::NodePool, //
};
use kernel::{
    bindings,
    ffi::c_int,
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// The operations that core mm calls; immutable.
pub(crate) struct Ops(bindings::mmu_notifier_ops);

// SAFETY: The operations are never written to.
unsafe impl Sync for Ops {}

impl Ops {
    /// For core mm.
    pub(crate) fn as_ptr(&self) -> *const bindings::mmu_notifier_ops {
        &raw const self.0
    }
}

/// Our operations, by which core mm also tells our subscription from others'.
pub(crate) static OPS: Ops = Ops(bindings::mmu_notifier_ops {
    alloc_notifier: Some(alloc_notifier),
    free_notifier: Some(free_notifier),
    invalidate_range_start: Some(invalidate_range_start),
    invalidate_range_end: Some(invalidate_range_end),
    ..pin_init::zeroed()
});

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.alloc_notifier`.
unsafe extern "C" fn alloc_notifier(mm: *mut bindings::mm_struct) -> *mut bindings::mmu_notifier {
    // SAFETY: Core mm passes an `mm_struct` that is live during the call.
    match AddressSpace::alloc(unsafe { Mm::from_raw(mm) }) {
        Ok(notifier) => notifier,
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.free_notifier`.
unsafe extern "C" fn free_notifier(notifier: *mut bindings::mmu_notifier) {
    // SAFETY: Core mm passes what `alloc_notifier` returned, once, and forgets it.
    unsafe { AddressSpace::release(notifier) };
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.invalidate_range_start`.
unsafe extern "C" fn invalidate_range_start(
    notifier: *mut bindings::mmu_notifier,
    range: *const bindings::mmu_notifier_range,
) -> c_int {
    // SAFETY: Core mm passes our subscription and a range, both valid during the call.
    let (space, range) = unsafe { (&*AddressSpace::from_notifier(notifier), &*range) };
    if range.event != bindings::mmu_notifier_event_MMU_NOTIFY_CLEAR {
        return 0;
    }
    // SAFETY: The range is valid.
    if !unsafe { helpers::anon_rmap_mmu_notifier_range_blockable(range) } {
        // The OOM reaper, which leaves our VMAs alone.
        return match space.vmas().try_lock() {
            Some(vmas) if !overlaps(&vmas, range) => 0,
            _ => EAGAIN.to_errno(),
        };
    }
    for_each_cleared(space, range, |amap, indices| {
        let mut slots = amap.lock();
        if !slots.blocked.is_own(indices) {
            slots.blocked.begin(indices);
        }
    });
    0
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.invalidate_range_end`.
unsafe extern "C" fn invalidate_range_end(
    notifier: *mut bindings::mmu_notifier,
    range: *const bindings::mmu_notifier_range,
) {
    // SAFETY: As in `invalidate_range_start`.
    let (space, range) = unsafe { (&*AddressSpace::from_notifier(notifier), &*range) };
    // SAFETY: The range is valid.
    let blockable = unsafe { helpers::anon_rmap_mmu_notifier_range_blockable(range) };
    if range.event == bindings::mmu_notifier_event_MMU_NOTIFY_CLEAR && blockable {
        for_each_cleared(space, range, discard);
    }
}

/// Takes what core mm has cleared out of the amap, unless it was cleared for us or is shared memory.
fn discard(amap: &Amap, indices: Interval) {
    let mut pool = NodePool::new();
    loop {
        let mut slots = amap.lock();
        if slots.blocked.is_own(indices) {
            return;
        }
        if amap.sharing() == Sharing::Shared {
            slots.blocked.end(indices);
            return;
        }
        let needed = slots
            .anons
            .nodes_for_remove(indices.start(), indices.last());
        if pool.len() < needed {
            drop(slots);
            if pool.reserve(needed, GFP_ATOMIC | __GFP_NOWARN).is_ok() {
                continue;
            }
            slots = amap.lock();
        }
        let removed = slots.remove_range(indices, &mut pool);
        slots.lost |= removed.is_err();
        slots.blocked.end(indices);
        drop(slots);
        return;
    }
}

/// Whether any of `range` is the device's.
fn overlaps(vmas: &Vmas, range: &bindings::mmu_notifier_range) -> bool {
    pages(range.start, range.end)
        .is_ok_and(|pages| vmas.by_page.overlapping(pages).next().is_some())
}

/// Calls `f` for each part of `range` that is memory of the device and is really going to be cleared, under
/// the lock of the address space.
///
/// Core mm holds the mmap lock or the VMA's lock, so the VMAs in `range` stay as they are until the
/// clearing has ended.
fn for_each_cleared(
    space: &AddressSpace,
    range: &bindings::mmu_notifier_range,
    mut f: impl FnMut(&Amap, Interval),
) {
    let Ok(cleared) = pages(range.start, range.end) else {
        return;
    };
    let vmas = space.vmas().lock();
    for (covered, state) in vmas.by_page.overlapping(cleared) {
        if state.is_write_locked(&vmas) {
            continue;
        }
        let start = covered.start().max(cleared.start()) as usize;
        let last = covered.last().min(cleared.last()) as usize;
        if let Ok(indices) = state
            .base()
            .interval(start << PAGE_SHIFT, (last + 1) << PAGE_SHIFT)
        {
            f(state.amap(), indices);
        }
    }
}
