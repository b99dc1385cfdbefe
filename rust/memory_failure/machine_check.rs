// SPDX-License-Identifier: GPL-2.0-only

//! The x86 machine checks.
//!
//! The kernel reports them to a chain of notifiers, in a worker: one for the machine checks of all. So
//! what fails in one of our pages is only noted there, and marked as handled; the page is taken away a moment later, by the
//! [queue], and then the frame is given to `memory_failure()`, which marks and counts it. Everybody else's memory is left alone.
//!
//! Ours comes before the notifier that calls `memory_failure()`, which does not know our pages as long as they are
//! mapped. What is noted is hidden from that one by the severity, which a second notifier of ours restores.
//!
//! A thread that was about to use the data (action required) is not known here: the kernel calls
//! `memory_failure()` on its behalf, often before us, and as that does not know the page, the thread gets a
//! SIGBUS without an address (`SI_KERNEL`). Its next access gets the right one, as everybody's.
//!
//! If the pool is [device memory](super::device_memory), `memory_failure()` does know its pages, and asks
//! us to handle them; so all is left to it.

use super::{
    direct_map,
    failure_chain::{
        Listener,
        Listening, //
    },
    ghes::Reports,
    queue, //
};
use crate::{
    anon,
    failure::Source,
    helpers,
    pool::{
        device_memory::DeviceMemory,
        frame, //
    },
    stats, //
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
    },
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// The registration of our notifiers, and of that for what firmware reports.
#[pin_data]
pub(crate) struct MachineCheck {
    #[pin]
    reports: Reports,
    #[pin]
    before: Listening<Before>,
    #[pin]
    after: Listening<After>,
}

impl MachineCheck {
    /// Registers the notifiers.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            reports <- Reports::new(),
            before <- Listening::new(),
            after <- Listening::new(),
        })
    }
}

/// What is done before the kernel's own handler.
struct Before;

// SAFETY: The chain is a blocking one: to unregister waits for its lock.
unsafe impl Listener for Before {
    /// Sleeps, but waits for no process.
    unsafe extern "C" fn notify(_: *mut notifier_block, _: c_ulong, mce: *mut c_void) -> c_int {
        let mut pfn = 0;
        // SAFETY: The chain passes a `struct mce` or null; `pfn` is valid for writes.
        if unsafe { helpers::anon_rmap_mce_pfn(mce, &mut pfn) } && is_ours(pfn as u64) {
            // SAFETY: It is a `struct mce`, as it has a frame.
            unsafe { helpers::anon_rmap_mce_take(mce) };
        }
        bindings::NOTIFY_DONE as c_int
    }

    unsafe fn register(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_mce_register(block, true) };
    }

    unsafe fn unregister(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_mce_unregister(block) };
    }
}

/// What is done after it.
struct After;

// SAFETY: As that of `Before`.
unsafe impl Listener for After {
    unsafe extern "C" fn notify(_: *mut notifier_block, _: c_ulong, mce: *mut c_void) -> c_int {
        // SAFETY: The chain passes a `struct mce` or null.
        unsafe { helpers::anon_rmap_mce_restore(mce) };
        bindings::NOTIFY_DONE as c_int
    }

    unsafe fn register(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_mce_register(block, false) };
    }

    unsafe fn unregister(block: *mut notifier_block) {
        // SAFETY: As the caller promises.
        unsafe { helpers::anon_rmap_mce_unregister(block) };
    }
}

/// Notes the failure of frame `pfn`, if it is one of ours; whether it is to be kept from the kernel's own handler.
fn is_ours(pfn: u64) -> bool {
    /// How often to look for a page that is on its way to an anon or from one.
    const ATTEMPTS: usize = 20;

    if DeviceMemory::get().is_some() {
        // The kernel will ask for it.
        return false;
    }
    for _ in 0..ATTEMPTS {
        if let Some(is_noted) = note(pfn) {
            return is_noted;
        }
        // Or a soft offline has just moved the page.
        if direct_map::quarantine(pfn) || !frame::is_ours(pfn) {
            break;
        }
        fsleep(Delta::from_millis(1));
    }
    false
}

/// Notes that the page of the anon in frame `pfn` has failed; `None` if there is none. False if it can't be handled now.
fn note(pfn: u64) -> Option<bool> {
    let anon = anon::lookup(pfn)?;
    {
        let mut content = anon.lock();
        if content.pfn() != pfn {
            return None;
        }
        // From here on the page stays in the frame.
        content.set_failed();
    }
    stats::MACHINE_CHECKS.inc();
    let is_noted = queue::note(&anon, pfn, Source::MachineCheck);
    if !is_noted {
        // The kernel marks it, by which it is found later.
        stats::MACHINE_CHECKS_POSTPONED.inc();
        pr_warn!("frame {pfn:#x} has failed; it is handled when others are\n");
    }
    Some(is_noted)
}
