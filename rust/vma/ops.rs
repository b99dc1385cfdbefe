// SPDX-License-Identifier: GPL-2.0-only

//! The hooks that core mm calls for VMAs of the device.

use super::{
    fault,
    VmaState, //
};
use crate::{
    helpers,
    wait::VmFault, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    error::from_result,
    ffi::{
        c_char,
        c_int,
        c_ulong, //
    },
    mm::MmWithUser,
    prelude::*,
    sync::rcu, //
};

/// The operations of our VMAs; immutable. A VMA that has them is ours.
pub(crate) struct Ops(bindings::vm_operations_struct);

// SAFETY: The operations are never written to.
unsafe impl Sync for Ops {}

impl Ops {
    /// For core mm.
    pub(crate) fn as_ptr(&self) -> *const bindings::vm_operations_struct {
        &raw const self.0
    }
}

/// Our operations.
pub(crate) static OPS: Ops = Ops(bindings::vm_operations_struct {
    open: Some(open),
    close: Some(close),
    may_split: Some(may_split),
    mprotect: Some(mprotect),
    mremap: Some(mremap),
    fault: Some(fault),
    map_pages: Some(map_pages),
    page_mkwrite: Some(page_mkwrite),
    pfn_mkwrite: Some(pfn_mkwrite),
    name: Some(name),
    ..pin_init::zeroed()
});

/// Whether what is mapped at `address` is the device's; `None` if nothing is. Takes no mmap lock: a moment later the answer
/// can be another one.
pub(crate) fn maps(mm: &MmWithUser, address: usize) -> Option<bool> {
    let _rcu = rcu::read_lock();
    // SAFETY: The tree has users, so it is one that readers under RCU may walk.
    let vma = unsafe {
        let tree = &raw mut (*mm.as_raw()).__bindgen_anon_1.mm_mt;
        bindings::mtree_load(tree, address)
    };
    let vma = NonNull::new(vma.cast::<bindings::vm_area_struct>())?;
    // SAFETY: The memory of a VMA stays that of one until a grace period has passed (SLAB_TYPESAFE_BY_RCU).
    let ops = unsafe { (&raw const (*vma.as_ptr()).vm_ops).read_volatile() };
    Some(ptr::eq(ops, OPS.as_ptr()))
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.open`.
unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
    // SAFETY: Called by core mm.
    unsafe { VmaState::open(vma) };
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.close`.
unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: Called by core mm.
    unsafe { VmaState::close(vma) };
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.may_split`.
unsafe extern "C" fn may_split(vma: *mut bindings::vm_area_struct, _address: c_ulong) -> c_int {
    // SAFETY: Core mm holds the mmap lock for writing, so the VMA is ours to read, and `may_split`
    // may be called.
    from_result(|| unsafe {
        match VmaState::of(vma) {
            Some(state) => state.may_split().map(|()| 0),
            None => Ok(0),
        }
    })
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.mprotect`.
unsafe extern "C" fn mprotect(
    vma: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
    new_flags: c_ulong,
) -> c_int {
    // SAFETY: Core mm holds the mmap lock for writing.
    from_result(|| unsafe {
        match VmaState::of(vma) {
            Some(state) => state
                .mprotect(vma, start..end, new_flags as bindings::vm_flags_t)
                .map(|()| 0),
            None => Ok(0),
        }
    })
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.mremap`.
unsafe extern "C" fn mremap(vma: *mut bindings::vm_area_struct) -> c_int {
    from_result(|| {
        // SAFETY: Core mm holds the mmap lock for writing. The VMA has no state if `open` found no
        // memory for one.
        let state = unsafe { VmaState::of(vma) }.ok_or(ENOMEM)?;
        // SAFETY: As above: the lock is held.
        unsafe { state.finish_move() }.map(|()| 0)
    })
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.fault`.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> VmFault {
    // SAFETY: Core mm passes a valid fault.
    let write = unsafe { (*vmf).flags } & bindings::fault_flag_FAULT_FLAG_WRITE != 0;
    // SAFETY: Called by core mm.
    unsafe { fault::handle(vmf, write) }
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.page_mkwrite`.
unsafe extern "C" fn page_mkwrite(vmf: *mut bindings::vm_fault) -> VmFault {
    // SAFETY: Called by core mm.
    unsafe { fault::handle(vmf, true) }
}

/// A write to what core mm takes for no page: the page of zeroes that all share.
///
/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.pfn_mkwrite`.
unsafe extern "C" fn pfn_mkwrite(vmf: *mut bindings::vm_fault) -> VmFault {
    // `wp_pfn_shared()` does not know `VM_FAULT_RETRY`: it would go on to make the entry writable.
    // SAFETY: Core mm passes a valid fault.
    unsafe { (*vmf).flags &= !bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY };
    // SAFETY: Called by core mm.
    unsafe { fault::handle(vmf, true) }
}

/// Maps nothing, since it may not sleep: `fault` maps the pages around. That there is this operation
/// lets core mm call `fault` with only the VMA locked, so that threads fault in parallel.
///
/// # Safety
///
/// None needed.
unsafe extern "C" fn map_pages(
    _vmf: *mut bindings::vm_fault,
    _start: c_ulong,
    _end: c_ulong,
) -> VmFault {
    0
}

/// A name makes the mapping a part of core dumps, and is used for nothing else. Core mm takes all our memory for shared, so
/// what is private to the user is told by this, as `coredump_filter` says of private anonymous memory.
///
/// Who writes a core dump asks each VMA before it reads any.
///
/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.name`.
unsafe extern "C" fn name(vma: *mut bindings::vm_area_struct) -> *const c_char {
    // SAFETY: No requirements.
    if unsafe { helpers::anon_rmap_is_dumping_core() } {
        // SAFETY: `dump_vma_snapshot()` holds the mmap lock for writing.
        if let Some(state) = unsafe { VmaState::of(vma) } {
            // SAFETY: As above.
            unsafe { state.hide_kept() };
        }
    }
    // SAFETY: Core mm holds the mmap lock.
    if unsafe { helpers::anon_rmap_vma_is_dumped_if_private(vma) } {
        c"[anon_rmap]".as_char_ptr()
    } else {
        ptr::null()
    }
}
