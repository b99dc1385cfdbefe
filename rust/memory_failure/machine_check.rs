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
    },
    types::Opaque, //
};

/// The registration of our notifiers, and of that for what firmware reports.
#[pin_data]
pub(crate) struct MachineCheck {
    #[pin]
    reports: Reports,
    #[pin]
    before: Notifier,
    #[pin]
    after: Notifier,
}

impl MachineCheck {
    /// Registers the notifiers.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            reports <- Reports::new(),
            before <- Notifier::new(notify, true),
            after <- Notifier::new(restore, false),
        })
    }
}

/// What the chain calls, with what it passes: its notifier, a number that is not used, and a `struct mce` or null.
type Callback = unsafe extern "C" fn(*mut notifier_block, c_ulong, *mut c_void) -> c_int;

/// A notifier in the chain.
///
/// # Invariants
///
/// It is in the chain until it is dropped.
#[pin_data(PinnedDrop)]
struct Notifier {
    #[pin]
    block: Opaque<notifier_block>,
}

// SAFETY: A notifier belongs to no task.
unsafe impl Send for Notifier {}
// SAFETY: A shared reference gives access to nothing; the chain locks what it changes.
unsafe impl Sync for Notifier {}

impl Notifier {
    /// Has the chain call `callback`, before or after the kernel's own handler.
    fn new(callback: Callback, before: bool) -> impl PinInit<Self> {
        // INVARIANT: It is registered.
        pin_init!(Self {
            block <- Opaque::ffi_init(move |slot: *mut notifier_block| {
                let block = notifier_block {
                    notifier_call: Some(callback),
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(block) };
                // SAFETY: It stays where it is until it is unregistered in `drop`.
                unsafe { helpers::anon_rmap_mce_register(slot, before) };
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Notifier {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is registered. Waits for calls that are under way.
        unsafe { helpers::anon_rmap_mce_unregister(self.block.get()) };
    }
}

/// # Safety
///
/// To be called by the decode chain only.
unsafe extern "C" fn restore(_: *mut notifier_block, _: c_ulong, mce: *mut c_void) -> c_int {
    // SAFETY: The chain passes a `struct mce`.
    unsafe { helpers::anon_rmap_mce_restore(mce) };
    bindings::NOTIFY_DONE as c_int
}

/// # Safety
///
/// To be called by the decode chain only. Sleeps, but waits for no process.
unsafe extern "C" fn notify(_: *mut notifier_block, _: c_ulong, mce: *mut c_void) -> c_int {
    let mut pfn = 0;
    // SAFETY: The chain passes a `struct mce`; `pfn` is valid for writes.
    if unsafe { helpers::anon_rmap_mce_pfn(mce, &mut pfn) } && is_ours(pfn as u64) {
        // SAFETY: The chain passes a `struct mce`.
        unsafe { helpers::anon_rmap_mce_take(mce) };
    }
    bindings::NOTIFY_DONE as c_int
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
