// SPDX-License-Identifier: GPL-2.0-only

//! What the administrator has told Linux to do about memory failures, by sysctl.
//!
//! No function tells modules of it. So the files are read, in the file system of the system's first process.
//! Reading sleeps.

use crate::helpers;

/// Who is told of a failure at once, and has not chosen by `prctl(PR_MCE_KILL)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyKill {
    /// Nobody.
    Off,
    /// Who holds the page.
    On,
}

/// `vm.memory_failure_early_kill`; [`EarlyKill::Off`] if it can't be read.
pub(crate) fn early_kill() -> EarlyKill {
    // SAFETY: The caller may sleep.
    if unsafe { helpers::anon_rmap_early_kill() } {
        EarlyKill::On
    } else {
        EarlyKill::Off
    }
}

/// Whether frames may be taken offline: `vm.enable_soft_offline`; and not if a failure is to panic
/// (`vm.memory_failure_recovery`), as to `memory_failure()` that is one. What can't be read allows it.
pub(crate) fn allows_offline() -> bool {
    // SAFETY: The caller may sleep.
    unsafe { helpers::anon_rmap_may_take_offline() }
}
