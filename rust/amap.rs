// SPDX-License-Identifier: GPL-2.0-only

//! The amap ("anon map"): which anon a mapping holds at each index.
//!
//! The amap is the truth, page tables are a cache of it: an entry may be zapped at any time, and
//! the next fault installs it again. The rule that keeps the cache right, and that all of its users
//! rely on:
//!
//! > Under the amap's lock, the page table entry of an index is empty or maps the anon that the amap holds
//! > there, unless core mm is [clearing](crate::vma::clearings) the entry, or a fault is
//! > [replacing](Replacing) the anon, or mremap is moving the entries of the VMA.
//!
//! So entries are installed under the lock, and whoever takes an anon out of the amap first says that it does, then zaps
//! without the lock (the zap calls our own mmu notifier, which takes it), and then changes the amap and takes its word
//! back in one critical section.

use crate::{
    anon::{
        share::Share,
        Anon, //
    },
    anon_vma::{
        family::Sharing,
        rmap_vma::{
            Holdings,
            PageId, //
        },
        AnonVma, //
    },
    helpers,
    index::Index,
    index::Indices,
    radix_tree::{
        NodeReservation,
        RadixTree,
        RemovedRange, //
    },
    stats, //
};
use discards::Discards;
use kernel::{
    alloc::Flags,
    mm::Mm,
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
};
use replacing::Replacing;

mod discards;
pub(crate) mod replacing;

/// Names an amap for as long as the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmapId(i64);

/// What an amap's lock guards.
pub(crate) struct Slots {
    /// Which anon is where.
    pub(crate) anons: RadixTree<Share>,
    /// What a fault is replacing, or a failure in advance (`Spot::with_page`).
    pub(crate) replacing: Replacing,
    /// What is still to be taken out: nothing may be mapped until that is done, see [`Amap::finish_discards`].
    pub(crate) discards: Discards,
    /// Set when there was no place for more of these. What the amap holds can't be trusted from then on, so
    /// each access through it gets a SIGBUS.
    pub(crate) lost: bool,
    /// How often something was taken out: a VMA can have become linked for nothing.
    pub(crate) taken_out: u64,
    /// Whether zeroes that all share may be mapped where there is no anon: they have been, by a fault.
    pub(crate) has_mapped_zeroes: bool,
    /// What is written next if memory is written in order, once something has been.
    pub(crate) next_write: Option<Index>,
    /// Whether what was taken out, as core mm has cleared it, can still be in a TLB, see [`Self::is_unflushed`].
    unflushed: bool,
}

impl Slots {
    /// Whether something that core mm has cleared, and that is no longer in here, can still be in a TLB of `mm`, which the amap is
    /// one of: that clearing has ended is announced before TLBs are flushed.
    pub(crate) fn is_unflushed(&mut self, mm: &Mm) -> bool {
        // It has said so since before what was cleared was taken out under this lock.
        // SAFETY: The `mm_struct` is live.
        let is_pending = || unsafe { helpers::anon_rmap_tlb_flush_pending(mm.as_raw()) };
        self.unflushed = self.unflushed && is_pending();
        self.unflushed
    }
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
    /// Whether a fork has made it share something with another amap.
    is_forked: Atomic<bool>,
    /// Whether its pages may share frames with others of the same content.
    mergeable: Atomic<bool>,
    #[pin]
    slots: Mutex<Slots>,
}

/// Evidence of an amap's lock.
pub(crate) type SlotsGuard<'a> = Guard<'a, Slots, MutexBackend>;

impl Amap {
    /// An empty amap; [`ENOMEM`].
    pub(crate) fn new(
        sharing: Sharing,
        anon_vma: Arc<AnonVma>,
        mergeable: bool,
    ) -> Result<Arc<Self>> {
        static NEXT_ID: Atomic<i64> = Atomic::new(0);

        let new = Arc::pin_init(
            pin_init!(Self {
                id: AmapId(NEXT_ID.fetch_add(1, Relaxed)),
                sharing,
                anon_vma,
                is_forked: Atomic::new(false),
                mergeable: Atomic::new(mergeable),
                slots <- new_mutex!(
                    Slots {
                        anons: RadixTree::new(),
                        replacing: Replacing::NONE,
                        discards: Discards::NONE,
                        lost: false,
                        taken_out: 0,
                        has_mapped_zeroes: false,
                        next_write: None,
                        unflushed: false,
                    },
                    "amap"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
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

    /// Whether pages may share frames with others of the same content, as somebody has [said](Self::set_mergeable). Those that all who inherit
    /// the mapping write to never do.
    pub(crate) fn is_mergeable(&self) -> bool {
        self.mergeable.load(Relaxed)
    }

    /// Says whether they may, from now on.
    pub(crate) fn set_mergeable(&self, mergeable: bool) {
        self.mergeable.store(mergeable, Relaxed);
    }

    /// The anon_vma of new pages.
    pub(crate) fn anon_vma(&self) -> &Arc<AnonVma> {
        &self.anon_vma
    }

    /// Whether who writes where no page table has a page is likely to need a new one: not after a fork, by which a child gets pages that
    /// its page tables don't have, nor where others fill shared memory.
    pub(crate) fn lacks_what_is_not_mapped(&self) -> bool {
        self.sharing == Sharing::Private && !self.is_forked.load(Relaxed)
    }

    /// Notes that a fork makes it share something with another amap.
    pub(crate) fn set_forked(&self) {
        self.is_forked.store(true, Relaxed);
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
    pub(crate) fn remove_range(&self, range: Indices) -> Result<RemovedRange<Share>> {
        let mut reservation = NodeReservation::new();
        loop {
            let mut slots = self.lock();
            if let Ok(removed) = slots.remove_range(range, &mut reservation) {
                return Ok(removed);
            }
            let needed = slots
                .anons
                .nodes_for_remove(range.first().0, range.last().0);
            drop(slots);
            reserve_more(&mut reservation, needed, GFP_KERNEL_ACCOUNT)?;
        }
    }

    /// Takes `anon` out, if it is there and good, and returns it, to be dropped without the lock. It must be mapped nowhere. What this takes of
    /// memory is allocated with `flags`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing has changed then.
    pub(crate) fn remove(&self, anon: &Anon, flags: Flags) -> Result<Option<RemovedRange<Share>>> {
        let index = anon.index();
        let mut reservation = NodeReservation::new();
        loop {
            let mut slots = self.lock();
            // With the amap locked, no failure of the place comes between.
            if !slots.holds(anon) || !anon.lock().may_be_copied() {
                return Ok(None);
            }
            if let Ok(removed) = slots.remove_range(Indices::one(index), &mut reservation) {
                return Ok(Some(removed));
            }
            let needed = slots.anons.nodes_for_remove(index.0, index.0);
            drop(slots);
            reserve_more(&mut reservation, needed, flags)?;
        }
    }

    /// As [`Self::remove_range`], but it must not reclaim memory, and does not fail: what finds no memory is left for
    /// [`Self::finish_discards`]. `None` then.
    pub(crate) fn discard(&self, range: Indices) -> Option<RemovedRange<Share>> {
        let mut reservation = NodeReservation::new();
        loop {
            let mut slots = self.lock();
            slots.unflushed = true;
            if let Ok(removed) = slots.remove_range(range, &mut reservation) {
                return Some(removed);
            }
            let needed = slots
                .anons
                .nodes_for_remove(range.first().0, range.last().0);
            drop(slots);
            if reserve_more(&mut reservation, needed, GFP_ATOMIC | __GFP_NOWARN).is_err() {
                break;
            }
        }
        let mut slots = self.lock();
        slots.lost |= !slots.discards.add(range);
        None
    }

    /// Takes out what is still to be taken out; [`ENOMEM`].
    pub(crate) fn finish_discards(&self) -> Result {
        let mut reservation = NodeReservation::new();
        loop {
            let mut slots = self.lock();
            let Some(range) = slots.discards.first() else {
                return Ok(());
            };
            if let Ok(removed) = slots.remove_range(range, &mut reservation) {
                slots.discards.remove(range);
                drop(slots);
                drop(removed);
                continue;
            }
            let needed = slots
                .anons
                .nodes_for_remove(range.first().0, range.last().0);
            drop(slots);
            reserve_more(&mut reservation, needed, GFP_KERNEL_ACCOUNT)?;
        }
    }

    /// Gives `to` a share of everything that `self` has in `range`, in which `to` has nothing.
    ///
    /// Takes O(log n) for the whole range and allocates only at its borders. On error, [`ENOMEM`],
    /// nothing has changed. The caller excludes faults and other changes in `range`, in both.
    pub(crate) fn share_range(&self, range: Indices, to: &Self) -> Result {
        let mut reservation = NodeReservation::new();
        // Two amaps are never locked at the same time. Nobody looks for anything in the place that
        // the tree leaves for a moment: the caller excludes faults.
        let mut target = core::mem::take(&mut to.lock().anons);
        let result = loop {
            let source = self.lock();
            let (first, last) = (range.first().0, range.last().0);
            let shared = source
                .anons
                .share_range(first, last, &mut target, &mut reservation);
            if shared.is_ok() {
                break Ok(());
            }
            let needed = source.anons.nodes_for_share(first, last, &target);
            drop(source);
            if let Err(error) = reserve_more(&mut reservation, needed, GFP_KERNEL_ACCOUNT) {
                break Err(error);
            }
        };
        to.lock().anons = target;
        result
    }

    /// Puts `anon` at its index, in place of what is there. [`ENOMEM`].
    pub(crate) fn insert(&self, anon: ARef<Anon>) -> Result {
        let index = anon.index().0;
        let mut share = Share::new(anon);
        let mut reservation = NodeReservation::new();
        loop {
            let mut slots = self.lock();
            share = match slots.anons.insert(index, share, &mut reservation) {
                Ok(old) => {
                    drop(slots);
                    drop(old);
                    return Ok(());
                }
                Err(share) => share,
            };
            let needed = slots.anons.nodes_for_insert(index);
            drop(slots);
            reserve_more(&mut reservation, needed, GFP_KERNEL_ACCOUNT)?;
        }
    }
}

/// Reserves the `needed` nodes that a change has not found; [`ENOMEM`]. If it needs none any more, another tree that shared nodes
/// with this one has gone since.
fn reserve_more(reservation: &mut NodeReservation<Share>, needed: usize, flags: Flags) -> Result {
    Ok(reservation.reserve(needed, flags)?)
}

impl Slots {
    /// Takes everything in `range` out, with the memory in `reservation`; [`ENOMEM`] if that does not do.
    pub(crate) fn remove_range(
        &mut self,
        range: Indices,
        reservation: &mut NodeReservation<Share>,
    ) -> Result<RemovedRange<Share>> {
        self.taken_out += 1;
        self.anons
            .remove_range(range.first().0, range.last().0, reservation)
            .map_err(|_| ENOMEM)
    }

    /// The anon at `index`.
    pub(crate) fn anon(&self, index: Index) -> Option<ARef<Anon>> {
        Some(self.anons.get(index.0)?.value.anon())
    }

    /// Whether the amap holds `anon` at the anon's index.
    pub(crate) fn holds(&self, anon: &Anon) -> bool {
        self.hold(anon.index(), anon.id())
    }

    fn hold(&self, index: Index, page: PageId) -> bool {
        let slot = self.anons.get(index.0);
        slot.is_some_and(|slot| slot.value.id() == page)
    }
}

impl Holdings for Amap {
    fn hold(&self, index: Index, page: PageId) -> bool {
        self.lock().hold(index, page)
    }
}

#[pinned_drop]
impl PinnedDrop for Amap {
    fn drop(self: Pin<&mut Self>) {
        stats::AMAPS.dec();
    }
}
