// SPDX-License-Identifier: GPL-2.0-only

//! What was done to a page, and who was hit: for the trace, in `events/anon_rmap/` of tracefs, and for the [journal].

use super::{
    journal,
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
    /// Poisoned, as a drill in which it is kept.
    Keep,
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
            Poison::Kept => Self::Keep,
            Poison::Hardware => Self::HwPoison,
        }
    }
}

impl Action {
    /// What the trace and the journal call it.
    pub(super) fn name(self) -> &'static CStr {
        match self {
            Self::Poison => c"poison",
            Self::Keep => c"keep",
            Self::HwPoison => c"hwpoison",
            Self::Unpoison => c"unpoison",
            Self::SoftOffline => c"soft_offline",
        }
    }
}

/// Traces and records that `action` was done to the page at `index` in frame `pfn`, through `door`. Does not sleep.
pub(crate) fn action(pfn: u64, index: Index, action: Action, door: Door) {
    journal::record(
        pfn,
        journal::Event::Action {
            index,
            action,
            door,
        },
    );
    // SAFETY: The strings are C strings.
    unsafe {
        helpers::anon_rmap_trace_action(
            pfn as usize,
            index.0,
            action.name().as_char_ptr(),
            door.name().as_char_ptr(),
        )
    };
}

/// Traces and records that the page in frame `pfn`, which has failed, was held at `place`, and who is signalled
/// at once. Trace events tell numbers of the initial pid namespace. Does not sleep.
pub(crate) fn hit(pfn: u64, place: &Place, victim: Option<&Victim>) {
    let signal = victim.and_then(|victim| Some((victim.thread()?, victim.code())));
    journal::record(
        pfn,
        journal::Event::Hit {
            place: place.clone(),
            signal,
        },
    );
    let pid = place.process.as_ref().map_or(0, process::Id::global_number);
    let (tid, signal) = victim.map_or((0, c"none"), |victim| (victim.tid(), victim.code().name()));
    // SAFETY: The string is a C string.
    unsafe {
        helpers::anon_rmap_trace_hit(pfn as usize, pid, place.address, tid, signal.as_char_ptr())
    };
}
