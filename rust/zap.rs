// SPDX-License-Identifier: GPL-2.0

//! Clearing page table entries of the device's VMAs, for the driver's own ends.
//!
//! The indices are blocked in the amap meanwhile: this keeps faults out, and tells our mmu notifier
//! that nothing is to be discarded.

use crate::{
    amap::Amap,
    index::{
        Base,
        Index, //
    },
    interval_tree::Interval, //
};
use kernel::{
    bindings,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Clears the page table entries of `indices`, flushes them from all TLBs, and lets faults install
/// them again.
///
/// # Safety
///
/// `vma` must be a VMA that holds `amap` at `base` and covers `indices`. The caller must hold the mmap
/// lock or the VMA's lock, at least for reading, and no lock of the driver.
pub(crate) unsafe fn zap(
    vma: *mut bindings::vm_area_struct,
    amap: &Amap,
    base: Base,
    indices: Interval,
) {
    while !amap.lock().blocked.begin_own(indices) {
        // Many other zaps are under way in this amap; each is short.
        fsleep(Delta::from_micros(10));
    }
    // SAFETY: The caller promises what this requires.
    unsafe { zap_blocked(vma, base, indices) };
    amap.lock().blocked.end_own(indices);
}

/// As [`zap`], for indices that the current task has blocked.
///
/// # Safety
///
/// As for [`zap`].
pub(crate) unsafe fn zap_blocked(
    vma: *mut bindings::vm_area_struct,
    base: Base,
    indices: Interval,
) {
    let start = base.address(Index(indices.start()));
    let end = base.address(Index(indices.last() + 1));
    // SAFETY: The VMA is valid and locked, and covers the range.
    unsafe { bindings::zap_vma_range(vma, start, end.wrapping_sub(start)) };
}
