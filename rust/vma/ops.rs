// SPDX-License-Identifier: GPL-2.0-only

//! The hooks that core mm calls for VMAs of the device.

use super::{
    fault,
    locked::{
        self,
        VmaMut,
        VmaNew, //
    }, //
};
use crate::{
    operations::Operations,
    process,
    vm_fault::{
        VmFault,
        Vmf, //
    }, //
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
    mm::{
        virt,
        MmWithUser, //
    },
    prelude::*,
    sync::rcu, //
};

/// The operations of our VMAs. A VMA that has them is ours.
pub(super) static OPS: Operations<bindings::vm_operations_struct> =
    Operations::new(bindings::vm_operations_struct {
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
    // SAFETY: This is that hook.
    if let Some((source, copy)) = unsafe { VmaNew::copied(vma) } {
        source.open(copy);
    }
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.close`.
unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: This is that hook.
    if let Some((addresses, state)) = unsafe { locked::closed(vma) } {
        state.close(addresses);
    }
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.may_split`.
unsafe extern "C" fn may_split(vma: *mut bindings::vm_area_struct, _address: c_ulong) -> c_int {
    // SAFETY: Core mm holds the mmap lock for writing.
    let vma = unsafe { VmaMut::from_raw(vma) };
    from_result(|| vma.map_or(Ok(()), VmaMut::may_split).map(|()| 0))
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.mprotect`.
unsafe extern "C" fn mprotect(
    vma: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
    flags: c_ulong,
) -> c_int {
    // SAFETY: Core mm holds the mmap lock for writing.
    let vma = unsafe { VmaMut::from_raw(vma) };
    let charge = |vma: VmaMut<'_>| vma.mprotect(start..end, flags as bindings::vm_flags_t);
    from_result(|| vma.map_or(Ok(()), charge).map(|()| 0))
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.mremap`.
unsafe extern "C" fn mremap(vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: Core mm holds the mmap lock for writing.
    let vma = unsafe { VmaMut::from_raw(vma) };
    // It has no state if `open` found no memory for one.
    from_result(|| vma.ok_or(ENOMEM)?.finish_move().map(|()| 0))
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.fault`.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> VmFault {
    // SAFETY: This is a hook for faults.
    let vmf = unsafe { Vmf::from_raw(vmf) };
    let write = vmf.is_write();
    fault::handle(vmf, write)
}

/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.page_mkwrite`.
unsafe extern "C" fn page_mkwrite(vmf: *mut bindings::vm_fault) -> VmFault {
    // SAFETY: This is a hook for faults.
    fault::handle(unsafe { Vmf::from_raw(vmf) }, true)
}

/// A write to what core mm takes for no page: the page of zeroes that all share.
///
/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.pfn_mkwrite`.
unsafe extern "C" fn pfn_mkwrite(vmf: *mut bindings::vm_fault) -> VmFault {
    // SAFETY: This is a hook for faults.
    let mut vmf = unsafe { Vmf::from_raw(vmf) };
    // `wp_pfn_shared()` would go on to make the entry writable.
    vmf.forbid_retry();
    fault::handle(vmf, true)
}

/// Maps nothing, since it may not sleep: `fault` maps the pages around. That there is this operation
/// lets core mm call `fault` with only the VMA locked, so that threads fault in parallel.
extern "C" fn map_pages(_: *mut bindings::vm_fault, _: c_ulong, _: c_ulong) -> VmFault {
    0
}

/// Who writes a core dump asks each VMA before it reads any.
///
/// # Safety
///
/// To be called by core mm only, as `vm_operations_struct.name`.
unsafe extern "C" fn name(vma: *mut bindings::vm_area_struct) -> *const c_char {
    if process::is_dumping_core() {
        // SAFETY: `dump_vma_snapshot()` holds the mmap lock for writing.
        if let Some(vma) = unsafe { VmaMut::from_raw(vma) } {
            vma.hide_kept();
        }
    }
    // SAFETY: Core mm holds the mmap lock, or that of the VMA.
    name_of(unsafe { virt::VmaRef::from_raw(vma) })
}

/// A name makes the mapping a part of core dumps, and is used for nothing else. Core mm takes all our memory for shared, so
/// what is private to the user is told by this, as `coredump_filter` says of private anonymous memory.
fn name_of(vma: &virt::VmaRef) -> *const c_char {
    if locked::is_dumped_if_private(vma) {
        c"[anon_rmap]".as_char_ptr()
    } else {
        ptr::null()
    }
}
