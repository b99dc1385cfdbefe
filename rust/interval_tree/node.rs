// SPDX-License-Identifier: GPL-2.0-only

//! A node of the tree: a row of slots.

use super::{
    order::Order,
    Interval, //
};
use core::ptr::NonNull;

/// Most slots of a node: what one word can keep in order.
///
/// Nodes with eight slots, a byte for each, make the tree higher by half and are split twice as often: insertions were
/// measured to take a tenth more instructions.
pub(super) const CAPACITY: usize = Order::CAPACITY;

/// How many slots a node keeps that is split.
pub(super) const HALF: usize = CAPACITY / 2 + 1;

/// One place more than there are slots, a power of two: a leaf does not use the first one, an inner node not the last.
const PLACES: usize = CAPACITY + 1;

/// Fewest slots of a node that is not the root. Less than half, so that a removal right after a
/// split, or the reverse, does not undo it.
pub(super) const MIN: usize = 5;

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

/// The tree's part of what is linked: where it is.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    pub(super) leaf: Ptr<Node>,
    pub(super) slot: usize,
    /// Among equal starts, the order: what came later has a greater one.
    pub(super) serial: u64,
}

/// What a slot holds: one interval in a leaf, or one child of an inner node.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// A leaf's interval starts here; what is below a child starts here or later, and what is below the child before
    /// starts here or earlier.
    pub(super) start: u64,
    /// A leaf's interval ends here; this is the greatest end below a child.
    pub(super) last: u64,
    /// The [`Hook`] of a leaf's interval, the [`Node`] that is the child.
    pub(super) link: Ptr<()>,
}

impl Slot {
    /// Not in use. It starts behind whatever is looked for, and ends before.
    const UNUSED: Self = Self {
        start: u64::MAX,
        last: 0,
        link: Ptr::dangling(),
    };

    /// What a leaf has for a hook.
    #[inline]
    pub(super) fn for_hook(hook: Ptr<Hook>, interval: Interval) -> Self {
        Self {
            start: interval.start,
            last: interval.last,
            link: hook.cast(),
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
/// In a leaf, slots stay where they are, and `order` says in which order they come: nothing is moved when others come and
/// go, and a hook can say where its slot is. An inner node has its slots in their order, from 0 on, so that a
/// search can leave most of them out.
///
/// Slots are numbered modulo [`PLACES`], which costs nothing and lets the compiler do without checks.
///
/// # Invariants
///
/// - The slots in use are, in a leaf, those that `order` says, in an inner node as many of the first. They are in order of
///   start. The others start and end like [`Slot::UNUSED`].
/// - The first slot of an inner node starts at 0: what it really starts with, the nodes above know.
#[repr(C)]
pub(super) struct Node {
    pub(super) parent: Option<Ptr<Node>>,
    order: Order,
    /// The distance to the leaves.
    pub(super) level: usize,
    start: [u64; PLACES],
    last: [u64; PLACES],
    link: [Ptr<()>; PLACES],
}

impl Node {
    /// A leaf that uses no slot.
    // INVARIANT: It says so.
    pub(super) const EMPTY: Self = Self {
        parent: None,
        order: Order::EMPTY,
        level: 0,
        start: [Slot::UNUSED.start; PLACES],
        last: [Slot::UNUSED.last; PLACES],
        link: [Slot::UNUSED.link; PLACES],
    };

    /// Makes a node that uses no slot one of `level` without parent, in which slots are used in ascending order.
    pub(super) fn make_fresh(&mut self, level: usize) {
        self.parent = None;
        // INVARIANT: No slot is in use.
        self.order = Order::EMPTY;
        self.level = level;
    }

    #[inline]
    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        self.order = self.order.with_len(len);
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.order.is_full()
    }

    /// The order of a leaf's slots.
    #[inline]
    pub(super) fn order(&self) -> Order {
        self.order
    }

    #[inline]
    pub(super) fn start(&self, slot: usize) -> u64 {
        self.start[slot % PLACES]
    }

    #[inline]
    pub(super) fn last(&self, slot: usize) -> u64 {
        self.last[slot % PLACES]
    }

    #[inline]
    pub(super) fn link(&self, slot: usize) -> Ptr<()> {
        self.link[slot % PLACES]
    }

    /// What a slot holds.
    #[inline]
    pub(super) fn slot(&self, slot: usize) -> Slot {
        Slot {
            start: self.start(slot),
            last: self.last(slot),
            link: self.link(slot),
        }
    }

    /// Changes what a slot in use holds, but not the order.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, content: Slot) {
        self.start[slot % PLACES] = content.start;
        self.last[slot % PLACES] = content.last;
        self.link[slot % PLACES] = content.link;
    }

    /// Changes the greatest end below a slot of an inner node.
    #[inline]
    pub(super) fn set_last(&mut self, slot: usize, last: u64) {
        self.last[slot % PLACES] = last;
    }

    /// Gives a slot in use an interval that leaves it where it is in the order.
    #[inline]
    pub(super) fn set_interval(&mut self, slot: usize, interval: Interval) {
        self.start[slot % PLACES] = interval.start;
        self.last[slot % PLACES] = interval.last;
    }

    /// The slot at `rank` in the order.
    pub(super) fn nth(&self, rank: usize) -> usize {
        if self.is_leaf() {
            self.order.slot(rank)
        } else {
            rank
        }
    }

    /// What the slots in use hold, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.len()).map(|rank| self.slot(self.nth(rank)))
    }

    /// How many slots of a leaf start at `start` or before. Not for `u64::MAX`, where unused ones start.
    ///
    /// It looks at all of them, without waiting for one to be able to look at the next.
    #[inline]
    pub(super) fn rank_behind(&self, start: u64) -> usize {
        let count = |count: usize, slot: &u64| count.wrapping_add(usize::from(*slot <= start));
        // The first place is never used.
        self.start.iter().skip(1).fold(0, count)
    }

    /// The slot of an inner node below which something that starts at `start` belongs. Not for `u64::MAX`, where unused
    /// ones start.
    ///
    /// The first three comparisons choose four slots, three more choose one of these.
    #[inline]
    pub(super) fn child_for(&self, start: u64) -> usize {
        let is_before = |slot: usize| {
            let begin = self.start.get(slot);
            usize::from(begin.is_some_and(|begin| *begin <= start))
        };
        let group = is_before(4)
            .wrapping_add(is_before(8))
            .wrapping_add(is_before(12));
        let first = group.wrapping_mul(4);
        first
            .wrapping_add(is_before(first.wrapping_add(1)))
            .wrapping_add(is_before(first.wrapping_add(2)))
            .wrapping_add(is_before(first.wrapping_add(3)))
    }

    /// The first slot of an inner node below which something ends at `last` or later, if there is one.
    #[inline]
    pub(super) fn first_reaching(&self, last: u64) -> Option<usize> {
        // Unused slots end at 0, which is asked for only if any slot will do.
        self.last.iter().position(|end| *end >= last)
    }

    /// The first such slot behind `slot`, if there is one.
    #[inline]
    pub(super) fn next_reaching(&self, mut slot: usize, last: u64) -> Option<usize> {
        slot = slot.wrapping_add(1);
        // Two at a time: there is a place behind the last slot, and it does not reach anywhere the last slot does not.
        while slot < self.len() {
            let next = slot.wrapping_add(1);
            if *self.last.get(slot)? >= last {
                return Some(slot);
            }
            if *self.last.get(next)? >= last {
                return Some(next);
            }
            slot = next.wrapping_add(1);
        }
        None
    }

    /// The slot of an inner node that links `child`.
    #[inline]
    pub(super) fn slot_of(&self, child: Ptr<Node>) -> Option<usize> {
        self.link.iter().position(|link| *link == child.cast())
    }

    /// The greatest end.
    #[inline]
    pub(super) fn greatest_last(&self) -> u64 {
        self.last.iter().copied().fold(0, u64::max)
    }

    /// Whether no place that is not in use looks as if it was.
    pub(super) fn unused_are_empty(&self) -> bool {
        (self.len()..CAPACITY)
            .map(|rank| self.nth(rank))
            .chain([if self.is_leaf() { 0 } else { CAPACITY }])
            .map(|slot| (self.start(slot), self.last(slot)))
            .all(|unused| unused == (Slot::UNUSED.start, Slot::UNUSED.last))
    }

    /// Whether a slot of an inner node ends at `last` or later.
    #[inline]
    pub(super) fn reaches(&self, last: u64) -> bool {
        self.last.iter().any(|end| *end >= last)
    }

    /// Whether a slot of a leaf ends at `last` or later.
    #[inline]
    pub(super) fn leaf_reaches(&self, last: u64) -> bool {
        self.last.iter().skip(1).any(|end| *end >= last)
    }

    /// Puts `content` at `rank` into a leaf that is not full; returns the slot.
    #[inline]
    pub(super) fn put(&mut self, rank: usize, content: Slot) -> usize {
        let slot = self.order.insert(rank);
        self.set(slot, content);
        slot
    }

    /// Empties a slot that a leaf uses; returns the slot behind it, which need not be in use.
    #[inline]
    pub(super) fn take(&mut self, slot: usize) -> usize {
        let next = self.order.remove(slot);
        self.start[slot % PLACES] = Slot::UNUSED.start;
        self.last[slot % PLACES] = Slot::UNUSED.last;
        next
    }

    /// Puts `content` behind all others, into a node that is not full; returns the slot.
    pub(super) fn append(&mut self, content: Slot) -> usize {
        let slot = self.nth(self.len());
        // INVARIANT: The node is not full, so the slot is the first that is not in use.
        self.set_len(self.len() + 1);
        self.set(slot, content);
        slot
    }

    /// Puts `content` at `rank` into a node that is not full; returns the slot.
    pub(super) fn insert(&mut self, rank: usize, content: Slot) -> usize {
        if self.is_leaf() {
            return self.put(rank, content);
        }
        for slot in (rank..self.len()).rev() {
            self.set(slot + 1, self.slot(slot));
        }
        // INVARIANT: The node was not full, and the slots behind have moved.
        self.set_len(self.len() + 1);
        self.set(rank, content);
        rank
    }

    /// Takes out what is at `rank`, which is less than [`len`](Self::len).
    pub(super) fn remove(&mut self, rank: usize) -> Slot {
        let slot = self.nth(rank);
        let content = self.slot(slot);
        if self.is_leaf() {
            self.take(slot);
            return content;
        }
        for slot in rank + 1..self.len() {
            self.set(slot - 1, self.slot(slot));
        }
        // INVARIANT: There was one, and the slots behind have moved up.
        self.set_len(self.len() - 1);
        self.set(self.len(), Slot::UNUSED);
        content
    }

    /// Moves the second half of a full node of `level` to `other`, fresh and of the same level. `moved` is told what each slot
    /// of `other` links. Returns the greatest end that has moved.
    #[inline]
    pub(super) fn split_off(
        &mut self,
        other: &mut Node,
        level: usize,
        moved: impl FnMut(Ptr<()>, usize),
    ) -> u64 {
        let order = self.order;
        let greatest = if level == 0 {
            self.move_half(other, |rank| order.slot(rank), 1, moved)
        } else {
            self.move_half(other, |rank| rank, 0, moved)
        };
        // INVARIANT: In a fresh node, the slots come in order; here they have become unused.
        other.set_len(CAPACITY - HALF);
        self.set_len(HALF);
        greatest
    }

    /// Moves the slots that `from` says for the second half of the ranks to those of `other` from `first` on.
    #[inline(always)] // so that it is compiled once for leaves and once for inner nodes
    fn move_half(
        &mut self,
        other: &mut Node,
        from: impl Fn(usize) -> usize,
        first: usize,
        mut moved: impl FnMut(Ptr<()>, usize),
    ) -> u64 {
        let mut greatest = 0;
        for rank in HALF..CAPACITY {
            let (from, to) = (from(rank), rank - HALF + first);
            greatest = self.last(from).max(greatest);
            self.move_slot(from, other, to);
            moved(other.link(to), to);
        }
        greatest
    }

    /// Moves all to the end of `other`, a node of the same level with room for it. `moved` is told what each slot of `other`
    /// links.
    pub(super) fn move_all(&mut self, other: &mut Node, mut moved: impl FnMut(Ptr<()>, usize)) {
        let mut unused = other.order.unused();
        for rank in 0..self.len() {
            let to = if self.is_leaf() {
                unused.next().unwrap_or_default()
            } else {
                other.len() + rank
            };
            self.move_slot(self.nth(rank), other, to);
            moved(other.link(to), to);
        }
        // INVARIANT: The slots are the first ones that were not in use, and have become unused here.
        other.set_len(other.len() + self.len());
        self.set_len(0);
    }

    #[inline]
    fn move_slot(&mut self, from: usize, other: &mut Node, to: usize) {
        other.set(to, self.slot(from));
        self.start[from % PLACES] = Slot::UNUSED.start;
        self.last[from % PLACES] = Slot::UNUSED.last;
    }

    /// Tells an inner node what its first slot starts with, or to forget it.
    pub(super) fn set_first_start(&mut self, start: u64) {
        self.start[0] = start;
    }
}
