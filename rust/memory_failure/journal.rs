// SPDX-License-Identifier: GPL-2.0-only

//! The journal of what was done to pages and who was hit, for the debugfs file `events`.
//!
//! It has the last [`RECORDS`] records. Each has a number, by which a reader goes on, and sees how many were overwritten
//! unread. A record keeps the names of processes, so it outlives them.

use super::kill::Code;
use crate::{
    failure::{
        Place,
        Poison, //
        Source,
    },
    helpers,
    index::Index,
    loading::Loading,
    process, //
};
use core::mem;
use kernel::{
    bindings,
    prelude::*,
    sync::global_lock, //
};

/// The records that are kept.
pub(crate) const RECORDS: usize = 1024;

/// What was done to a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageEvent {
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

impl From<Poison> for PageEvent {
    fn from(kind: Poison) -> Self {
        match kind {
            Poison::Simulated => Self::Poison,
            Poison::Kept => Self::Keep,
            Poison::Hardware => Self::HwPoison,
        }
    }
}

impl PageEvent {
    /// What the trace and the journal call it.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::Poison => c"poison",
            Self::Keep => c"keep",
            Self::HwPoison => c"hwpoison",
            Self::Unpoison => c"unpoison",
            Self::SoftOffline => c"soft_offline",
        }
    }
}

/// What a record is about.
#[derive(Clone)]
pub(crate) enum Event {
    /// Something was done to the page at `index` in the frame.
    Page {
        index: Index,
        action: PageEvent,
        source: Source,
    },
    /// The frame, which was out of use, is used again.
    Release { source: Source },
    /// A process held the page, which has failed; the thread that is signalled at once, and how.
    Hit {
        place: Place,
        signal: Option<(process::Id, Code)>,
    },
}

/// One record.
#[derive(Clone)]
pub(crate) struct Record {
    /// In nanoseconds since boot.
    pub(crate) time: u64,
    pub(crate) pfn: u64,
    pub(crate) event: Event,
}

/// # Invariants
///
/// Record `n`, of those that are kept, is in place `n % RECORDS`; there are places for all, or none.
struct Ring {
    places: KVVec<Option<Record>>,
    /// How many records there have been.
    next: u64,
}

global_lock! {
    // SAFETY: Initialised by `Journal::new`, before anything is recorded.
    unsafe(uninit) static RING: SpinLock<Ring> = Ring { places: KVVec::new(), next: 0 };
}

/// The journal, from when the module is loaded until it is unloaded.
pub(crate) struct Journal(());

impl Journal {
    /// Begins one; [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.init(&RING)?;
        let mut places = KVVec::with_capacity(RECORDS, GFP_KERNEL)?;
        for _ in 0..RECORDS {
            places.push(None, GFP_KERNEL)?;
        }
        // INVARIANT: There is no record, and a place for each.
        RING.lock().places = places;
        Ok(Self(()))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // INVARIANT: There are no places.
        let places = mem::replace(&mut RING.lock().places, KVVec::new());
        drop(places);
    }
}

/// Records `event` about the page in frame `pfn`. Does not sleep.
pub(super) fn record(pfn: u64, event: Event) {
    let old = {
        let mut ring = RING.lock();
        // SAFETY: No requirements.
        let time = unsafe { bindings::ktime_get_mono_fast_ns() };
        let record = Record { time, pfn, event };
        let place = (ring.next % RECORDS as u64) as usize;
        let Some(place) = ring.places.get_mut(place) else {
            return;
        };
        let old = place.replace(record);
        ring.next += 1;
        old
    };
    drop(old);
    // SAFETY: No requirements.
    unsafe { helpers::anon_rmap_journal_wake() };
}

/// Whether there is a record of number `from` or later.
pub(crate) fn has(from: u64) -> bool {
    RING.lock().next > from
}

/// The first record of number `from` or later that is kept, with its number.
pub(crate) fn first_from(from: u64) -> Option<(u64, Record)> {
    let ring = RING.lock();
    let number = from.max(ring.next.saturating_sub(RECORDS as u64));
    let place = ring.places.get((number % RECORDS as u64) as usize)?;
    let record = place.as_ref().filter(|_| number < ring.next)?;
    Some((number, record.clone()))
}
