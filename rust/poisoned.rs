// SPDX-License-Identifier: GPL-2.0-only

//! Which pages are poisoned, for the debugfs file `poisoned`.

use crate::{
    failure::{
        Failure,
        Place, //
    },
    index::Index,
    inline_vec::InlineVec,
    loading::Loading,
    stats, //
};
use core::mem;
use kernel::{
    bindings,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        global_lock, //
    }, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static POISONED: Mutex<Option<RBTree<u64, Record>>> = None;
}

/// Makes the list usable. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&POISONED)
}

/// One poisoned page.
pub(crate) struct Record {
    pub(crate) index: Index,
    pub(crate) failure: Failure,
    /// The number of the failure, by which it is known from others of the page.
    number: u64,
    /// When it was poisoned, in nanoseconds since boot.
    pub(crate) since: u64,
    /// How many processes held the page when it was poisoned.
    pub(crate) hit: u64,
    /// These, but no more than [`MAX_HOLDERS`].
    pub(crate) holders: InlineVec<Place>,
}

/// Holders that are named for one page; all are counted.
const MAX_HOLDERS: usize = 4096;

impl Record {
    /// A place at which the page can be named again: where the source has named it, else that of a holder. One that the current
    /// task can name and that still has memory, if there is one.
    pub(crate) fn place(&self) -> Option<&Place> {
        let named = self.failure.place.as_ref();
        let first = named.or(self.holders.first());
        let is_usable = |place: &&Place| place.is_usable();
        let usable = || self.holders.iter().find(is_usable);
        named.filter(is_usable).or_else(usable).or(first)
    }
}

/// A record that can be [inserted](insert) without failing.
pub(crate) struct RecordReservation {
    node: RBTreeNodeReservation<u64, Record>,
    record: Record,
}

impl RecordReservation {
    /// Reserves a record of a page that fails so; [`ENOMEM`].
    pub(crate) fn new(failure: Failure) -> Result<Self> {
        static FAILURES: Atomic<u64> = Atomic::new(0);

        Ok(Self {
            node: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
            record: Record {
                index: Index(0),
                failure,
                number: FAILURES.fetch_add(1, Relaxed) + 1,
                since: 0,
                hit: 0,
                holders: InlineVec::new(),
            },
        })
    }
}

impl RecordReservation {
    /// How the page fails.
    pub(crate) fn failure(&self) -> &Failure {
        &self.record.failure
    }

    /// The number that the failure will have: greater than zero, and that of no other.
    pub(crate) fn number(&self) -> u64 {
        self.record.number
    }
}

/// A record that was [removed](remove), to be dropped without locks.
pub(crate) struct RemovedRecord {
    _node: RBTreeNode<u64, Record>,
}

/// Records that the page in frame `pfn`, at `index`, is poisoned now; what was recorded of a drill on it is dropped. The
/// caller holds the lock of its anon.
pub(crate) fn insert(pfn: u64, index: Index, reservation: RecordReservation) {
    let RecordReservation { node, mut record } = reservation;
    record.index = index;
    // SAFETY: No requirements.
    record.since = unsafe { bindings::ktime_get_mono_fast_ns() };
    let node = node.into_node(pfn, record);
    let old = POISONED.lock().get_or_insert_with(RBTree::new).insert(node);
    if old.is_none() {
        stats::POISONED.inc();
    }
}

/// Records that the page in frame `pfn`, if it still is poisoned by the failure of this [number](RecordReservation::number), was held at
/// `place`. If there is no memory, it is only counted. O(log n), and now and then the holders recorded before. The caller must hold no
/// lock.
pub(crate) fn add_holder(pfn: u64, number: u64, place: Place) {
    let mut room: InlineVec<Place> = InlineVec::new();
    loop {
        let mut poisoned = POISONED.lock();
        let Some(record) = record_of(&mut poisoned, pfn, number) else {
            return;
        };
        let len = record.holders.len();
        if len == record.holders.capacity() && room.capacity() > len {
            for holder in record.holders.drain_all() {
                // There is room: checked above.
                let _ = room.push_within_capacity(holder);
            }
            mem::swap(&mut room, &mut record.holders);
        }
        let has_room = len < record.holders.capacity();
        if has_room || len >= MAX_HOLDERS {
            record.hit += 1;
            if has_room && len < MAX_HOLDERS {
                let _ = record.holders.push_within_capacity(place);
            }
            return;
        }
        drop(poisoned);
        let more = (2 * len).max(8);
        let Ok(more) = InlineVec::with_capacity(more, GFP_KERNEL_ACCOUNT | __GFP_NOWARN) else {
            return count_holder(pfn, number);
        };
        room = more;
    }
}

fn record_of(
    poisoned: &mut Option<RBTree<u64, Record>>,
    pfn: u64,
    number: u64,
) -> Option<&mut Record> {
    let record = poisoned.as_mut()?.get_mut(&pfn)?;
    (record.number == number).then_some(record)
}

/// Counts a holder that could not be recorded.
fn count_holder(pfn: u64, number: u64) {
    if let Some(record) = record_of(&mut POISONED.lock(), pfn, number) {
        record.hit += 1;
    }
}

/// Forgets that the page in frame `pfn` is poisoned. The caller holds the lock of its anon.
pub(crate) fn remove(pfn: u64) -> Option<RemovedRecord> {
    let node = POISONED.lock().as_mut()?.remove_node(&pfn)?;
    stats::POISONED.dec();
    Some(RemovedRecord { _node: node })
}

/// The first poisoned page in frame `pfn` or a later one: its frame. O(log n).
pub(crate) fn first_from(pfn: u64) -> Option<u64> {
    let poisoned = POISONED.lock();
    let cursor = poisoned.as_ref()?.cursor_lower_bound(&pfn)?;
    Some(*cursor.current().0)
}

/// What `f` makes of the record of the page in frame `pfn`, under a lock; `None` if it is not poisoned any more.
pub(crate) fn with<R>(pfn: u64, f: impl FnOnce(&Record) -> R) -> Option<R> {
    let poisoned = POISONED.lock();
    Some(f(poisoned.as_ref()?.get(&pfn)?))
}
