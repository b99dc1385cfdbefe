// SPDX-License-Identifier: GPL-2.0-only

//! Failures of our pages that the kernel's own `memory_failure()` has met: `MADV_HWPOISON`, `hard_offline_page`, `corrupt-pfn`, and
//! machine checks in which somebody was about to use the data.
//!
//! It does not know pages of drivers in system RAM: it marks the page as bad, counts it and can do no more. But it says so by its trace
//! event, `ras:memory_failure_event`, and by that we know to take the page away; a moment later, by the [queue]. Until then faults refuse
//! what is marked.

use super::{
    direct_map,
    queue, //
};
use crate::{
    anon::{
        self,
        Anon,
        Owner, //
    },
    failure::Source,
    helpers,
    loading::Loading,
    page::OwnedPage,
    pool::{
        device_memory::DeviceMemory,
        quarantine,
        reported, //
    },
    stats, //
};
use kernel::{
    ffi::c_ulong,
    prelude::*,
    sync::aref::ARef, //
};

/// Being told of them, from when it is made until it is dropped.
pub(crate) struct Watch(());

impl Watch {
    /// Begins. In a kernel without that event nobody is told. Errors as those of [`Loading::once`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.once(&PROBE)?;
        // SAFETY: This is the only call; the function may be called with any number.
        unsafe { helpers::anon_rmap_watch_failures(Some(PROBE)) };
        Ok(Self(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Undoes what `new` has done. Waits for calls that are under way.
        unsafe { helpers::anon_rmap_unwatch_failures() };
    }
}

/// What the kernel calls.
static PROBE: extern "C" fn(c_ulong, bool) = failed;

/// The kernel has marked frame `pfn` as bad, or again what was marked.
extern "C" fn failed(pfn: c_ulong, again: bool) {
    // It asks us for the pages of the pool.
    if DeviceMemory::get().is_some() {
        return;
    }
    let pfn = pfn as u64;
    let is_hardware = reported::has(pfn);
    if again {
        // What was marked before is being handled already, but perhaps as a drill.
        if is_hardware {
            match anon::lookup(pfn) {
                Some(anon) => hardware_failed(anon, pfn, None),
                None => _ = direct_map::quarantine(pfn),
            }
        }
        return;
    }
    // The reference is there before `unpoison_memory()` can look at the page: we are called under its lock.
    match anon::lookup_marked(pfn) {
        Some(Owner::Anon(anon, guard)) if is_hardware => hardware_failed(anon, pfn, guard),
        Some(Owner::Anon(anon, guard)) => {
            let _ = queue::note_marked(anon, pfn, Source::MemoryFailure, guard);
        }
        Some(Owner::GoingAnon) => (),
        None => {
            if is_hardware {
                direct_map::quarantine(pfn);
            }
            quarantine::claim(pfn);
        }
    }
}

/// The kernel has marked frame `pfn`, in which `anon` is, since the hardware has failed; `guard` is a reference for the mark.
fn hardware_failed(anon: ARef<Anon>, pfn: u64, guard: Option<OwnedPage>) {
    stats::MACHINE_CHECKS.inc();
    if !queue::note_marked(anon, pfn, Source::MachineCheck, guard) {
        stats::MACHINE_CHECKS_POSTPONED.inc();
    }
}
