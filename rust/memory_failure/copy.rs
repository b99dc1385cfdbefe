// SPDX-License-Identifier: GPL-2.0-only

//! Pages that turn out to be bad while they are copied.
//!
//! Such a page is taken away from all who use it like any other that the hardware has failed under.
//! Who copies a page is in a fault, or in fork, and is not kept waiting for that: it is left to the
//! [queue].

use super::queue;
use crate::{
    anon::Anon,
    failure::Source, //
};
use kernel::sync::aref::ARef;

/// Handles the failure of the page of `anon` in frame `pfn`, which could not be copied, soon.
///
/// If too many failures are to be handled, the next copy tries again. Does not sleep.
pub(crate) fn failed(anon: ARef<Anon>, pfn: u64) {
    let _ = queue::note(&anon, pfn, Source::Copy);
}
