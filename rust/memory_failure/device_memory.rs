// SPDX-License-Identifier: GPL-2.0

//! Failures of the pool's device memory, as the kernel's own `memory_failure()` reports them.

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
    error::from_result,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};

/// Handles the failure of `nr_pages` frames from `pfn` on.
///
/// # Safety
///
/// To be called by core mm only, as `dev_pagemap_ops.memory_failure`. Sleeps.
pub(crate) unsafe extern "C" fn memory_failure(
    _pgmap: *mut bindings::dev_pagemap,
    pfn: c_ulong,
    nr_pages: c_ulong,
    flags: c_int,
) -> c_int {
    let has = |flag| flags as u32 & flag != 0;
    let kind = if has(bindings::mf_flags_MF_SW_SIMULATED) {
        Poison::Simulated
    } else {
        Poison::Hardware
    };
    let action = if has(bindings::mf_flags_MF_ACTION_REQUIRED) {
        Action::Required
    } else {
        Action::Optional
    };
    let pfn = pfn as u64;
    let mut result = Ok(0);
    for pfn in pfn..pfn + nr_pages as u64 {
        // All of them, whatever becomes of one.
        if let Err(error) = fail(pfn, kind, action) {
            result = Err(error);
        }
    }
    from_result(|| result)
}

/// Handles the failure of frame `pfn`.
///
/// # Errors
///
/// [`EBUSY`] if the frame is changing hands; those of [`poison`].
fn fail(pfn: u64, kind: Poison, action: Action) -> Result {
    match frame::lookup(pfn) {
        Some(anon) => poison(
            &anon,
            Failure {
                kind,
                door: Door::DeviceMemory,
                action,
                pfn: Some(pfn),
                place: None,
            },
        ),
        None => fail_free(pfn, kind),
    }
}

/// Takes frame `pfn`, which holds nothing, out of use if its hardware has failed.
fn fail_free(pfn: u64, kind: Poison) -> Result {
    let pool = DeviceMemory::get().ok_or(ENXIO)?;
    let page = pool.page(pfn).ok_or(ENXIO)?;
    if kind == Poison::Simulated {
        // Nobody can tell.
        return Err(ENXIO);
    }
    if frame::condemn(pfn) {
        return Ok(());
    }
    let free = pool.take(page);
    // SAFETY: The page is one of the pool's.
    unsafe { helpers::anon_rmap_page_set_hwpoison(page.as_ptr()) };
    if free {
        stats::QUARANTINED.inc();
        Ok(())
    } else {
        // Whoever has it gives it up and finds the flag then.
        Err(EBUSY)
    }
}
