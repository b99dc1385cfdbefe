// SPDX-License-Identifier: GPL-2.0-only

//! Frames with a machine check, which nobody uses any more, leave the kernel's direct map: so nothing reads them by speculation. On arm64
//! they stay there, as the kernel exports nothing that would take them out.

use crate::{
    anon::Anon,
    failure::Poison,
    pool::quarantine,
    stats, //
};

/// Handles the failure of frame `pfn` if it is out of use, or no anon's just now: nothing is left to be done but to remember it, and the
/// kernel marks it or finds it marked. A pipe may go on to read what is in it. False if it is neither.
pub(super) fn quarantine(pfn: u64) -> bool {
    let is_known = quarantine::set_hardware(pfn);
    if is_known {
        stats::MACHINE_CHECKS.inc();
        withdraw(pfn);
    }
    is_known
}

/// Withdraws frame `pfn`, under which the hardware has failed, if it is out of use, and nobody uses what is in it.
pub(super) fn withdraw(pfn: u64) {
    if quarantine::is_unused(pfn) {
        remove(pfn);
    }
}

/// What is left to be done when the page of `anon` in frame `pfn` has been taken away because of a machine
/// check.
pub(super) fn finish(anon: &Anon, pfn: u64) {
    let (is_here, is_unused);
    {
        let content = anon.lock();
        is_here = content.pfn() == pfn;
        // If somebody else has poisoned the page, it may still be being unmapped. Besides the anon's reference there are those of the
        // mark: else a pipe may have the page, and somebody go on to read it.
        is_unused = content.poison() == Some(Poison::Hardware)
            && content.mapcount() == 0
            && content.page().count() <= 1 + content.page().marks_references();
    }
    if !is_here {
        // A soft offline has moved the page.
        quarantine(pfn);
    } else if is_unused {
        remove(pfn);
    }
}

/// Takes frame `pfn`, which has failed for good and which nobody uses, out of the direct map.
#[cfg(CONFIG_X86)]
fn remove(pfn: u64) {
    // SAFETY: Any number is allowed, and nobody reads or writes the frame by the direct map.
    unsafe { crate::helpers::anon_rmap_set_mce_nospec(pfn as usize) };
}

#[cfg(not(CONFIG_X86))]
fn remove(_pfn: u64) {}
