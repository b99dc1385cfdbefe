// SPDX-License-Identifier: GPL-2.0

//! The x86 machine checks.
//!
//! The kernel reports them to a chain of notifiers, in a worker. Ours comes before the one that calls
//! `memory_failure()`, which does not know our pages. What fails in one of them is handled here, and
//! marked as handled; the page has the kernel's flag for bad pages then, so that `memory_failure()` finds
//! nothing left to do. Everybody else's memory is left alone.
//!
//! A thread that was about to use the data (action required) is not known here: the kernel calls
//! `memory_failure()` on its behalf, often before us, and as that does not know the page, the thread gets a
//! SIGBUS without an address (`SI_KERNEL`). Its next access gets the right one, as everybody's.
//!
//! If the pool is [device memory](super::device_memory), `memory_failure()` does know its pages, and asks
//! us to handle them; so all is left to it.

use super::{
    poison,
    Action,
    Door,
    Failure, //
};
use crate::{
    anon::Poison,
    frame,
    helpers,
    pool::device_memory::DeviceMemory,
    stats, //
};
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};

/// The registration of our notifier.
#[pin_data(PinnedDrop)]
pub(crate) struct MachineCheck {
    #[pin]
    notifier: Opaque<bindings::notifier_block>,
}

// SAFETY: The chain locks what it changes.
unsafe impl Send for MachineCheck {}
// SAFETY: As above.
unsafe impl Sync for MachineCheck {}

impl MachineCheck {
    /// Registers the notifier.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            notifier <- Opaque::ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: The slot is valid for writes, and stays where it is until it is
                // unregistered in `drop`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(notify),
                        ..pin_init::zeroed()
                    });
                    helpers::anon_rmap_mce_register(slot);
                }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for MachineCheck {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered in `new`. Waits for calls that are under way.
        unsafe { helpers::anon_rmap_mce_unregister(self.notifier.get()) };
    }
}

/// # Safety
///
/// To be called by the decode chain only. Sleeps.
unsafe extern "C" fn notify(
    _notifier: *mut bindings::notifier_block,
    _unused: c_ulong,
    data: *mut c_void,
) -> c_int {
    let mut pfn = 0;
    // SAFETY: The chain passes a `struct mce`; `pfn` is valid for writes.
    if unsafe { helpers::anon_rmap_mce_pfn(data, &mut pfn) } && fail(pfn).is_ok() {
        // SAFETY: As above; nobody uses the page in the frame any more.
        unsafe {
            helpers::anon_rmap_set_mce_nospec(pfn);
            helpers::anon_rmap_mce_handled(data);
        }
    }
    bindings::NOTIFY_DONE as c_int
}

/// Handles the failure of frame `pfn`, if it is one of ours.
///
/// # Errors
///
/// [`ENXIO`] if it is not, or the kernel will ask for it; those of [`poison`].
fn fail(pfn: c_ulong) -> Result {
    if DeviceMemory::get().is_some() {
        return Err(ENXIO);
    }
    let pfn = pfn as u64;
    let Some(anon) = frame::lookup(pfn) else {
        fail_aside(pfn)?;
        stats::MACHINE_CHECKS.inc();
        return Ok(());
    };
    stats::MACHINE_CHECKS.inc();
    let failure = Failure {
        kind: Poison::Hardware,
        door: Door::MachineCheck,
        action: Action::Optional,
        pfn: Some(pfn),
        place: None,
    };
    match poison(&anon, failure) {
        // Handled before.
        Err(error) if error == EHWPOISON => Ok(()),
        // A soft offline has just moved the page.
        Err(error) if error == ENXIO => fail_aside(pfn),
        result => result,
    }
}

/// Handles the failure of frame `pfn` if a soft offline has put it aside: nothing is left to be done but to
/// remember it. [`ENXIO`] if none has.
fn fail_aside(pfn: u64) -> Result {
    frame::condemn(pfn).then_some(()).ok_or(ENXIO)
}
