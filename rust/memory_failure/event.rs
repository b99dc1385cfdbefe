// SPDX-License-Identifier: GPL-2.0

//! Trace events, in `events/anon_rmap/` of tracefs: what was done to a page, and who was hit.

use super::{
    kill::Victim,
    Door,
    Failure, //
};
use crate::{
    anon::Poison,
    helpers,
    index::Index,
    process,
    rmap::Place, //
};
use kernel::prelude::*;

/// What was done to a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Taken away, as a drill.
    Poison,
    /// Taken away for good.
    HwPoison,
    /// Given back.
    Unpoison,
    /// Moved to another frame.
    SoftOffline,
}

impl From<&Failure> for Action {
    fn from(failure: &Failure) -> Self {
        match failure.kind {
            Poison::Simulated => Self::Poison,
            Poison::Hardware => Self::HwPoison,
        }
    }
}

/// Traces that `action` was done to the page at `index` in frame `pfn`, through `door`.
pub(crate) fn action(pfn: u64, index: Index, action: Action, door: Door) {
    let action = match action {
        Action::Poison => c"poison",
        Action::HwPoison => c"hwpoison",
        Action::Unpoison => c"unpoison",
        Action::SoftOffline => c"soft_offline",
    };
    // SAFETY: The strings are C strings.
    unsafe {
        helpers::anon_rmap_trace_action(
            pfn as usize,
            index.0,
            action.as_char_ptr(),
            door.name().as_char_ptr(),
        )
    };
}

/// Traces that the page in frame `pfn`, which has failed, was held at `place`, and who is signalled
/// at once. Trace events tell numbers of the initial pid namespace.
pub(crate) fn hit(pfn: u64, place: &Place, victim: Option<&Victim>) {
    let pid = place.process.as_ref().map_or(0, process::Id::global_number);
    let (tid, signal) = victim.map_or((0, c"none"), |victim| (victim.tid(), victim.code().name()));
    // SAFETY: The string is a C string.
    unsafe {
        helpers::anon_rmap_trace_hit(pfn as usize, pid, place.address, tid, signal.as_char_ptr())
    };
}
