// SPDX-License-Identifier: GPL-2.0

//! A node of the tree: a sorted row of slots.

use super::Interval;
use core::{
    cell::Cell,
    ptr::NonNull, //
};

/// Most slots of a node. Ten fill 256 bytes, four cache lines and a size class of the allocator.
pub(super) const CAPACITY: usize = 20;

/// Fewest slots of a node that is not the root. Less than half, so that a removal right after a
/// split, or the reverse, does not undo it.
pub(super) const MIN: usize = 8;

/// A pointer as plain data: whoever follows it says why that is sound.
pub(super) struct Ptr<X>(NonNull<X>);

impl<X> Ptr<X> {
    pub(super) fn new(raw: NonNull<X>) -> Self {
        Self(raw)
    }

    pub(super) const fn dangling() -> Self {
        Self(NonNull::dangling())
    }

    pub(super) fn as_ptr(self) -> *mut X {
        self.0.as_ptr()
    }

    pub(super) fn cast<Y>(self) -> Ptr<Y> {
        Ptr(self.0.cast())
    }
}

impl<X> Clone for Ptr<X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Ptr<X> {}

impl<X> PartialEq for Ptr<X> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// SAFETY: An address alone gives no access; following it needs a borrow of the tree.
unsafe impl<X> Send for Ptr<X> {}
// SAFETY: As above.
unsafe impl<X> Sync for Ptr<X> {}

/// The tree's part of what is linked: where its slot is.
pub(super) struct Hook {
    pub(super) leaf: Ptr<Node>,
}

/// One interval in a leaf, or one child of an inner node.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// A leaf's interval starts here; a child's start here or later.
    pub(super) start: u64,
    /// A leaf's interval ends here; this is the greatest end below a child.
    pub(super) last: u64,
    /// The [`Hook`] of a leaf's interval, the [`Node`] that is the child.
    pub(super) link: Ptr<()>,
}

impl Slot {
    const UNUSED: Self = Self {
        start: 0,
        last: 0,
        link: Ptr::dangling(),
    };

    /// A copy, made field by field: of loops that copy slots as a whole the compiler makes calls of
    /// `memmove()`, which costs more than the few slots of a node.
    #[inline(always)]
    fn copied(&self) -> Self {
        Self {
            start: self.start,
            last: self.last,
            link: self.link,
        }
    }

    /// The interval of a leaf's slot.
    pub(super) fn interval(&self) -> Interval {
        // INVARIANT: It was one when it was linked.
        Interval {
            start: self.start,
            last: self.last,
        }
    }

    pub(super) fn child(&self) -> Ptr<Node> {
        self.link.cast()
    }

    pub(super) fn hook(&self) -> Ptr<Hook> {
        self.link.cast()
    }
}

/// A node.
///
/// # Invariants
///
/// `len` is at most [`CAPACITY`]. The first `len` slots are in use, in order of start.
pub(super) struct Node {
    pub(super) parent: Option<Ptr<Node>>,
    len: u32,
    /// The distance to the leaves.
    pub(super) level: u32,
    slots: [Slot; CAPACITY],
}

impl Node {
    // INVARIANT: No slot is in use.
    pub(super) const EMPTY: Self = Self {
        parent: None,
        len: 0,
        level: 0,
        slots: [Slot::UNUSED; CAPACITY],
    };

    /// Makes an unused node one without slots, `level` above the leaves.
    pub(super) fn reset(&mut self, level: u32) {
        // INVARIANT: No slot is in use.
        self.len = 0;
        self.level = level;
        self.parent = None;
    }

    #[inline]
    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() >= CAPACITY
    }

    #[inline]
    pub(super) fn slots(&self) -> &[Slot] {
        // SAFETY: By the type invariant.
        unsafe { self.slots.get_unchecked(..self.len()) }
    }

    #[inline]
    pub(super) fn slots_mut(&mut self) -> &mut [Slot] {
        let len = self.len();
        // SAFETY: By the type invariant.
        unsafe { self.slots.get_unchecked_mut(..len) }
    }

    /// The slots from `index` on, so that one can be copied to another.
    #[inline]
    fn cells(&mut self, index: usize) -> &[Cell<Slot>] {
        let slots = self.slots_mut().get_mut(index..).unwrap_or_default();
        Cell::from_mut(slots).as_slice_of_cells()
    }

    /// How many slots start at `start` or before.
    #[inline]
    pub(super) fn upper_bound(&self, start: u64) -> usize {
        self.slots()
            .iter()
            .filter(|slot| slot.start <= start)
            .count()
    }

    /// The index of the slot with this link.
    #[inline]
    pub(super) fn index_of<X>(&self, link: Ptr<X>) -> Option<usize> {
        self.slots()
            .iter()
            .position(|slot| slot.link == link.cast())
    }

    /// The greatest end.
    #[inline]
    pub(super) fn greatest_last(&self) -> u64 {
        self.slots().iter().map(|slot| slot.last).max().unwrap_or(0)
    }

    /// Whether a slot ends at `last` or later. With disjoint intervals, the last one is the one to ask.
    #[inline]
    pub(super) fn reaches(&self, last: u64) -> bool {
        self.slots().iter().rev().any(|slot| slot.last >= last)
    }

    /// Puts `slot` before the one at `index`. A full node loses its last one.
    #[inline]
    pub(super) fn insert(&mut self, index: usize, slot: Slot) {
        if !self.is_full() {
            // INVARIANT: The node was not full.
            self.len += 1;
        }
        let slots = self.cells(index);
        for pair in slots.windows(2).rev() {
            if let [from, to] = pair {
                to.set(from.get().copied());
            }
        }
        if let Some(place) = slots.first() {
            place.set(slot);
        }
    }

    /// Takes the slot at `index` out.
    #[inline]
    pub(super) fn remove(&mut self, index: usize) {
        for pair in self.cells(index).windows(2) {
            if let [to, from] = pair {
                to.set(from.get().copied());
            }
        }
        // INVARIANT: The slots behind have moved up.
        self.len = self.len.saturating_sub(1);
    }

    /// Moves the slots from `index` on to the end of `other`, as many as fit.
    pub(super) fn move_tail(&mut self, index: usize, other: &mut Node) {
        for slot in self.slots().iter().skip(index) {
            other.insert(other.len(), *slot);
        }
        // INVARIANT: Fewer slots are in use than before.
        self.len = self.len.min(index as u32);
    }

    /// Moves the first `count` slots to the end of `other`, as many as fit.
    pub(super) fn move_head(&mut self, count: usize, other: &mut Node) {
        for slot in self.slots().iter().take(count) {
            other.insert(other.len(), *slot);
        }
        for _ in 0..count {
            self.remove(0);
        }
    }
}
