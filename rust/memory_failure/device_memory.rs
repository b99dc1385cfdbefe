// SPDX-License-Identifier: GPL-2.0-only

//! Failures of the pool's device memory, as the kernel's own `memory_failure()` reports them.

use super::poison;
use crate::{
    anon,
    failure::{
        Failure,
        MfAction,
        Poison, //
        Source,
    },
    pool::{
        device_memory::DeviceMemory,
        quarantine, //
    }, //
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

/// Handles the failure of `nr_pages` frames from `pfn` on: the [`FailureHandler`](crate::pool::device_memory::FailureHandler).
/// Sleeps.
pub(crate) extern "C" fn memory_failure(
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
        MfAction::Required
    } else {
        MfAction::Optional
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
/// [`ENXIO`] if the frame holds nothing and its hardware has not really failed; those of [`poison`].
fn fail(pfn: u64, kind: Poison, action: MfAction) -> Result {
    let failure = Failure {
        kind,
        source: Source::DeviceMemory,
        action,
        pfn: Some(pfn),
        place: None,
    };
    if let Some(anon) = anon::lookup(pfn) {
        match poison(&anon, failure.clone()) {
            // A soft offline has just moved the page.
            Err(error) if error == ENXIO => (),
            result => return result,
        }
    }
    if kind == Poison::Simulated {
        // Nobody can tell.
        return Err(ENXIO);
    }
    if quarantine::set_hardware(pfn) {
        return Ok(());
    }
    take_out(pfn, failure)
}

/// Takes frame `pfn` of the pool, which holds nothing and is in use so far, out of use: it has failed.
///
/// # Errors
///
/// [`ENXIO`] if it is not of the pool; those of [`poison`], if it holds something now.
pub(super) fn take_out(pfn: u64, failure: Failure) -> Result {
    let pool = DeviceMemory::get().ok_or(ENXIO)?;
    let frame = pool.frame(pfn).ok_or(ENXIO)?;
    pool.mark(frame);
    quarantine::add(pfn, quarantine::Kind::Hardware);
    if pool.take(frame) {
        return Ok(());
    }
    // It is changing hands. Whoever has it finds the flag when making it an anon's or giving it up; or it
    // has become one before that was possible.
    anon::lookup(pfn).map_or(Ok(()), |anon| poison(&anon, failure))
}
