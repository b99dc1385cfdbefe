// SPDX-License-Identifier: GPL-2.0-only

//! A node of the tree: a row of slots.

use super::{
    interval::Interval,
    order::Order,
    ptr::{
        Borrow,
        Ptr,
        Stored, //
    },
};
use core::ptr::NonNull;
use kernel::alloc::{
    AllocError,
    Flags,
    KBox, //
};

/// Most slots of a node: what one word can keep in order.
///
/// Nodes with eight slots, a byte for each, make the tree higher by half and are split twice as often: insertions were
/// measured to take a tenth more instructions.
pub(super) const CAPACITY: usize = Order::CAPACITY;

/// How many slots a node keeps that is split.
pub(super) const HALF: usize = CAPACITY / 2 + 1;

/// One place more than there are slots, a power of two: a leaf does not use the first one, an inner node not the last.
const SLOTS: usize = CAPACITY + 1;

/// Fewest slots of a leaf that is not the root. Less than half, so that a removal right after a split, or the reverse, does not
/// undo it.
pub(super) const MIN_LEAF: usize = 6;

/// Fewest slots of an inner node that is not the root. More than in a leaf, since they come and go rarely.
pub(super) const MIN_INNER: usize = 7;

/// Most slots of a node that two become: the next insertions are not to split it. Any more are enough for two.
pub(super) const MOST_MERGED: usize = 13;

const _: () =
    assert!(MOST_MERGED < CAPACITY && (MOST_MERGED + 1) / 2 >= MIN_INNER && MIN_INNER >= MIN_LEAF);

/// A pointer to a node of a tree.
pub(super) type NodePtr<B> = Ptr<B, Node<B>>;

/// A pointer to a hook that is linked in a tree.
pub(super) type HookPtr<B> = Ptr<B, Hook<B>>;

/// The tree's part of what is linked: where it is.
#[repr(C)]
pub(super) struct Hook<B> {
    /// None if it is in no tree.
    pub(super) leaf: Option<NodePtr<B>>,
    pub(super) slot: usize,
    /// Among equal starts, the order: what came later has a greater one.
    pub(super) serial: u64,
}

impl Hook<Stored> {
    /// In no tree.
    pub(super) const UNLINKED: Self = Self {
        leaf: None,
        slot: 0,
        serial: 0,
    };
}

/// What a slot in use links.
pub(super) enum Link<B> {
    /// In a leaf: the hook of an interval.
    Hook(HookPtr<B>),
    /// In an inner node.
    Child(NodePtr<B>),
}

impl<B> Clone for Link<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Link<B> {}

/// What a slot in use holds: one interval in a leaf, or one child of an inner node.
pub(super) struct Slot<B> {
    /// A leaf's interval starts here; what is below a child starts here or later, and what is below the child before
    /// starts here or earlier.
    pub(super) start: u64,
    /// A leaf's interval ends here; this is the greatest end below a child.
    pub(super) last: u64,
    pub(super) link: Link<B>,
}

impl<B> Slot<B> {
    /// What a leaf has for a hook.
    #[inline]
    pub(super) fn for_hook(hook: HookPtr<B>, interval: Interval) -> Self {
        Self {
            start: interval.start(),
            last: interval.last(),
            link: Link::Hook(hook),
        }
    }

    /// What an inner node has for a child, below which nothing starts before `start` and nothing ends behind `last`.
    #[inline]
    pub(super) fn for_child(child: NodePtr<B>, start: u64, last: u64) -> Self {
        Self {
            start,
            last,
            link: Link::Child(child),
        }
    }
}

/// Where a slot that is not in use starts: behind whatever is looked for.
pub(super) const UNUSED_START: u64 = u64::MAX;

/// Where it ends: before whatever is looked for.
const UNUSED_LAST: u64 = 0;

/// A node.
///
/// In a leaf, slots stay where they are, and `order` says in which order they come: nothing is moved when others come and
/// go, and a hook can say where its slot is. An inner node has its slots in their order, from 0 on, so that a
/// search can leave most of them out.
///
/// Slots are numbered modulo [`SLOTS`], which costs nothing and lets the compiler do without checks.
///
/// # Invariants
///
/// - The slots in use are, in a leaf, those that `order` says, in an inner node as many of the first. They are in order of
///   start. The others start at [`UNUSED_START`] and end at [`UNUSED_LAST`].
/// - If the tree is borrowed by `B`, what a slot in use links may be followed by `B`: in a leaf a [`Hook<B>`], above a
///   [`Node<B>`].
/// - The first slot of an inner node starts at 0: what it really starts with, the nodes above know.
#[repr(C)]
pub(super) struct Node<B> {
    pub(super) parent: Option<NodePtr<B>>,
    order: Order,
    /// The distance to the leaves.
    level: usize,
    start: [u64; SLOTS],
    last: [u64; SLOTS],
    link: [NonNull<()>; SLOTS],
}

impl Node<Stored> {
    /// A leaf that uses no slot.
    pub(super) fn new(flags: Flags) -> Result<KBox<Self>, AllocError> {
        let mut memory = KBox::<Self>::new_uninit(flags)?;
        let node = memory.as_mut_ptr();
        // Field by field: to move a node there would take three times as long.
        // SAFETY: There is memory for a node, of which these are the fields.
        unsafe {
            (&raw mut (*node).parent).write(None);
            (&raw mut (*node).order).write(Order::EMPTY);
            (&raw mut (*node).level).write(0);
            (&raw mut (*node).start).write([UNUSED_START; SLOTS]);
            (&raw mut (*node).last).write([UNUSED_LAST; SLOTS]);
            (&raw mut (*node).link).write([NonNull::dangling(); SLOTS]);
        }
        // INVARIANT: It says that it uses no slot.
        // SAFETY: All fields have been written.
        Ok(unsafe { memory.assume_init() })
    }

    /// Pointers to what the slots in use link, in order.
    pub(super) fn links(&self) -> impl Iterator<Item = NonNull<()>> + '_ {
        (0..self.len()).map(|rank| self.link[self.nth(rank) % SLOTS])
    }
}

impl<B> Node<B> {
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
        self.start[slot % SLOTS]
    }

    #[inline]
    pub(super) fn last(&self, slot: usize) -> u64 {
        self.last[slot % SLOTS]
    }

    /// The interval of a leaf's slot.
    #[inline]
    pub(super) fn interval(&self, slot: usize) -> Interval {
        Interval::of_linked(self.start(slot), self.last(slot))
    }

    /// Whether there are fewer slots in use than a node may have that is not the root.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.len() < if self.is_leaf() { MIN_LEAF } else { MIN_INNER }
    }

    /// The distance to the leaves.
    #[inline]
    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// Whether `slot` is in use.
    fn uses(&self, slot: usize) -> bool {
        if self.is_leaf() {
            self.order.uses(slot)
        } else {
            slot < self.len()
        }
    }

    /// The child that a slot links; none if this is a leaf or does not use the slot.
    pub(super) fn child(&self, slot: usize) -> Option<NodePtr<B>>
    where
        B: Borrow,
    {
        // SAFETY: Checked just now.
        (!self.is_leaf() && self.uses(slot)).then(|| unsafe { self.child_unchecked(slot) })
    }

    /// The child that a slot links.
    ///
    /// # Safety
    ///
    /// This is an inner node, and uses `slot`.
    #[inline]
    pub(super) unsafe fn child_unchecked(&self, slot: usize) -> NodePtr<B>
    where
        B: Borrow,
    {
        // SAFETY: By the type invariant and the precondition.
        unsafe { Ptr::new(self.link[slot % SLOTS].cast()) }
    }

    /// The hook that a slot links; none if this is an inner node or does not use the slot.
    pub(super) fn hook(&self, slot: usize) -> Option<HookPtr<B>>
    where
        B: Borrow,
    {
        // SAFETY: Checked just now.
        (self.is_leaf() && self.uses(slot)).then(|| unsafe { self.hook_unchecked(slot) })
    }

    /// The hook that a slot links.
    ///
    /// # Safety
    ///
    /// This is a leaf, and uses `slot`.
    #[inline]
    pub(super) unsafe fn hook_unchecked(&self, slot: usize) -> HookPtr<B>
    where
        B: Borrow,
    {
        // SAFETY: By the type invariant and the precondition.
        unsafe { Ptr::new(self.link[slot % SLOTS].cast()) }
    }

    /// Changes what a slot in use holds, but not the order. In a leaf it is to be for a hook, above for a child.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, content: Slot<B>) {
        self.start[slot % SLOTS] = content.start;
        self.last[slot % SLOTS] = content.last;
        // INVARIANT: `B` allows to follow it.
        self.link[slot % SLOTS] = match content.link {
            Link::Hook(hook) => hook.as_non_null().cast(),
            Link::Child(child) => child.as_non_null().cast(),
        };
    }

    /// Changes where what is below a slot of an inner node starts.
    #[inline]
    pub(super) fn set_start(&mut self, slot: usize, start: u64) {
        self.start[slot % SLOTS] = start;
    }

    /// Changes the greatest end below a slot of an inner node.
    #[inline]
    pub(super) fn set_last(&mut self, slot: usize, last: u64) {
        self.last[slot % SLOTS] = last;
    }

    /// Gives a slot in use an interval that leaves it where it is in the order.
    #[inline]
    pub(super) fn set_interval(&mut self, slot: usize, interval: Interval) {
        self.start[slot % SLOTS] = interval.start();
        self.last[slot % SLOTS] = interval.last();
    }

    /// The slot at `rank` in the order.
    #[inline]
    pub(super) fn nth(&self, rank: usize) -> usize {
        if self.is_leaf() {
            self.order.slot(rank)
        } else {
            rank
        }
    }

    /// The slot that is last in the order; any if none is in use.
    #[inline]
    pub(super) fn last_slot(&self) -> usize {
        self.nth(self.len().wrapping_sub(1))
    }

    /// How many slots of a leaf start at `start` or before. Not for [`UNUSED_START`].
    ///
    /// It looks at all of them, without waiting for one to be able to look at the next.
    #[inline]
    pub(super) fn rank_behind(&self, start: u64) -> usize {
        let count = |count: usize, slot: &u64| count.wrapping_add(usize::from(*slot <= start));
        // The first place is never used.
        self.start.iter().skip(1).fold(0, count)
    }

    /// The slot of an inner node below which something that starts at `start` belongs. It is in use unless `start` is
    /// [`UNUSED_START`].
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

    /// The first slot of an inner node below which something ends at `last` or later, if there is one. It is in use.
    #[inline]
    pub(super) fn first_reaching(&self, last: u64) -> Option<usize> {
        // Those that are not in use end at 0: that is asked for only if any will do, and the first is in use.
        self.last.iter().position(|end| *end >= last)
    }

    /// The first such slot behind `slot`, if there is one. It is in use.
    #[inline]
    pub(super) fn next_reaching(&self, mut slot: usize, last: u64) -> Option<usize> {
        slot = slot.wrapping_add(1);
        // Two at a time: there is a place behind the last slot, and it does not reach anywhere the last slot does not.
        while slot < self.len() {
            let next = slot.wrapping_add(1);
            if self.last(slot) >= last {
                return Some(slot);
            }
            if self.last(next) >= last {
                return Some(next);
            }
            slot = next.wrapping_add(1);
        }
        None
    }

    /// The slot of an inner node that links `child`.
    #[inline]
    pub(super) fn slot_of(&self, child: NodePtr<B>) -> Option<usize> {
        let child = child.as_non_null().cast();
        self.link.iter().position(|link| *link == child)
    }

    /// The greatest end.
    #[inline]
    pub(super) fn greatest_last(&self) -> u64 {
        self.last.iter().copied().fold(0, u64::max)
    }

    /// Whether every place that is not in use looks so.
    pub(super) fn unused_are_empty(&self) -> bool {
        (self.len()..CAPACITY)
            .map(|rank| self.nth(rank))
            .chain([if self.is_leaf() { 0 } else { CAPACITY }])
            .map(|slot| (self.start(slot), self.last(slot)))
            .all(|unused| unused == (UNUSED_START, UNUSED_LAST))
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

    /// Puts a hook at `rank` into a leaf that is not full; returns the slot.
    #[inline]
    pub(super) fn put(&mut self, rank: usize, hook: HookPtr<B>, interval: Interval) -> usize {
        let slot = self.order.insert(rank);
        self.set(slot, Slot::for_hook(hook, interval));
        slot
    }

    /// Empties a slot that a leaf uses; returns the slot behind it, which need not be in use.
    #[inline]
    pub(super) fn take(&mut self, slot: usize) -> usize {
        let next = self.order.remove(slot);
        self.clear(slot);
        next
    }

    /// Lets a slot start and end like one that is not in use.
    #[inline]
    fn clear(&mut self, slot: usize) {
        self.start[slot % SLOTS] = UNUSED_START;
        self.last[slot % SLOTS] = UNUSED_LAST;
    }

    /// Puts `content` at `rank` into a node that is not full; returns the slot.
    pub(super) fn insert(&mut self, rank: usize, content: Slot<B>) -> usize {
        let slot = self.make_room(rank);
        self.set(slot, content);
        slot
    }

    /// Takes a slot that is not in use, of which there must be one, to be at `rank`.
    fn make_room(&mut self, rank: usize) -> usize {
        if self.is_leaf() {
            return self.order.insert(rank);
        }
        for slot in (rank..self.len()).rev() {
            self.shift(slot, slot + 1);
        }
        // INVARIANT: The slots behind have moved.
        self.set_len(self.len() + 1);
        rank
    }

    /// Takes a slot in use out of an inner node.
    pub(super) fn remove(&mut self, slot: usize) {
        for slot in slot + 1..self.len() {
            self.shift(slot, slot - 1);
        }
        // INVARIANT: The slots behind have moved up.
        self.set_len(self.len() - 1);
        self.clear(self.len());
    }

    /// Copies what a slot of an inner node holds to another one.
    fn shift(&mut self, from: usize, to: usize) {
        self.start[to % SLOTS] = self.start(from);
        self.last[to % SLOTS] = self.last(from);
        self.link[to % SLOTS] = self.link[from % SLOTS];
    }

    /// Moves the second half of a full node to `other`, fresh and of the same level. `moved` is told what each slot of
    /// `other` links. Returns the greatest end that has moved.
    #[inline]
    pub(super) fn split_off(
        &mut self,
        other: &mut Self,
        mut moved: impl FnMut(Link<B>, usize),
    ) -> u64
    where
        B: Borrow,
    {
        let order = self.order;
        let greatest = if self.is_leaf() {
            self.move_half(
                other,
                |rank| order.slot(rank),
                1,
                // SAFETY: By the type invariant.
                |raw, to| moved(Link::Hook(unsafe { Ptr::new(raw.cast()) }), to),
            )
        } else {
            self.move_half(
                other,
                |rank| rank,
                0,
                // SAFETY: By the type invariant.
                |raw, to| moved(Link::Child(unsafe { Ptr::new(raw.cast()) }), to),
            )
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
        other: &mut Self,
        from: impl Fn(usize) -> usize,
        first: usize,
        mut moved: impl FnMut(NonNull<()>, usize),
    ) -> u64 {
        let mut greatest = 0;
        for rank in HALF..CAPACITY {
            let (from, to) = (from(rank), rank - HALF + first);
            greatest = self.last(from).max(greatest);
            moved(self.move_slot(from, other, to), to);
        }
        greatest
    }

    /// Moves the first `count` slots in use to the end of `other`, a node of the same level with room for them. `moved` is
    /// told what each slot of `other` links. Returns the greatest end that has moved.
    pub(super) fn move_first(
        &mut self,
        count: usize,
        other: &mut Self,
        mut moved: impl FnMut(Link<B>, usize),
    ) -> u64
    where
        B: Borrow,
    {
        let (len, first) = (self.len(), other.len());
        let mut greatest = 0;
        if self.is_leaf() {
            let (from, to) = (self.order, other.order);
            for rank in 0..count {
                let (from, to) = (from.slot(rank), to.slot(first + rank));
                greatest = self.last(from).max(greatest);
                let raw = self.move_slot(from, other, to);
                // SAFETY: By the type invariant, a slot of a leaf links a hook.
                moved(Link::Hook(unsafe { Ptr::new(raw.cast()) }), to);
            }
            self.order.rotate(count);
        } else if count > 0 {
            for rank in 0..count {
                let to = first + rank;
                greatest = self.last(rank).max(greatest);
                let raw = self.move_slot(rank, other, to);
                // SAFETY: By the type invariant, a slot of an inner node links a node.
                moved(Link::Child(unsafe { Ptr::new(raw.cast()) }), to);
            }
            for slot in count..len {
                self.shift(slot, slot - count);
                self.clear(slot);
            }
        }
        // INVARIANT: There the slots are the first that were not in use, here they come behind the others now.
        other.set_len(first + count);
        self.set_len(len - count);
        greatest
    }

    /// As [`Self::move_first`], the last `count` slots in use to the front of `other`.
    pub(super) fn move_last(
        &mut self,
        count: usize,
        other: &mut Self,
        mut moved: impl FnMut(Link<B>, usize),
    ) -> u64
    where
        B: Borrow,
    {
        let len = self.len();
        let mut greatest = 0;
        if self.is_leaf() {
            let order = self.order;
            for rank in (len - count..len).rev() {
                let (from, to) = (order.slot(rank), other.order.insert(0));
                greatest = self.last(from).max(greatest);
                let raw = self.move_slot(from, other, to);
                // SAFETY: By the type invariant, a slot of a leaf links a hook.
                moved(Link::Hook(unsafe { Ptr::new(raw.cast()) }), to);
            }
        } else if count > 0 {
            for slot in (0..other.len()).rev() {
                other.shift(slot, slot + count);
            }
            // INVARIANT: The slots behind have moved.
            other.set_len(other.len() + count);
            for to in 0..count {
                let from = len - count + to;
                greatest = self.last(from).max(greatest);
                let raw = self.move_slot(from, other, to);
                // SAFETY: By the type invariant, a slot of an inner node links a node.
                moved(Link::Child(unsafe { Ptr::new(raw.cast()) }), to);
            }
        }
        // INVARIANT: They were the last.
        self.set_len(len - count);
        greatest
    }

    /// Moves what a slot holds; returns what it links.
    #[inline]
    fn move_slot(&mut self, from: usize, other: &mut Self, to: usize) -> NonNull<()> {
        let link = self.link[from % SLOTS];
        other.start[to % SLOTS] = self.start(from);
        other.last[to % SLOTS] = self.last(from);
        other.link[to % SLOTS] = link;
        self.clear(from);
        link
    }

    /// Tells an inner node what its first slot starts with, or to forget it.
    pub(super) fn set_first_start(&mut self, start: u64) {
        self.start[0] = start;
    }
}
