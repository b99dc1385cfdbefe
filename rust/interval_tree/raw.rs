// SPDX-License-Identifier: GPL-2.0

//! The tree proper. It links [`Hook`]s and knows nothing of what they are part of.

use super::{
    node::{
        Hook,
        Node,
        Ptr,
        Slot,
        CAPACITY,
        MIN, //
    },
    Interval, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// An upper bound of the nodes that `len` intervals can need.
///
/// Nodes but the root have [`MIN`] slots or more. So there are at most `len / MIN` leaves, a `MIN`th of that
/// right above them, and so on, and a root. It grows by at most one with each interval, which is why a
/// reservation with one node suffices: the tree keeps nodes up to this bound and gives back the others.
pub(super) fn most_nodes(len: usize) -> usize {
    if len == 0 {
        0
    } else {
        1 + len / (MIN - 1)
    }
}

/// A B+-tree of hooks.
///
/// # Invariants
///
/// - A [`Ptr`] in the tree, in a linked hook or among the spare nodes points to a live node or hook
///   that the tree owns alone. So a shared borrow of the tree allows reading all of them, and a
///   mutable one, writing.
/// - The tree has [`most_nodes`]`(len)` nodes, spare ones included.
/// - A slot of an inner node starts where its child starts or before, but not before the end of the
///   child before it, and its `last` is the greatest one in the child.
pub(super) struct RawTree {
    root: Option<Ptr<Node>>,
    /// Unused nodes, chained by `parent`.
    spare: Option<Ptr<Node>>,
    /// Nodes in use and spare.
    nodes: usize,
    len: usize,
}

impl RawTree {
    pub(super) const fn new() -> Self {
        // INVARIANT: No pointers, no nodes, no intervals.
        Self {
            root: None,
            spare: None,
            nodes: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

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
    pub(super) fn hook(&self, ptr: Ptr<Hook>) -> &Hook {
        // SAFETY: By the type invariant.
        unsafe { &*ptr.as_ptr() }
    }

    #[inline]
    fn hook_mut(&mut self, ptr: Ptr<Hook>) -> &mut Hook {
        // SAFETY: By the type invariant.
        unsafe { &mut *ptr.as_ptr() }
    }

    /// Keeps `node` if one more interval may need it; else gives it back.
    fn stock(&mut self, node: KBox<Node>) -> Option<KBox<Node>> {
        if self.nodes >= most_nodes(self.len + 1) {
            return Some(node);
        }
        let node = Ptr::new(NonNull::from(KBox::leak(node)));
        self.nodes += 1;
        self.put_spare(node);
        None
    }

    /// Gives a node up if the intervals left cannot need it.
    fn unstock(&mut self) -> Option<KBox<Node>> {
        if self.nodes <= most_nodes(self.len) {
            return None;
        }
        let node = self.spare?;
        self.spare = self.node(node).parent;
        self.nodes -= 1;
        // SAFETY: It came from a `KBox`, and no longer among the spare nodes, it is nobody's.
        Some(unsafe { KBox::from_raw(node.as_ptr()) })
    }

    fn put_spare(&mut self, node: Ptr<Node>) {
        let next = self.spare.replace(node);
        self.node_mut(node).parent = next;
    }

    /// Takes a spare node, without slots.
    ///
    /// There is one: with it, the tree uses no more nodes than it has by its invariant.
    fn take_spare(&mut self, level: u32) -> Option<Ptr<Node>> {
        let node = self.spare?;
        self.spare = self.node(node).parent;
        let this = self.node_mut(node);
        this.level = level;
        this.parent = None;
        Some(node)
    }

    /// Links `hook`, and returns the memory that the tree does not need.
    pub(super) fn insert(
        &mut self,
        hook: Ptr<Hook>,
        node: KBox<Node>,
        interval: Interval,
    ) -> Option<KBox<Node>> {
        let surplus = self.stock(node);
        self.len += 1;
        self.link(hook, interval);
        surplus
    }

    /// Unlinks `hook`, and returns the memory that the tree needs no more.
    pub(super) fn remove(&mut self, hook: Ptr<Hook>) -> Option<KBox<Node>> {
        self.unlink(hook);
        self.len -= 1;
        self.unstock()
    }

    /// Gives `hook` another interval.
    pub(super) fn update(&mut self, hook: Ptr<Hook>, interval: Interval) {
        let leaf = self.hook(hook).leaf;
        let Some(index) = self.node(leaf).index_of_hook(hook) else {
            return;
        };
        if !self.fits(leaf, index, interval.start) {
            self.unlink(hook);
            self.link(hook, interval);
            return;
        }
        let Some(slot) = self.node_mut(leaf).slots_mut().get_mut(index) else {
            return;
        };
        let before = slot.last;
        slot.start = interval.start;
        slot.last = interval.last;
        if interval.last > before {
            self.raise_last(leaf, interval.last);
        } else {
            self.lower_last(leaf, before);
        }
    }

    /// The interval of a linked hook.
    pub(super) fn interval(&self, hook: Ptr<Hook>) -> Option<Interval> {
        let leaf = self.node(self.hook(hook).leaf);
        let index = leaf.index_of_hook(hook)?;
        Some(leaf.slots().get(index)?.interval())
    }

    /// The slot that starts last.
    pub(super) fn last(&self) -> Option<&Slot> {
        let mut node = self.node(self.root?);
        loop {
            let slot = node.slots().last()?;
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
    fn fits(&self, leaf: Ptr<Node>, index: usize, start: u64) -> bool {
        let slots = self.node(leaf).slots();
        let Some(slot) = slots.get(index) else {
            return false;
        };
        if start == slot.start {
            return true;
        }
        // The first of a leaf is bounded by the slot above, which must not start later.
        let after_previous = match index.checked_sub(1).and_then(|i| slots.get(i)) {
            Some(previous) => previous.start <= start,
            None => slot.start <= start,
        };
        let before_next = match slots.get(index + 1) {
            Some(next) => start < next.start,
            None => start < slot.start || self.start_behind(leaf).is_none_or(|next| start < next),
        };
        after_previous && before_next
    }

    /// Where what is behind `node` may start.
    fn start_behind(&self, mut node: Ptr<Node>) -> Option<u64> {
        loop {
            let (parent, index) = self.place(node)?;
            if let Some(next) = self.node(parent).slots().get(index + 1) {
                return Some(next.start);
            }
            node = parent;
        }
    }

    /// The parent of `node` and its index there; none for the root.
    #[inline]
    pub(super) fn place(&self, node: Ptr<Node>) -> Option<(Ptr<Node>, usize)> {
        let parent = self.node(node).parent?;
        Some((parent, self.node(parent).index_of_child(node)?))
    }

    /// Puts a slot for `hook` where `interval` belongs.
    fn link(&mut self, hook: Ptr<Hook>, interval: Interval) {
        let slot = Slot {
            start: interval.start,
            last: interval.last,
            link: hook.cast(),
        };
        let Some(mut at) = self.root.or_else(|| {
            self.root = self.take_spare(0);
            self.root
        }) else {
            return;
        };
        loop {
            let node = self.node_mut(at);
            let index = node.upper_bound(slot.start);
            if node.is_leaf() {
                if node.is_full() {
                    return self.split(at, index, slot);
                }
                return self.put_slot(at, index, slot);
            }
            let Some(below) = node.slots_mut().get_mut(index.saturating_sub(1)) else {
                return;
            };
            if index == 0 {
                // What belongs before the first child goes to the first child.
                below.start = slot.start;
            }
            if below.last < slot.last {
                below.last = slot.last;
            }
            at = below.child();
        }
    }

    /// Puts `slot` at `index` in `node`, which is full and so has to be split; and so on with those above.
    #[cold]
    fn split(&mut self, mut node: Ptr<Node>, mut index: usize, mut slot: Slot) {
        const HALF: usize = CAPACITY / 2;

        while self.node(node).is_full() {
            let level = self.node(node).level;
            let Some(right) = self.take_spare(level) else {
                return;
            };
            // SAFETY: A spare node is not one in use.
            let (from, to) = unsafe { self.two_nodes_mut(node, right) };
            from.move_tail(HALF, to);
            self.adopt_all(right);
            if index <= HALF {
                self.put_slot(node, index, slot);
            } else {
                self.put_slot(right, index - HALF, slot);
            }
            slot = self.slot_for(right);

            let Some((parent, place)) = self.place(node) else {
                let Some(root) = self.take_spare(level + 1) else {
                    return;
                };
                let left = self.slot_for(node);
                self.put_slot(root, 0, left);
                self.put_slot(root, 1, slot);
                self.root = Some(root);
                return;
            };
            self.refresh(parent, place, node);
            node = parent;
            index = place + 1;
        }
        self.put_slot(node, index, slot);
    }

    /// Puts `slot` at `index` in `node`, which is not full.
    #[inline]
    fn put_slot(&mut self, node: Ptr<Node>, index: usize, slot: Slot) {
        self.node_mut(node).insert(index, slot);
        let level = self.node(node).level;
        self.adopt(node, level, slot);
    }

    /// Points what `slot` links back to `node`, where it is now.
    #[inline]
    fn adopt(&mut self, node: Ptr<Node>, level: u32, slot: Slot) {
        if level == 0 {
            self.hook_mut(slot.hook()).leaf = node;
        } else {
            self.node_mut(slot.child()).parent = Some(node);
        }
    }

    fn adopt_all(&mut self, node: Ptr<Node>) {
        let level = self.node(node).level;
        let mut index = 0;
        while let Some(&slot) = self.node(node).slots().get(index) {
            self.adopt(node, level, slot);
            index += 1;
        }
    }

    /// The slot by which an inner node links `node`.
    fn slot_for(&self, node: Ptr<Node>) -> Slot {
        let this = self.node(node);
        Slot {
            start: this.slots().first().map_or(0, |slot| slot.start),
            last: this.greatest_last(),
            link: node.cast(),
        }
    }

    /// Brings the `last` of `node`'s slot, at `place` in `parent`, up to date.
    fn refresh(&mut self, parent: Ptr<Node>, place: usize, node: Ptr<Node>) {
        let last = self.node(node).greatest_last();
        if let Some(slot) = self.node_mut(parent).slots_mut().get_mut(place) {
            slot.last = last;
        }
    }

    /// Tells the nodes above that `node` got an interval that ends at `last`.
    fn raise_last(&mut self, mut node: Ptr<Node>, last: u64) {
        while let Some((parent, place)) = self.place(node) {
            match self.node_mut(parent).slots_mut().get_mut(place) {
                Some(slot) if slot.last < last => slot.last = last,
                _ => return,
            }
            node = parent;
        }
    }

    /// Tells the nodes above that `node` lost an interval that ended at `last`.
    fn lower_last(&mut self, mut node: Ptr<Node>, last: u64) {
        while !self.node(node).reaches(last) {
            let Some((parent, place)) = self.place(node) else {
                return;
            };
            self.refresh(parent, place, node);
            node = parent;
        }
    }

    /// Takes the slot of `hook` out.
    fn unlink(&mut self, hook: Ptr<Hook>) {
        let leaf = self.hook(hook).leaf;
        let node = self.node_mut(leaf);
        let Some(index) = node.index_of_hook(hook) else {
            return;
        };
        let Some(last) = node.slots().get(index).map(|slot| slot.last) else {
            return;
        };
        node.remove(index);
        if node.len() < MIN {
            self.refill(leaf, last);
        } else if !node.reaches(last) {
            self.lower_last(leaf, last);
        }
    }

    /// Gives `node`, which has too few slots, some of a neighbour, or the neighbour its own; and so on with
    /// those above. It has lost an interval that ended at `last`.
    #[cold]
    fn refill(&mut self, mut node: Ptr<Node>, last: u64) {
        loop {
            let Some((parent, place)) = self.place(node) else {
                return self.shrink_root(node);
            };
            let left_place = place.saturating_sub(1);
            let slots = self.node(parent).slots();
            let (Some(left), Some(right)) = (slots.get(left_place), slots.get(left_place + 1))
            else {
                return;
            };
            let (left, right) = (left.child(), right.child());
            let merged = self.merge(left, right);
            if !merged {
                self.balance(left, right);
            }
            self.refresh(parent, left_place, left);
            if merged {
                self.node_mut(parent).remove(left_place + 1);
            } else {
                let slot = self.slot_for(right);
                if let Some(place) = self.node_mut(parent).slots_mut().get_mut(left_place + 1) {
                    *place = slot;
                }
            }
            if self.node(parent).len() >= MIN {
                return self.lower_last(parent, last);
            }
            node = parent;
        }
    }

    /// Takes a root that is of no use out of the tree.
    fn shrink_root(&mut self, root: Ptr<Node>) {
        let node = self.node(root);
        match (node.is_leaf(), node.slots()) {
            (true, []) => self.root = None,
            (false, [only]) => {
                let child = only.child();
                self.node_mut(root).remove(0);
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
        // SAFETY: No two slots link the same node.
        let (to, from) = unsafe { self.two_nodes_mut(left, right) };
        from.move_tail(0, to);
        self.adopt_all(left);
        self.put_spare(right);
        true
    }

    /// Makes neighbours equally long.
    fn balance(&mut self, left: Ptr<Node>, right: Ptr<Node>) {
        // SAFETY: No two slots link the same node.
        let (l, r) = unsafe { self.two_nodes_mut(left, right) };
        let half = (l.len() + r.len()) / 2;
        while let Some(&first) = r.slots().first().filter(|_| l.len() < half) {
            l.insert(l.len(), first);
            r.remove(0);
        }
        while let Some(&last) = l.slots().last().filter(|_| l.len() > half) {
            r.insert(0, last);
            l.remove(l.len() - 1);
        }
        self.adopt_all(left);
        self.adopt_all(right);
    }

    /// Empties the tree: hands each hook and each node's memory over.
    pub(super) fn clear(&mut self, mut each: impl FnMut(Ptr<Hook>)) {
        let Self { root, spare, .. } = core::mem::replace(self, Self::new());
        if let Some(root) = root {
            // SAFETY: The tree that owned the nodes is gone, and nobody else knows of them.
            unsafe { Self::free(root, &mut each) };
        }
        let mut next = spare;
        while let Some(node) = next {
            // SAFETY: It came from a `KBox`, and the tree that owned it is gone.
            next = unsafe { KBox::from_raw(node.as_ptr()) }.parent;
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
