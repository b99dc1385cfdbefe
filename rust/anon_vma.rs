// SPDX-License-Identifier: GPL-2.0

//! Where the mappings of a page can be found: the anon_vma and its links to VMAs.
//!
//! An [`AnonVma`] holds one interval tree. An interval is what one VMA covers of the index space,
//! and belongs to an [`Avc`] (anon_vma_chain), the link of that VMA into that tree. A VMA is linked
//! just before it first maps a page of the anon_vma, so a process that inherits a mapping and never
//! touches it is in no tree.

use crate::{
    index::{
        Base,
        Index, //
    },
    interval_tree::{
        Interval,
        IntervalTree,
        Linked,
        Reserved, //
    },
    stats, //
};
use core::ptr;
use kernel::{
    mm::Mm,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

pub(crate) mod verify;

/// The link of one VMA into one anon_vma: enough to compute where the VMA maps an index.
pub(crate) struct Avc {
    mm: ARef<Mm>,
    base: Base,
}

impl Avc {
    /// Reserves what linking needs; [`ENOMEM`].
    pub(crate) fn reserve(mm: &Mm, base: Base) -> Result<Reserved<Self>> {
        let avc = Self {
            mm: mm.into(),
            base,
        };
        let reserved = Reserved::new(avc, GFP_KERNEL)?;
        Ok(reserved)
    }
}

/// A place where pages may be mapped.
pub(crate) struct Mapping {
    /// Whose address space it is. It may have no users any more.
    pub(crate) mm: ARef<Mm>,
    /// The address of the first of the pages.
    pub(crate) address: usize,
    /// The number of pages.
    pub(crate) pages: u64,
}

impl Mapping {
    /// Where `avc`, which covers the indices `covered`, puts those in `range`.
    fn new(avc: &Avc, covered: Interval, range: Interval) -> Self {
        let first = covered.start().max(range.start());
        let last = covered.last().min(range.last());
        Self {
            mm: avc.mm.clone(),
            address: avc.base.address(Index(first)),
            pages: last - first + 1,
        }
    }
}

/// What a walk has cost and found.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// Tree nodes visited.
    pub(crate) nodes: u64,
    /// VMAs in the tree.
    pub(crate) vmas: u64,
    /// VMAs that cover an index of those asked for.
    pub(crate) mappings: u64,
    /// The tree's generation at the time of the walk.
    pub(crate) generation: u64,
    /// The number of changes to the tree up to then.
    pub(crate) changes: u64,
}

struct Avcs {
    tree: IntervalTree<Avc>,
    /// Counts the VMAs to which pages were to be moved.
    generation: u64,
    /// Counts what can alter the place of an interval in the order of all.
    changes: u64,
}

/// What anons point to so that their mappings can be found.
///
/// Its lock is the innermost of the driver: mmap lock, amap, anon, anon_vma. Nothing is allocated
/// under it.
#[pin_data(PinnedDrop)]
pub(crate) struct AnonVma {
    #[pin]
    avcs: Mutex<Avcs>,
}

impl AnonVma {
    /// An anon_vma without links; [`ENOMEM`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let new = Arc::pin_init(
            pin_init!(Self {
                avcs <- new_mutex!(
                    Avcs {
                        tree: IntervalTree::new(),
                        generation: 0,
                        changes: 0,
                    },
                    "anon_vma"
                ),
            }),
            GFP_KERNEL,
        )?;
        stats::ANON_VMAS.inc();
        Ok(new)
    }

    /// The number of VMAs that cover a part of `range`. Takes O(log n + k).
    pub(crate) fn count(&self, range: Interval) -> usize {
        self.avcs.lock().tree.overlapping(range).count()
    }

    /// Writes to `found` where pages with indices in `range` may be mapped, but for the first `skip`
    /// places, up to the capacity of `found`. Takes O(log n + k), allocates nothing.
    pub(crate) fn walk(&self, range: Interval, skip: usize, found: &mut KVec<Mapping>) -> Walk {
        found.clear();
        let avcs = self.avcs.lock();
        let mut overlapping = avcs.tree.overlapping(range);
        let mut mappings = 0;
        for (covered, avc) in overlapping.by_ref() {
            mappings += 1;
            if mappings > skip as u64 {
                // Too many for the capacity: the caller sees that from the number of mappings.
                let _ = found.push_within_capacity(Mapping::new(avc, covered, range));
            }
        }
        let walk = Walk {
            nodes: overlapping.visited() as u64,
            vmas: avcs.tree.len() as u64,
            mappings,
            generation: avcs.generation,
            changes: avcs.changes,
        };
        drop(avcs);
        stats::WALKS.inc();
        stats::WALK_NODES.add(walk.nodes);
        walk
    }

    /// The first place behind the address `after` where `mm` may map pages with indices in `range`.
    /// Takes O(log n + k), allocates nothing.
    pub(crate) fn next_place(
        &self,
        mm: &Mm,
        range: Interval,
        after: Option<usize>,
    ) -> Option<Mapping> {
        let avcs = self.avcs.lock();
        let mut overlapping = avcs.tree.overlapping(range);
        let mut next: Option<Mapping> = None;
        for (covered, avc) in overlapping.by_ref() {
            if !ptr::eq(avc.mm.as_raw(), mm.as_raw()) {
                continue;
            }
            let place = Mapping::new(avc, covered, range);
            if after.is_none_or(|after| place.address > after)
                && next
                    .as_ref()
                    .is_none_or(|next| place.address < next.address)
            {
                next = Some(place);
            }
        }
        stats::WALKS.inc();
        stats::WALK_NODES.add(overlapping.visited() as u64);
        next
    }

    /// A number that changes when pages are about to be moved to another VMA. What a walk has found for an
    /// address space holds for as long as this stays the same, as seen under its mmap lock.
    pub(crate) fn generation(&self) -> u64 {
        self.avcs.lock().generation
    }
}

#[pinned_drop]
impl PinnedDrop for AnonVma {
    fn drop(self: Pin<&mut Self>) {
        stats::ANON_VMAS.dec();
    }
}

/// One link as the VMA sees it.
struct Link {
    anon_vma: Arc<AnonVma>,
    avc: Linked<Avc>,
}

/// The links of one VMA, guarded by the lock of its amap.
///
/// All intervals are the same: what the VMA covers.
pub(crate) struct Links {
    interval: Interval,
    links: KVec<Link>,
}

/// What linking one VMA into one more tree needs.
pub(crate) struct LinkReservation {
    avc: Reserved<Avc>,
    /// Room for one link more than the VMA had; used only if the VMA's own room does not do.
    room: KVec<Link>,
}

impl LinkReservation {
    /// Reserves one link for a VMA of `mm` which has `links` of them already; [`ENOMEM`].
    pub(crate) fn new(mm: &Mm, base: Base, links: usize) -> Result<Self> {
        Ok(Self {
            avc: Avc::reserve(mm, base)?,
            room: KVec::with_capacity(links + 1, GFP_KERNEL)?,
        })
    }
}

/// What copying all links of a VMA needs, see [`Links::split_off`].
#[derive(Default)]
pub(crate) struct CopyReservation {
    avcs: KVec<Reserved<Avc>>,
    room: KVec<Link>,
}

impl CopyReservation {
    /// Reserves `links` links for a VMA of `mm`; [`ENOMEM`].
    pub(crate) fn new(mm: &Mm, base: Base, links: usize) -> Result<Self> {
        let mut avcs = KVec::with_capacity(links, GFP_KERNEL)?;
        for _ in 0..links {
            avcs.push(Avc::reserve(mm, base)?, GFP_KERNEL)?;
        }
        Ok(Self {
            avcs,
            room: KVec::with_capacity(links, GFP_KERNEL)?,
        })
    }
}

impl Links {
    /// No links, of a VMA that covers `interval`.
    pub(crate) fn new(interval: Interval) -> Self {
        Self {
            interval,
            links: KVec::new(),
        }
    }

    /// The number of links.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// What the VMA covers, as far as the rmap knows.
    pub(crate) fn interval(&self) -> Interval {
        self.interval
    }

    /// Whether the VMA is in the tree of `anon_vma`. Looks at the newest links first.
    pub(crate) fn contains(&self, anon_vma: &Arc<AnonVma>) -> bool {
        self.links
            .iter()
            .rev()
            .any(|link| Arc::ptr_eq(&link.anon_vma, anon_vma))
    }

    /// Links the VMA into the tree of `anon_vma`, in which it is not. Gives the reservation back if
    /// it has too little room for that.
    pub(crate) fn link(
        &mut self,
        anon_vma: &Arc<AnonVma>,
        mut reservation: LinkReservation,
    ) -> Result<(), LinkReservation> {
        if self.links.len() == self.links.capacity() {
            if reservation.room.capacity() <= self.links.len() {
                return Err(reservation);
            }
            for link in self.links.drain_all() {
                // There is room: checked above.
                let _ = reservation.room.push_within_capacity(link);
            }
            self.links = reservation.room;
        }
        let (avc, _surplus) = {
            let mut avcs = anon_vma.avcs.lock();
            avcs.changes += 1;
            avcs.tree.insert(reservation.avc, self.interval)
        };
        stats::AVCS.inc();
        // There is room: made above.
        let _ = self.links.push_within_capacity(Link {
            anon_vma: anon_vma.clone(),
            avc,
        });
        Ok(())
    }

    /// Lets the VMA cover `interval` from now on. Takes O(log n) a link.
    pub(crate) fn resize(&mut self, interval: Interval) {
        self.interval = interval;
        for link in &mut self.links {
            let mut avcs = link.anon_vma.avcs.lock();
            avcs.changes += 1;
            // The link is one of this tree.
            let _ = avcs.tree.update(&link.avc, interval);
        }
    }

    /// Splits the VMA: it keeps `rest`, and `new` becomes that of another VMA, whose links are
    /// returned. In each tree both happen at once, so a walk finds every index exactly once.
    ///
    /// Gives the reservation back if it is for fewer links than there are.
    pub(crate) fn split_off(
        &mut self,
        new: Interval,
        rest: Interval,
        reservation: CopyReservation,
    ) -> Result<Self, CopyReservation> {
        let copy = self.copy(new, reservation, |avcs, avc| {
            // The link is one of this tree.
            let _ = avcs.tree.update(avc, rest);
        })?;
        self.interval = rest;
        Ok(copy)
    }

    /// Links another VMA, to which pages of this one are about to be moved, wherever this one is
    /// linked.
    ///
    /// Gives the reservation back if it is for fewer links than there are.
    pub(crate) fn copy_for_move(
        &mut self,
        new: Interval,
        reservation: CopyReservation,
    ) -> Result<Self, CopyReservation> {
        self.copy(new, reservation, |avcs, _| avcs.generation += 1)
    }

    fn copy(
        &mut self,
        new: Interval,
        reservation: CopyReservation,
        mut update_source: impl FnMut(&mut Avcs, &Linked<Avc>),
    ) -> Result<Self, CopyReservation> {
        if reservation.avcs.len() < self.links.len() {
            return Err(reservation);
        }
        let CopyReservation { avcs, mut room } = reservation;
        for (link, reserved) in self.links.iter().zip(avcs) {
            let mut avcs = link.anon_vma.avcs.lock();
            avcs.changes += 1;
            update_source(&mut avcs, &link.avc);
            let (avc, _surplus) = avcs.tree.insert(reserved, new);
            drop(avcs);
            stats::AVCS.inc();
            // There is room: both vectors were reserved for the same number of links.
            let _ = room.push_within_capacity(Link {
                anon_vma: link.anon_vma.clone(),
                avc,
            });
        }
        Ok(Self {
            interval: new,
            links: room,
        })
    }
}

impl Drop for Links {
    /// Unlinks the VMA from all trees. Must not run under the lock of an anon_vma.
    fn drop(&mut self) {
        for link in self.links.drain_all() {
            // What was linked is dropped without the lock: it holds an `mm_struct`.
            let _avc = {
                let mut avcs = link.anon_vma.avcs.lock();
                avcs.changes += 1;
                avcs.tree.remove(link.avc)
            };
            stats::AVCS.dec();
        }
    }
}
