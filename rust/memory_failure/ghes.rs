// SPDX-License-Identifier: GPL-2.0-only

//! What firmware reports of memory that has failed: ACPI's generic hardware error source (GHES).
//!
//! The kernel reads the reports, tells a chain of notifiers, which must not sleep, and has `memory_failure()` called later: by a worker, or
//! by the thread that was about to use the data. That does not know our pages as long as they are mapped, but it marks the frame and says
//! so by its trace event, and then we take the page away, see [`kernel_event`](super::kernel_event). All that is left to be done here is to
//! [remember](reported) under which frames it was the hardware that failed: what the kernel marks otherwise is a drill of its own.
//!
//! A thread that was about to use the data gets a SIGBUS without an address (`SI_KERNEL`), as on x86. Of errors of a cache, which firmware
//! reports as those of a processor, the chain is not told: the pages that these hit are taken away as by a drill. That the kernel undoes no
//! failure from then on holds for these, too.
//!
//! On x86 the kernel makes a machine check of each report, too, which does not say whether the memory was lost: that one is left alone.

use super::failure_chain::{
    Listener,
    Listening, //
};
use crate::{
    helpers,
    pool::reported, //
};
use kernel::{
    bindings::{
        self,
        notifier_block, //
    },
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    }, //
};

/// Hearing of what firmware reports.
pub(crate) type Reports = Listening<Report>;

/// One section of a report, of which the chain tells in whatever context.
pub(crate) struct Report;

// SAFETY: The chain is an atomic one: to unregister waits for an RCU grace period.
unsafe impl Listener for Report {
    unsafe extern "C" fn notify(
        _: *mut notifier_block,
        severity: c_ulong,
        error: *mut c_void,
    ) -> c_int {
        let mut pfn = 0;
        // SAFETY: The chain passes a `struct cper_sec_mem_err`; `pfn` is valid for writes.
        if unsafe { helpers::anon_rmap_ghes_pfn(severity, error, &mut pfn) } {
            reported::add(pfn as u64);
        }
        bindings::NOTIFY_DONE as c_int
    }

    unsafe fn register(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_ghes_register(block) };
    }

    unsafe fn unregister(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_ghes_unregister(block) };
    }
}
