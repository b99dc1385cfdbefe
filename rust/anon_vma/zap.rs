// SPDX-License-Identifier: GPL-2.0-only

//! Clearing page table entries of the device's VMAs, for the driver's own ends.
//!
//! Core mm tells our mmu notifier of that, too. It is told from `MADV_DONTNEED` by who does it: the walk of a
//! family ([`Family::walker`](crate::anon_vma::family::Family::walker)), a fault that replaces a page
//! ([`Replacing`](crate::amap::replacing)), or somebody who has locked the VMA for writing.

use crate::helpers;
use core::ops::Range;
use kernel::bindings;

/// Clears the page table entries of `addresses`, and flushes them from all TLBs.
///
/// # Safety
///
/// `vma` must be one of the device that covers `addresses`, and that keeps its page tables during the call: by the mmap
/// lock, the VMA's lock or `i_mmap`. The caller must hold no lock that the mmu notifier takes, and be one
/// of those named above.
pub(crate) unsafe fn zap(vma: *mut bindings::vm_area_struct, addresses: Range<usize>) {
    let size = addresses.end.wrapping_sub(addresses.start);
    // SAFETY: The caller promises that the VMA and its page tables stay.
    unsafe { bindings::zap_vma_range(vma, addresses.start, size) };
}

/// The same under the mmap lock, for entries whose pages are not asked one by one what these said: all of the VMA may have been
/// written since the last `clear_refs` then. Locks the VMA for writing.
///
/// # Safety
///
/// `vma` must be one of the device that covers `addresses`, and the mmap lock be held for writing. The caller must hold no
/// lock that the mmu notifier takes.
pub(crate) unsafe fn zap_write_locked(vma: *mut bindings::vm_area_struct, addresses: Range<usize>) {
    // SAFETY: The caller holds the mmap lock for writing; with the VMA's lock for writing its page tables stay.
    unsafe {
        helpers::anon_rmap_vma_set_soft_dirty(vma);
        zap(vma, addresses);
    }
}
