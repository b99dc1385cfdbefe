// SPDX-License-Identifier: GPL-2.0-only

//! What was done to a page, and who was hit: for the trace, in `events/anon_rmap/` of tracefs, and for the [journal].

use super::{
    journal::{
        self,
        PageEvent, //
    },
    kill::Victim, //
};
use crate::{
    failure::{
        Place, //
        Source,
    },
    helpers,
    index::Index,
    process, //
};
use kernel::prelude::*;

/// Traces and records that `action` was done to the page at `index` in frame `pfn`, from `source`. Does not sleep.
pub(crate) fn action(pfn: u64, index: Index, action: PageEvent, source: Source) {
    journal::record(
        pfn,
        journal::Event::Page {
            index,
            action,
            source,
        },
    );
    let (action, source) = (action.name().as_char_ptr(), source.name().as_char_ptr());
    // SAFETY: The strings are C strings.
    unsafe { helpers::anon_rmap_trace_action(pfn as usize, index.0, action, source) };
}

/// Traces and records that the frame `pfn`, which was out of use, is used again, by `source`. Does not sleep.
pub(crate) fn release(pfn: u64, source: Source) {
    journal::record(pfn, journal::Event::Release { source });
    // SAFETY: The string is a C string.
    unsafe { helpers::anon_rmap_trace_release(pfn as usize, source.name().as_char_ptr()) };
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
    let (pfn, signal) = (pfn as usize, signal.as_char_ptr());
    // SAFETY: The string is a C string.
    unsafe { helpers::anon_rmap_trace_hit(pfn, pid, place.address, tid, signal) };
}
