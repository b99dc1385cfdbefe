// SPDX-License-Identifier: GPL-2.0

//! The amap ("anon map"): which anon a mapping holds at each index.
//!
//! The amap is the truth, page tables are a cache of it: an entry may be zapped at any time, and
//! the next fault installs it again. The rule that keeps the cache right, and that all of its users
//! rely on:
//!
//! > Under the amap's lock, the page table entry of an index that is not [blocked](Blocked) is empty
//! > or maps the anon that the amap holds there.
//!
//! So entries are installed under the lock, and whoever takes an anon out of the amap first blocks
//! the index, then zaps without the lock (the zap calls our own mmu notifier, which takes it), and
//! then changes the amap and ends the blocking in one critical section.

use crate::{
    anon::{
        Anon,
        Share, //
    },
    anon_vma::AnonVma,
    index::Index,
    interval_tree::Interval,
    radix_tree::{
        NodePool,
        RadixTree,
        Removed, //
    },
    stats, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    },
    task::Task, //
};

/// Whether writes go to a page of one's own or to everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Copy-on-write: `MAP_PRIVATE`.
    Private,
    /// One amap for all that inherit it: `MAP_SHARED`.
    Shared,
}

/// Names an amap for as long as the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmapId(i64);

/// Index ranges in which no page table entry may be installed, since a zap is under way.
///
/// A range that its own task is zapping is told from those that core mm zaps (`MADV_DONTNEED`) by
/// the task that it carries.
pub(crate) struct Blocked {
    ranges: [Option<(Interval, Option<*const Task>)>; Self::RANGES],
    /// Ranges that found no place; while there are any, everything is blocked.
    overflow: usize,
}

// SAFETY: The task pointers are compared, never followed.
unsafe impl Send for Blocked {}

impl Blocked {
    /// Zaps at one time in one amap before one blocks all; about the number of threads in a fault.
    const RANGES: usize = 16;

    const fn new() -> Self {
        Self {
            ranges: [None; Self::RANGES],
            overflow: 0,
        }
    }

    /// Whether `index` is blocked, other than by the current task itself.
    pub(crate) fn blocks(&self, index: Index) -> bool {
        let current = current_task();
        self.overflow > 0
            || self.ranges.iter().flatten().any(|(range, task)| {
                *task != Some(current) && range.contains(Interval::point(index.0))
            })
    }

    /// Blocks `range` because the current task is about to zap it. False if there is no place left:
    /// try again later.
    pub(crate) fn begin_own(&mut self, range: Interval) -> bool {
        self.place(range, Some(current_task()))
    }

    /// Ends what [`Self::begin_own`] began.
    pub(crate) fn end_own(&mut self, range: Interval) {
        self.remove(range, Some(current_task()));
    }

    /// Whether the current task itself is zapping `range`.
    pub(crate) fn is_own(&self, range: Interval) -> bool {
        let current = current_task();
        self.ranges
            .iter()
            .flatten()
            .any(|(own, task)| *task == Some(current) && own.contains(range))
    }

    /// Blocks `range` because core mm is about to zap it.
    pub(crate) fn begin(&mut self, range: Interval) {
        if !self.place(range, None) {
            self.overflow += 1;
        }
    }

    /// Ends what [`Self::begin`] began.
    pub(crate) fn end(&mut self, range: Interval) {
        if !self.remove(range, None) {
            self.overflow = self.overflow.saturating_sub(1);
        }
    }

    fn place(&mut self, range: Interval, task: Option<*const Task>) -> bool {
        match self.ranges.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some((range, task));
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, range: Interval, task: Option<*const Task>) -> bool {
        let entry = Some((range, task));
        match self.ranges.iter_mut().find(|place| **place == entry) {
            Some(place) => {
                *place = None;
                true
            }
            None => false,
        }
    }
}

fn current_task() -> *const Task {
    Task::current_raw().cast_const().cast()
}

/// What an amap's lock guards.
pub(crate) struct Slots {
    /// Which anon is where.
    pub(crate) anons: RadixTree<Share>,
    /// Where a zap is under way.
    pub(crate) blocked: Blocked,
    /// Set when pages could not be taken out for want of memory. What the amap holds can't be
    /// trusted from then on, so each access through it gets a SIGBUS.
    pub(crate) lost: bool,
}

/// Which anon a mapping holds at each index: one for each `mmap()` call and process.
///
/// Its lock comes after the mmap lock and before those of anons. The mmu notifier takes it, so
/// nothing may be allocated under it in a way that could reclaim.
#[pin_data(PinnedDrop)]
pub(crate) struct Amap {
    id: AmapId,
    sharing: Sharing,
    /// Pages that are created through this amap belong to this anon_vma.
    anon_vma: Arc<AnonVma>,
    #[pin]
    slots: Mutex<Slots>,
}

/// Evidence of an amap's lock.
pub(crate) type SlotsGuard<'a> = Guard<'a, Slots, MutexBackend>;

impl Amap {
    /// An empty amap; [`ENOMEM`].
    pub(crate) fn new(sharing: Sharing, anon_vma: Arc<AnonVma>) -> Result<Arc<Self>> {
        static NEXT_ID: Atomic<i64> = Atomic::new(0);

        let new = Arc::pin_init(
            pin_init!(Self {
                id: AmapId(NEXT_ID.fetch_add(1, Relaxed)),
                sharing,
                anon_vma,
                slots <- new_mutex!(
                    Slots {
                        anons: RadixTree::new(),
                        blocked: Blocked::new(),
                        lost: false,
                    },
                    "amap"
                ),
            }),
            GFP_KERNEL,
        )?;
        stats::AMAPS.inc();
        Ok(new)
    }

    /// The amap's name.
    pub(crate) fn id(&self) -> AmapId {
        self.id
    }

    /// Whether writes go to a page of one's own.
    pub(crate) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The anon_vma of new pages.
    pub(crate) fn anon_vma(&self) -> &Arc<AnonVma> {
        &self.anon_vma
    }

    /// The lock, to tie data outside the amap to it.
    pub(crate) fn slots(&self) -> &Mutex<Slots> {
        &self.slots
    }

    /// Locks the amap. Sleeps.
    pub(crate) fn lock(&self) -> SlotsGuard<'_> {
        self.slots.lock()
    }

    /// Takes everything in `range` out and returns it, to be dropped without the lock.
    ///
    /// Takes O(log n), and memory if the border of the range is shared with another amap.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing has changed then.
    pub(crate) fn remove_range(&self, range: Interval) -> Result<Removed<Share>> {
        let mut pool = NodePool::new();
        loop {
            let mut slots = self.lock();
            let needed = slots.anons.nodes_for_remove(range.start(), range.last());
            if pool.len() >= needed {
                return slots.remove_range(range, &mut pool);
            }
            drop(slots);
            pool.reserve(needed, GFP_KERNEL)?;
        }
    }

    /// Gives `to` a share of everything that `self` has in `range`, in which `to` has nothing.
    ///
    /// Takes O(log n) for the whole range and allocates only at its borders. On error, [`ENOMEM`],
    /// nothing has changed. The caller excludes faults and other changes in `range`, in both.
    pub(crate) fn share_range(&self, range: Interval, to: &Self) -> Result {
        let mut pool = NodePool::new();
        // Two amaps are never locked at the same time. Nobody looks for anything in the place that
        // the tree leaves for a moment: the caller excludes faults.
        let mut target = core::mem::take(&mut to.lock().anons);
        let result = loop {
            let source = self.lock();
            let needed = source
                .anons
                .nodes_for_share(range.start(), range.last(), &target);
            if pool.len() >= needed {
                break source
                    .anons
                    .share_range(range.start(), range.last(), &mut target, &mut pool)
                    .map_err(|_| ENOMEM);
            }
            drop(source);
            if let Err(error) = pool.reserve(needed, GFP_KERNEL) {
                break Err(error.into());
            }
        };
        to.lock().anons = target;
        result
    }

    /// Puts `anon` at its index, in place of what is there. [`ENOMEM`].
    pub(crate) fn insert(&self, anon: ARef<Anon>) -> Result {
        let index = anon.index().0;
        let mut share = Share::new(anon);
        let mut pool = NodePool::new();
        loop {
            let mut slots = self.lock();
            let needed = slots.anons.nodes_for_insert(index);
            share = match slots.anons.insert(index, share, &mut pool) {
                Ok(old) => {
                    drop(slots);
                    drop(old);
                    return Ok(());
                }
                Err(share) => share,
            };
            drop(slots);
            pool.reserve(needed, GFP_KERNEL)?;
        }
    }
}

impl Slots {
    /// Takes everything in `range` out, with the memory in `pool`; [`ENOMEM`] if that does not do.
    pub(crate) fn remove_range(
        &mut self,
        range: Interval,
        pool: &mut NodePool<Share>,
    ) -> Result<Removed<Share>> {
        self.anons
            .remove_range(range.start(), range.last(), pool)
            .map_err(|_| ENOMEM)
    }

    /// The anon at `index`.
    pub(crate) fn anon(&self, index: Index) -> Option<ARef<Anon>> {
        Some(self.anons.get(index.0)?.value.anon())
    }

    /// Whether the amap holds `anon` at the anon's index.
    pub(crate) fn holds(&self, anon: &Anon) -> bool {
        self.anons
            .get(anon.index().0)
            .is_some_and(|slot| slot.value.is(anon))
    }
}

#[pinned_drop]
impl PinnedDrop for Amap {
    fn drop(self: Pin<&mut Self>) {
        stats::AMAPS.dec();
    }
}
