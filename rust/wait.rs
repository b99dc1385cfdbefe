// SPDX-License-Identifier: GPL-2.0-only

//! Faults that have to wait for somebody else.
//!
//! Who waits gives up the lock that the fault came with and sleeps, killably; core mm then tries the fault again.
//! What is waited for ends without a lock that a fault may hold: a zap of core mm in the same address space, a
//! page that another thread is copying, a page that a soft offline is moving.

use crate::{
    helpers,
    loading::Loading, //
};
use core::ptr;
use kernel::{
    bindings,
    ffi::{
        c_long,
        c_void, //
    }, //
};

/// What a fault handler returns to core mm.
pub(crate) type VmFault = bindings::vm_fault_t;

/// Makes waiting possible.
pub(crate) fn init(_loading: &mut Loading) {
    // SAFETY: By the invariant of `Loading` nobody waits yet.
    unsafe { helpers::anon_rmap_wait_init() };
}

/// What a fault has to wait for. Made under the lock that guards the cause, while it lasts: its end is not missed then.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    cause: *const c_void,
    ticket: c_long,
}

impl Wait {
    /// To wait for the end of something that `cause` stands for.
    pub(crate) fn new<T>(cause: &T) -> Self {
        let cause = ptr::from_ref(cause).cast();
        Self {
            cause,
            // SAFETY: The pointer is a number there.
            ticket: unsafe { helpers::anon_rmap_wait_ticket(cause) },
        }
    }

    /// Waits, and returns what core mm is to be told.
    ///
    /// # Safety
    ///
    /// `vmf` must be that of a fault of ours. Neither it nor the VMA may be used afterwards. The caller must hold no lock of the
    /// driver.
    pub(crate) unsafe fn wait(self, vmf: *mut bindings::vm_fault) -> VmFault {
        // SAFETY: The caller promises that the fault is valid.
        unsafe { helpers::anon_rmap_vmf_wait(vmf, self.cause, self.ticket) }
    }
}

/// Wakes those who wait for `cause`: something that it stands for has ended.
pub(crate) fn wake<T>(cause: &T) {
    // SAFETY: The pointer is a number there.
    unsafe { helpers::anon_rmap_wake(ptr::from_ref(cause).cast()) };
}
