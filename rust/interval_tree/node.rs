// SPDX-License-Identifier: GPL-2.0

//! A node of the tree: a sorted row of slots.

use super::Interval;
use core::{
    cell::Cell,
    ptr::NonNull, //
};

/// Most slots of a node. Ten fill 256 bytes, four cache lines and a size class of the allocator.
///
/// With twenty, stabs were measured to be up to a sixth faster, removals and updates up to a tenth slower, and a tree
/// of one interval takes twice the memory.
pub(super) const CAPACITY: usize = 10;

/// Fewest slots of a node that is not the root. Less than half, so that a removal right after a
/// split, or the reverse, does not undo it.
pub(super) const MIN: usize = 4;

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
    /// Not in use. It starts and ends where nothing is looked for, so a search need not know how many
    /// slots are in use.
    const UNUSED: Self = Self {
        start: u64::MAX,
        last: u64::MAX,
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
    #[inline]
    pub(super) fn interval(&self) -> Interval {
        // INVARIANT: It was one when it was linked.
        Interval {
            start: self.start,
            last: self.last,
        }
    }

    #[inline]
    pub(super) fn child(&self) -> Ptr<Node> {
        self.link.cast()
    }

    #[inline]
    pub(super) fn hook(&self) -> Ptr<Hook> {
        self.link.cast()
    }
}

/// A node.
///
/// # Invariants
///
/// `len` is at most [`CAPACITY`]. The first `len` slots are in use, in order of start; the others are
/// [`Slot::UNUSED`].
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
    ///
    /// Where it stops cannot be predicted, so it counts rather than stops.
    #[inline]
    pub(super) fn upper_bound(&self, start: u64) -> usize {
        let (low, high) = self.slots.split_at(CAPACITY / 2);
        let (before, half) = match high.first() {
            Some(first) if first.start <= start => (low.len(), high),
            _ => (0, low),
        };
        let count =
            |count: usize, slot: &Slot| count.wrapping_add(usize::from(slot.start <= start));
        // Unused slots count only if nothing can start later.
        half.iter().fold(before, count).min(self.len())
    }

    /// The first slot that may have something in `range`.
    #[inline]
    pub(super) fn first_reaching(&self, range: Interval) -> Option<&Slot> {
        let (index, slot) = self
            .slots
            .iter()
            .enumerate()
            .find(|(_, slot)| slot.last >= range.start)?;
        (index < self.len() && slot.start <= range.last).then_some(slot)
    }

    /// The index of the slot that links `child`.
    #[inline]
    pub(super) fn index_of_child(&self, child: Ptr<Node>) -> Option<usize> {
        self.slots.iter().position(|slot| slot.child() == child)
    }

    /// The index of the slot that links `hook`.
    ///
    /// Which one cannot be predicted, and to look at all of them costs less than a wrong guess.
    #[inline]
    pub(super) fn index_of_hook(&self, hook: Ptr<Hook>) -> Option<usize> {
        let slots = self.slots.iter().enumerate();
        let index = slots.fold(
            CAPACITY,
            |found, (index, slot)| {
                if slot.hook() == hook {
                    index
                } else {
                    found
                }
            },
        );
        (index < self.len()).then_some(index)
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
        let slots = self.cells(index);
        for pair in slots.windows(2) {
            if let [to, from] = pair {
                to.set(from.get().copied());
            }
        }
        if let Some(end) = slots.last() {
            end.set(Slot::UNUSED);
            // INVARIANT: There was one, and the slots behind have moved up.
            self.len -= 1;
        }
    }

    /// Moves the slots from `index` on to the end of `other`, as many as fit.
    pub(super) fn move_tail(&mut self, index: usize, other: &mut Node) {
        let room = other.slots.iter_mut().skip(other.len as usize);
        let tail = self.slots.iter_mut().take(self.len as usize).skip(index);
        for (to, from) in room.zip(tail) {
            *to = from.copied();
            *from = Slot::UNUSED;
            other.len += 1;
            self.len -= 1;
        }
    }
}
