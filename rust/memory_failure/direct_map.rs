// SPDX-License-Identifier: GPL-2.0-only

//! Frames with a machine check, which nobody uses any more, leave the kernel's direct map: so nothing reads them by speculation.

use crate::{
    anon::Anon,
    failure::Poison,
    helpers,
    pool::quarantine,
    stats, //
};
use kernel::ffi::c_ulong;

/// Handles the failure of frame `pfn` if it is out of use: nothing is left to be done but to remember it, and the kernel finds it marked.
pub(super) fn quarantine(pfn: u64) {
    if quarantine::set_hardware(pfn) {
        stats::MACHINE_CHECKS.inc();
        // SAFETY: The frame is out of use for good.
        unsafe { helpers::anon_rmap_set_mce_nospec(pfn as c_ulong) };
    }
}

/// What is left to be done when the page of `anon` in frame `pfn` has been taken away because of a machine
/// check.
pub(super) fn finish(anon: &Anon, pfn: u64) {
    let is_gone = {
        let content = anon.lock();
        // If somebody else has poisoned the page, it may still be being unmapped.
        content.pfn() == pfn
            && content.poison() == Some(Poison::Hardware)
            && content.mapcount() == 0
    };
    if is_gone {
        // SAFETY: The page is poisoned for good, and not mapped.
        unsafe { helpers::anon_rmap_set_mce_nospec(pfn as c_ulong) };
    } else {
        // It may have left the frame.
        quarantine(pfn);
    }
}
