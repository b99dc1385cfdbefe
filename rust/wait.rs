// SPDX-License-Identifier: GPL-2.0-only

//! Faults that have to wait for somebody else.
//!
//! Who waits gives up the lock that the fault came with and sleeps, killably; core mm then tries the fault again.
//! What is waited for ends without a lock that a fault may hold: a zap of core mm in the same address space, a
//! page that another thread is copying, a page that a soft offline is moving.

use crate::{
    helpers,
    loading::Loading,
    vm_fault::{
        VmFault,
        Vmf, //
    }, //
};
use core::ptr;
use kernel::ffi::{
    c_long,
    c_void, //
};

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

    /// Waits, which ends the fault, and returns what core mm is to be told. The caller must hold no lock of the driver.
    pub(crate) fn wait(self, vmf: Vmf<'_>) -> VmFault {
        // SAFETY: By its invariant the fault is valid. Nobody uses it, or its VMA, afterwards: it was moved here.
        unsafe { helpers::anon_rmap_vmf_wait(vmf.as_ptr(), self.cause, self.ticket) }
    }
}

/// Wakes those who wait for `cause`: something that it stands for has ended.
pub(crate) fn wake<T>(cause: &T) {
    // SAFETY: The pointer is a number there.
    unsafe { helpers::anon_rmap_wake(ptr::from_ref(cause).cast()) };
}
