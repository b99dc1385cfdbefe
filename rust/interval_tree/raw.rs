// SPDX-License-Identifier: GPL-2.0-only

//! The tree proper. It links [`Hook`]s and knows nothing of what they are part of.

use super::{
    node::{
        Hook,
        Node,
        Ptr,
        Slot,
        CAPACITY,
        HALF,
        MIN, //
    },
    Interval, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// An upper bound of the nodes that `len` intervals can need.
///
/// Nodes but the root have [`MIN`] slots or more. So there are at most `len / MIN` leaves, a `MIN`th of that
/// right above them, and so on: together less than `len / (MIN - 1)`; and a root. It grows by at most one with each
/// interval, which is why a reservation with one node suffices: the tree keeps nodes up to this bound and gives
/// back the others.
pub(super) fn most_nodes(len: usize) -> usize {
    len.div_ceil(MIN - 1)
}

/// Whether [`most_nodes`] is greater for one interval more than `len`.
#[inline]
fn next_needs_node(len: usize) -> bool {
    len % (MIN - 1) == 0
}

/// Points `link` back to `slot` of `node`, which links it.
///
/// # Safety
///
/// `node` is of that `level`, in a tree to which the caller has exclusive access, and there is no reference to what is
/// linked.
#[inline]
unsafe fn point_back(link: Ptr<()>, level: usize, node: Ptr<Node>, slot: usize) {
    if level == 0 {
        // SAFETY: By the precondition; a leaf links hooks, which the tree owns alone.
        let hook = unsafe { &mut *link.cast::<Hook>().as_ptr() };
        hook.leaf = node;
        hook.slot = slot;
    } else {
        // SAFETY: By the precondition; an inner node links nodes, which the tree owns alone.
        unsafe { (*link.cast::<Node>().as_ptr()).parent = Some(node) };
    }
}

/// A B+-tree of hooks.
///
/// # Invariants
///
/// - A [`Ptr`] in the tree, in a linked hook or among the spare nodes points to a live node or hook
///   that the tree owns alone. So a shared borrow of the tree allows reading all of them, and a
///   mutable one, writing.
/// - Spare nodes use no slot.
/// - The tree has [`most_nodes`]`(len)` nodes, spare ones included.
/// - What is below a slot of an inner node starts where the slot does, or later, and not behind where the next slot
///   starts. The slot's `last` is the greatest one in the child.
/// - No other tree, of now or of the past, has the same `number`, unless that is zero: then this one has had no interval
///   yet.
/// - Hooks are in the order of (start, serial), and no serial is greater than that of the tree.
pub(super) struct RawTree {
    root: Option<Ptr<Node>>,
    /// Unused nodes, chained by `parent`.
    spare: Option<Ptr<Node>>,
    len: usize,
    number: u64,
    serial: u64,
}

impl RawTree {
    pub(super) const fn new() -> Self {
        // INVARIANT: No pointers, no nodes, no intervals.
        Self {
            root: None,
            spare: None,
            len: 0,
            number: 0,
            serial: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A number that no other tree has; zero if this one has had no interval yet.
    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    #[inline]
    pub(super) fn root(&self) -> Option<Ptr<Node>> {
        self.root
    }

    /// Reads a node of this tree.
    #[inline]
    pub(super) fn node(&self, ptr: Ptr<Node>) -> &Node {
        // SAFETY: By the type invariant.
        unsafe { &*ptr.as_ptr() }
    }

    #[inline]
    fn node_mut(&mut self, ptr: Ptr<Node>) -> &mut Node {
        // SAFETY: By the type invariant.
        unsafe { &mut *ptr.as_ptr() }
    }

    /// Two nodes at once.
    ///
    /// # Safety
    ///
    /// They are not the same.
    unsafe fn two_nodes_mut(&mut self, one: Ptr<Node>, other: Ptr<Node>) -> (&mut Node, &mut Node) {
        // SAFETY: By the type invariant; they are distinct, so their borrows do not overlap.
        unsafe { (&mut *one.as_ptr(), &mut *other.as_ptr()) }
    }

    /// Reads a hook linked in this tree.
    #[inline]
    pub(super) fn hook(&self, ptr: Ptr<Hook>) -> Hook {
        // SAFETY: By the type invariant.
        unsafe { *ptr.as_ptr() }
    }

    #[inline]
    fn hook_mut(&mut self, ptr: Ptr<Hook>) -> &mut Hook {
        // SAFETY: By the type invariant.
        unsafe { &mut *ptr.as_ptr() }
    }

    /// Keeps a node that uses no slot.
    fn put_spare(&mut self, node: Ptr<Node>) {
        let next = self.spare.replace(node);
        self.node_mut(node).parent = next;
    }

    fn pop_spare(&mut self) -> Option<Ptr<Node>> {
        let node = self.spare?;
        self.spare = self.node(node).parent;
        Some(node)
    }

    /// Takes a spare node.
    ///
    /// There is one: with it, the tree uses no more nodes than it has by its invariant.
    fn take_spare(&mut self, level: usize) -> Option<Ptr<Node>> {
        let node = self.pop_spare()?;
        self.node_mut(node).make_fresh(level);
        Some(node)
    }

    /// Links `hook`, and returns the memory that the tree does not need.
    #[inline]
    pub(super) fn insert(
        &mut self,
        hook: Ptr<Hook>,
        node: KBox<Node>,
        interval: Interval,
    ) -> Option<KBox<Node>> {
        let surplus = if next_needs_node(self.len) {
            self.put_spare(Ptr::new(NonNull::from(KBox::leak(node))));
            None
        } else {
            Some(node)
        };
        self.len = self.len.wrapping_add(1);
        self.link(hook, interval);
        surplus
    }

    /// Unlinks `hook`, and returns the memory that the tree needs no more.
    #[inline]
    pub(super) fn remove(&mut self, hook: Ptr<Hook>) -> Option<KBox<Node>> {
        let Hook { leaf, slot, .. } = self.hook(hook);
        self.unlink(leaf, slot);
        self.len = self.len.wrapping_sub(1);
        if !next_needs_node(self.len) {
            return None;
        }
        let node = self.pop_spare()?;
        // SAFETY: It came from a `KBox`, and no longer among the spare nodes, it is nobody's.
        Some(unsafe { KBox::from_raw(node.as_ptr()) })
    }

    /// Gives `hook` another interval.
    pub(super) fn update(&mut self, hook: Ptr<Hook>, interval: Interval) {
        let Hook { leaf, slot, .. } = self.hook(hook);
        if !self.fits(leaf, slot, interval.start) {
            self.unlink(leaf, slot);
            return self.link(hook, interval);
        }
        if self.node(leaf).start(slot) != interval.start {
            // INVARIANT: It now comes last among equal starts, as in `link`.
            self.serial = self.serial.wrapping_add(1);
            self.hook_mut(hook).serial = self.serial;
        }
        let node = self.node_mut(leaf);
        let before = node.last(slot);
        node.set_interval(slot, interval);
        if interval.last > before {
            self.raise_last(leaf, interval.last);
        } else {
            self.lower_last(leaf, before);
        }
    }

    /// The interval of a linked hook.
    #[inline]
    pub(super) fn interval(&self, hook: Ptr<Hook>) -> Interval {
        let Hook { leaf, slot, .. } = self.hook(hook);
        self.node(leaf).slot(slot).interval()
    }

    /// The slot that starts last.
    pub(super) fn last(&self) -> Option<Slot> {
        let mut node = self.node(self.root?);
        loop {
            let slot = node.slot(node.nth(node.len().checked_sub(1)?));
            if node.is_leaf() {
                return Some(slot);
            }
            node = self.node(slot.child());
        }
    }

    pub(super) fn spare_nodes(&self) -> usize {
        core::iter::successors(self.spare, |node| self.node(*node).parent).count()
    }

    /// Whether an interval can start at `start` without leaving its place.
    #[inline]
    fn fits(&self, leaf: Ptr<Node>, slot: usize, start: u64) -> bool {
        let node = self.node(leaf);
        let before = node.start(slot);
        if start == before {
            return true;
        }
        if start < before {
            // The first of a leaf is bounded by the nodes above, which must not start later.
            let previous = node.order().previous(slot);
            return previous.is_some_and(|previous| node.start(previous) <= start);
        }
        match node.order().next(slot) {
            Some(next) => start < node.start(next),
            None => self.start_behind(leaf).is_none_or(|next| start < next),
        }
    }

    /// Where what is behind `node` may start.
    fn start_behind(&self, mut node: Ptr<Node>) -> Option<u64> {
        loop {
            let (parent, slot) = self.place(node)?;
            let above = self.node(parent);
            if slot + 1 < above.len() {
                return Some(above.start(slot + 1));
            }
            node = parent;
        }
    }

    /// The parent of `node` and its slot there; none for the root.
    #[inline]
    pub(super) fn place(&self, node: Ptr<Node>) -> Option<(Ptr<Node>, usize)> {
        let parent = self.node(node).parent?;
        Some((parent, self.node(parent).slot_of(node)?))
    }

    /// Puts a slot for `hook` where `interval` belongs.
    #[inline]
    fn link(&mut self, hook: Ptr<Hook>, interval: Interval) {
        // INVARIANT: 64 bits do not wrap.
        self.serial = self.serial.wrapping_add(1);
        if interval.start == u64::MAX {
            return self.link_greatest(hook, interval);
        }
        self.link_below(hook, interval, Node::child_for, Node::rank_behind);
    }

    /// The same for an interval that starts as late as can be.
    #[cold]
    fn link_greatest(&mut self, hook: Ptr<Hook>, interval: Interval) {
        let last = |node: &Node, _| node.len().saturating_sub(1);
        self.link_below(hook, interval, last, |leaf, _| leaf.len());
    }

    /// The same; `child` says below which slot of an inner node what starts somewhere belongs, and `rank`, at which
    /// rank of a leaf.
    fn link_below(
        &mut self,
        hook: Ptr<Hook>,
        interval: Interval,
        child: impl Fn(&Node, u64) -> usize,
        rank: impl Fn(&Node, u64) -> usize,
    ) {
        let Some(mut at) = self.root else {
            return self.link_first(hook, interval);
        };
        let mut node = self.node_mut(at);
        while !node.is_leaf() {
            let slot = child(node, interval.start);
            if node.last(slot) < interval.last {
                node.set_last(slot, interval.last);
            }
            at = node.link(slot).cast();
            node = self.node_mut(at);
        }
        let rank = rank(node, interval.start);
        if node.is_full() {
            return self.split(at, rank, hook, interval);
        }
        let slot = node.put(rank, Slot::for_hook(hook, interval));
        let serial = self.serial;
        // INVARIANT: It comes last among equal starts, and has the greatest serial.
        *self.hook_mut(hook) = Hook {
            leaf: at,
            slot,
            serial,
        };
    }

    /// The same in a tree without nodes.
    #[cold]
    fn link_first(&mut self, hook: Ptr<Hook>, interval: Interval) {
        static NEXT: Atomic<u64> = Atomic::<u64>::new(1);

        if self.number == 0 {
            // INVARIANT: 64 bits do not wrap.
            self.number = NEXT.fetch_add(1, Relaxed);
        }
        self.root = self.take_spare(0);
        if self.root.is_some() {
            self.link(hook, interval);
        }
    }

    /// Puts a slot for `hook` at `rank` in the leaf `left`, which is full and so has to be split; and so on with
    /// those above.
    #[cold]
    fn split(&mut self, mut left: Ptr<Node>, mut rank: usize, hook: Ptr<Hook>, interval: Interval) {
        let mut content = Slot::for_hook(hook, interval);
        // INVARIANT: As in `link_below`.
        self.hook_mut(hook).serial = self.serial;
        loop {
            let level = self.node(left).level;
            let Some(right) = self.take_spare(level) else {
                return;
            };
            // SAFETY: A spare node is not one in use.
            let (from, to) = unsafe { self.two_nodes_mut(left, right) };
            // SAFETY: It is what a slot of the tree links.
            let mut last = from.split_off(to, level, |link, slot| unsafe {
                point_back(link, level, right, slot)
            });
            if rank <= HALF {
                self.put_slot(left, rank, content);
            } else {
                self.put_slot(right, rank - HALF, content);
                last = last.max(content.last);
            }
            let this = self.node(right);
            content = Slot {
                start: this.start(this.nth(0)),
                last,
                link: right.cast(),
            };
            if level > 0 {
                self.node_mut(right).set_first_start(0);
            }

            let Some((parent, slot)) = self.place(left) else {
                let Some(root) = self.take_spare(level + 1) else {
                    return;
                };
                let mut first = self.slot_for(left);
                first.start = 0;
                self.put_slot(root, 0, first);
                self.put_slot(root, 1, content);
                self.root = Some(root);
                return;
            };
            if content.last == self.node(parent).last(slot) {
                // Or else the greatest end has stayed on the left.
                self.refresh(parent, slot, left);
            }
            left = parent;
            rank = slot + 1;
            if !self.node(left).is_full() {
                return self.put_slot(left, rank, content);
            }
        }
    }

    /// Puts `content` at `rank` in `node`, which is not full.
    fn put_slot(&mut self, node: Ptr<Node>, rank: usize, content: Slot) {
        let slot = self.node_mut(node).insert(rank, content);
        self.adopt(node, slot);
    }

    /// Points what a slot of `node` links back to it.
    fn adopt(&mut self, node: Ptr<Node>, slot: usize) {
        let this = self.node(node);
        // SAFETY: It is what a slot of the tree links.
        unsafe { point_back(this.link(slot), this.level, node, slot) };
    }

    /// The slot by which an inner node links `node`.
    fn slot_for(&self, node: Ptr<Node>) -> Slot {
        let this = self.node(node);
        Slot {
            start: this.start(this.nth(0)),
            last: this.greatest_last(),
            link: node.cast(),
        }
    }

    /// Brings the `last` of `node`'s slot in `parent` up to date.
    fn refresh(&mut self, parent: Ptr<Node>, slot: usize, node: Ptr<Node>) {
        let last = self.node(node).greatest_last();
        self.node_mut(parent).set_last(slot, last);
    }

    /// Tells the nodes above that `node` got an interval that ends at `last`.
    fn raise_last(&mut self, mut node: Ptr<Node>, last: u64) {
        while let Some((parent, slot)) = self.place(node) {
            let above = self.node_mut(parent);
            if above.last(slot) >= last {
                return;
            }
            above.set_last(slot, last);
            node = parent;
        }
    }

    /// Tells the nodes above that `leaf` lost an interval that ended at `last`.
    #[inline]
    fn lower_last(&mut self, leaf: Ptr<Node>, last: u64) {
        if !self.node(leaf).leaf_reaches(last) {
            self.lower_greatest(leaf, last);
        }
    }

    /// The same for any node, if that was the greatest end below it.
    #[inline(never)]
    fn lower_greatest(&mut self, mut node: Ptr<Node>, last: u64) {
        while let Some((parent, slot)) = self.place(node) {
            self.refresh(parent, slot, node);
            if self.node(parent).reaches(last) {
                return;
            }
            node = parent;
        }
    }

    /// Empties a slot of a leaf.
    #[inline(always)] // so that an update looks for the slot in the leaf's order once
    fn unlink(&mut self, leaf: Ptr<Node>, slot: usize) {
        let node = self.node_mut(leaf);
        let last = node.last(slot);
        let next = node.take(slot);
        if node.len() < MIN {
            self.refill(leaf, last);
        } else if node.last(next) < last {
            // What is behind mostly ends later, so that the processor can foresee that there is no more to do.
            self.lower_last(leaf, last);
        }
    }

    /// Gives `node`, which has too few slots, some of a neighbour, or the neighbour its own; and so on with
    /// those above. It has lost an interval that ended at `last`.
    #[cold]
    fn refill(&mut self, mut node: Ptr<Node>, last: u64) {
        loop {
            let Some((parent, slot)) = self.place(node) else {
                return self.shrink_root(node);
            };
            let above = self.node(parent);
            let left_slot = slot.saturating_sub(1);
            let right_slot = left_slot + 1;
            let left = above.slot(left_slot).child();
            let Slot { start, link, .. } = above.slot(right_slot);
            let right = link.cast();
            let inner = above.level > 1;
            if inner {
                self.node_mut(right).set_first_start(start);
            }
            if self.merge(left, right) {
                self.node_mut(parent).remove(right_slot);
            } else {
                self.balance(left, right);
                let content = self.slot_for(right);
                if inner {
                    self.node_mut(right).set_first_start(0);
                }
                self.node_mut(parent).set(right_slot, content);
            }
            self.refresh(parent, left_slot, left);
            if self.node(parent).len() >= MIN {
                if !self.node(parent).reaches(last) {
                    self.lower_greatest(parent, last);
                }
                return;
            }
            node = parent;
        }
    }

    /// Takes a root that is of no use out of the tree.
    fn shrink_root(&mut self, root: Ptr<Node>) {
        let node = self.node(root);
        match (node.is_leaf(), node.len()) {
            (true, 0) => self.root = None,
            (false, 1) => {
                let child = self.node_mut(root).remove(0).child();
                self.node_mut(child).parent = None;
                self.root = Some(child);
            }
            _ => return,
        }
        self.put_spare(root);
    }

    /// Moves all of `right` to `left`, if that has room. Then `right` is spare.
    fn merge(&mut self, left: Ptr<Node>, right: Ptr<Node>) -> bool {
        if self.node(left).len() + self.node(right).len() > CAPACITY {
            return false;
        }
        let level = self.node(left).level;
        // SAFETY: No two slots link the same node.
        let (to, from) = unsafe { self.two_nodes_mut(left, right) };
        // SAFETY: It is what a slot of the tree links.
        from.move_all(to, |link, slot| unsafe {
            point_back(link, level, left, slot)
        });
        self.put_spare(right);
        true
    }

    /// Makes neighbours equally long.
    fn balance(&mut self, left: Ptr<Node>, right: Ptr<Node>) {
        let half = (self.node(left).len() + self.node(right).len()) / 2;
        while self.node(left).len() < half {
            let content = self.node_mut(right).remove(0);
            let slot = self.node_mut(left).append(content);
            self.adopt(left, slot);
        }
        while self.node(left).len() > half {
            let end = self.node(left).len() - 1;
            let content = self.node_mut(left).remove(end);
            self.put_slot(right, 0, content);
        }
    }

    /// Empties the tree: hands each hook and each node's memory over.
    pub(super) fn clear(&mut self, mut each: impl FnMut(Ptr<Hook>)) {
        let mut tree = core::mem::replace(self, Self::new());
        if let Some(root) = tree.root {
            // SAFETY: The tree that owned the nodes is gone, and nobody else knows of them.
            unsafe { Self::free(root, &mut each) };
        }
        while let Some(node) = tree.pop_spare() {
            // SAFETY: It came from a `KBox`, and no longer among the spare nodes, it is nobody's.
            drop(unsafe { KBox::from_raw(node.as_ptr()) });
        }
    }

    /// Frees `node` and what is below. The recursion is as deep as the tree is high.
    ///
    /// # Safety
    ///
    /// These nodes came from a `KBox` each, and nobody else follows pointers to them.
    unsafe fn free(node: Ptr<Node>, each: &mut impl FnMut(Ptr<Hook>)) {
        // SAFETY: By the precondition.
        let node = unsafe { KBox::from_raw(node.as_ptr()) };
        for slot in node.slots() {
            if node.is_leaf() {
                each(slot.hook());
            } else {
                // SAFETY: By the precondition.
                unsafe { Self::free(slot.child(), each) };
            }
        }
    }
}
