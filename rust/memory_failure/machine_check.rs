// SPDX-License-Identifier: GPL-2.0

//! The x86 machine checks.
//!
//! The kernel reports them to a chain of notifiers, in a worker: one for the machine checks of all. So
//! what fails in one of our pages is only noted there. The page gets the kernel's flag for bad pages, and
//! the machine check is marked as handled; the page is taken away a moment later, by the
//! [queue]. Everybody else's memory is left alone.
//!
//! Ours comes before the notifier that calls `memory_failure()`, which does not know our pages. It is the
//! flag by which that finds nothing left to do.
//!
//! A thread that was about to use the data (action required) is not known here: the kernel calls
//! `memory_failure()` on its behalf, often before us, and as that does not know the page, the thread gets a
//! SIGBUS without an address (`SI_KERNEL`). Its next access gets the right one, as everybody's.
//!
//! If the pool is [device memory](super::device_memory), `memory_failure()` does know its pages, and asks
//! us to handle them; so all is left to it.

use super::{
    queue,
    Door, //
};
use crate::{
    anon::{
        Anon,
        Poison, //
    },
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
// SAFETY: A shared reference gives access to nothing.
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
/// To be called by the decode chain only, and only as long as there is the [queue]. Sleeps, but waits for
/// no process.
unsafe extern "C" fn notify(
    _notifier: *mut bindings::notifier_block,
    _unused: c_ulong,
    data: *mut c_void,
) -> c_int {
    let mut pfn = 0;
    // SAFETY: The chain passes a `struct mce`; `pfn` is valid for writes.
    if unsafe { helpers::anon_rmap_mce_pfn(data, &mut pfn) } && note(pfn as u64).is_ok() {
        stats::MACHINE_CHECKS.inc();
        // SAFETY: The chain passes a `struct mce`.
        unsafe { helpers::anon_rmap_mce_handled(data) };
    }
    bindings::NOTIFY_DONE as c_int
}

/// Notes the failure of frame `pfn`, if it is one of ours.
///
/// # Errors
///
/// [`ENXIO`] if it is not, or the kernel will ask for it.
fn note(pfn: u64) -> Result {
    if DeviceMemory::get().is_some() {
        return Err(ENXIO);
    }
    let Some(anon) = frame::lookup(pfn) else {
        return condemn(pfn);
    };
    {
        let content = anon.lock();
        if content.pfn() != pfn {
            drop(content);
            // A soft offline has just moved the page.
            return condemn(pfn);
        }
        // From here on the page stays in the frame: what has the flag is not copied.
        // SAFETY: The page is the anon's.
        unsafe { helpers::anon_rmap_page_set_hwpoison(content.page().as_ptr()) };
    }
    if !queue::note(&anon, pfn, Door::MachineCheck) {
        stats::MACHINE_CHECKS_POSTPONED.inc();
        pr_warn!("frame {pfn:#x} has failed; it is handled when others are\n");
    }
    Ok(())
}

/// Handles the failure of frame `pfn` if a soft offline has put it aside: nothing is left to be done but to
/// remember it. [`ENXIO`] if none has.
fn condemn(pfn: u64) -> Result {
    if !frame::condemn(pfn) {
        return Err(ENXIO);
    }
    // SAFETY: The frame is put aside for good.
    unsafe { hide(pfn) };
    Ok(())
}

/// What is left to be done when the page of `anon` in frame `pfn` has been taken away because of a machine
/// check.
pub(super) fn finish(anon: &Anon, pfn: u64) {
    let is_gone = {
        let content = anon.lock();
        // If somebody else has poisoned the page he may still be unmapping it.
        content.pfn() == pfn
            && content.poison() == Some(Poison::Hardware)
            && content.mapcount() == 0
    };
    if is_gone {
        // SAFETY: The page is poisoned for good, and not mapped.
        unsafe { hide(pfn) };
    } else {
        // It may have left the frame.
        let _ = condemn(pfn);
    }
}

/// Takes the frame `pfn` out of the kernel's direct map, so that nothing reads it by speculation.
///
/// # Safety
///
/// Nobody may use the frame any more: the kernel can't read what is in it on anybody's behalf.
unsafe fn hide(pfn: u64) {
    // SAFETY: The caller promises that nobody uses the frame.
    unsafe { helpers::anon_rmap_set_mce_nospec(pfn as c_ulong) };
}
