// SPDX-License-Identifier: GPL-2.0

//! placeholder

use kernel::{
    pr_err_once,
    prelude::*, //
};

/// Says loudly that core mm has done what the driver does not expect of it.
#[cold]
pub(crate) fn broken(what: &CStr) {
    let _ = what;
    pr_err_once!("BUG: core mm breaks the driver's contract\n");
}
