// SPDX-License-Identifier: GPL-2.0-only

//! Queries.

use super::{
    entry::Entry,
    interval::Interval,
    node::{
        HookPtr,
        Node,
        NodePtr, //
    },
    order::SlotSet,
    ptr::Shared,
    raw::{
        RawTree,
        Tree, //
    },
};
use core::{
    iter::FusedIterator,
    marker::PhantomData, //
};
use kernel::warn_on;

/// An iterator over the intervals of a tree that overlap a range, with their values.
///
/// They come in order of start; among equal starts, those inserted earlier come first. It is made by
/// [`IntervalTree::overlapping`](super::IntervalTree::overlapping) and similar methods.
///
/// It borrows the tree, so the lock that guards the tree is held while the iterator lives. To stop early, stop
/// iterating: nothing is looked at in advance.
///
/// # Invariants
///
/// The query is of a tree of `Entry<T>`s, borrowed for `'a`.
pub struct Overlapping<'a, T> {
    pub(super) query: Query<'a>,
    _values: PhantomData<&'a T>,
}

// SAFETY: It gives out what a `&IntervalTree<T>` does, which can be sent if `T` is `Sync`.
unsafe impl<T: Sync> Send for Overlapping<'_, T> {}
// SAFETY: A reference to it only copies what a `&IntervalTree<T>` gives out, which can be shared if `T` is `Sync`.
unsafe impl<T: Sync> Sync for Overlapping<'_, T> {}

impl<'a, T> Overlapping<'a, T> {
    /// # Safety
    ///
    /// The query is of a tree of `Entry<T>`s, borrowed for `'a`.
    #[inline]
    pub(super) unsafe fn new(query: Query<'a>) -> Self {
        // INVARIANT: By the precondition.
        Self {
            query,
            _values: PhantomData,
        }
    }

    /// Where the query stands: behind what was found last. None if nothing was found.
    ///
    /// With it, [`IntervalTree::overlapping_after`](super::IntervalTree::overlapping_after) goes on in another critical
    /// section, as `xas_pause()` and `mas_pause()` allow elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// for value in 0..3 {
    ///     let _link = tree.try_create_and_insert(Interval::ALL, value, GFP_KERNEL)?;
    /// }
    /// let mut found = tree.overlapping(5..=5);
    /// assert!(found.resume_position().is_none());
    /// found.next();
    /// let position = found.resume_position().ok_or(EINVAL)?;
    ///
    /// // The tree can be unlocked and locked again here.
    /// let rest = tree.overlapping_after(5..=5, position);
    /// assert!(rest.map(|(_, value)| *value).eq([1, 2]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn resume_position(&self) -> Option<Position> {
        self.query.resume_position()
    }
}

impl<'a, T> Iterator for Overlapping<'a, T> {
    type Item = (Interval, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (interval, hook) = self.query.next()?;
        // SAFETY: By the type invariant the hook is that of an entry, which the tree's borrow allows to read.
        let entry: &'a Entry<T> = unsafe { hook.as_non_null().cast().as_ref() };
        Some((interval, &entry.value))
    }
}

impl<T> FusedIterator for Overlapping<'_, T> {}

/// An iterator over the intervals of a tree that overlap a range, with their values to change.
///
/// As [`Overlapping`]; it is made by [`IntervalTree::overlapping_mut`](super::IntervalTree::overlapping_mut) and
/// [`IntervalTree::iter_mut`](super::IntervalTree::iter_mut).
///
/// # Invariants
///
/// The query is of a tree of `Entry<T>`s, borrowed mutably for `'a`. Apart from it, only who has had them from here
/// accesses their values.
pub struct OverlappingMut<'a, T> {
    query: Query<'a>,
    _values: PhantomData<&'a mut T>,
}

// SAFETY: It gives out what a mutable reference to the tree does.
unsafe impl<T: Send> Send for OverlappingMut<'_, T> {}
// SAFETY: A reference to it gives out nothing.
unsafe impl<T: Sync> Sync for OverlappingMut<'_, T> {}

impl<'a, T> OverlappingMut<'a, T> {
    /// # Safety
    ///
    /// The query is of a tree of `Entry<T>`s, borrowed mutably for `'a`.
    #[inline]
    pub(super) unsafe fn new(query: Query<'a>) -> Self {
        // INVARIANT: By the precondition.
        Self {
            query,
            _values: PhantomData,
        }
    }
}

impl<'a, T> Iterator for OverlappingMut<'a, T> {
    type Item = (Interval, &'a mut T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (interval, hook) = self.query.next()?;
        let entry = hook.as_non_null().cast::<Entry<T>>().as_ptr();
        // SAFETY: By the type invariant the hook is that of an entry. A query finds each once, so nobody else has this value;
        // itself it only reads the hook.
        Some((interval, unsafe { &mut (*entry).value }))
    }
}

impl<T> FusedIterator for OverlappingMut<'_, T> {}

/// Where a query stopped: between two intervals in the order of all that are or will be in the tree.
///
/// It borrows nothing. See [`Overlapping::resume_position`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    start: u64,
    serial: u64,
}

/// A query of a tree: an iterator over intervals and their hooks.
pub(super) struct Query<'a> {
    tree: &'a Tree<Shared<'a>>,
    range: Interval,
    at: LeafAt<'a>,
    /// What is left of the leaf.
    slots: SlotSet,
    visited: usize,
    /// What was found last.
    found: Option<HookPtr<Shared<'a>>>,
}

/// A leaf, and how it was reached.
#[derive(Clone, Copy)]
struct LeafAt<'a> {
    /// None when all have been found.
    leaf: Option<&'a Node<Shared<'a>>>,
    /// The slots of the nodes above, four bits each, the lowest node's in the lowest bits. In 16 levels there is
    /// room for more intervals than memory has addresses.
    path: u64,
}

impl LeafAt<'_> {
    const END: Self = Self {
        leaf: None,
        path: 0,
    };

    #[inline]
    fn slots(&self) -> SlotSet {
        self.leaf.map_or(SlotSet::NONE, |leaf| leaf.order().slots())
    }
}

impl<'a> Query<'a> {
    #[inline]
    fn new(
        tree: &'a Tree<Shared<'a>>,
        range: Interval,
        (at, visited): (LeafAt<'a>, usize),
    ) -> Self {
        Self {
            tree,
            range,
            at,
            slots: at.slots(),
            visited,
            found: None,
        }
    }

    /// What overlaps `range`; nothing if that is none.
    #[inline(always)] // so that what is known of the range is made use of
    pub(super) fn of(tree: &'a RawTree, range: Option<Interval>) -> Self {
        let tree = tree.shared();
        match range {
            Some(range) => Self::new(tree, range, tree.first_leaf(range)),
            None => Self::new(tree, Interval::ALL, (LeafAt::END, 0)),
        }
    }

    /// What of that comes behind `position`.
    pub(super) fn after(tree: &'a RawTree, range: Option<Interval>, position: Position) -> Self {
        let Some(range) = range else {
            return Self::of(tree, None);
        };
        let tree = tree.shared();
        let mut new = Self::new(tree, range, tree.leaf_before(position));
        if let Some(leaf) = new.at.leaf {
            let mut rest = new.slots;
            while rest
                .next()
                .is_some_and(|slot| tree.position_behind(leaf, slot) <= Some(position))
            {
                new.slots = rest;
            }
        }
        new
    }

    fn resume_position(&self) -> Option<Position> {
        let hook = self.tree.hook(self.found?);
        self.tree
            .position_behind(self.tree.node(hook.leaf?), hook.slot)
    }

    /// How many nodes have been visited so far.
    pub(super) fn visited(&self) -> usize {
        self.visited
    }
}

impl<'a> Iterator for Query<'a> {
    type Item = (Interval, HookPtr<Shared<'a>>);

    #[inline(always)] // once for each kind of query
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let leaf = self.at.leaf?;
            // What starts behind the range also ends behind its start.
            let reaching = |slot: &usize| leaf.last(*slot) >= self.range.start();
            if let Some(slot) = self.slots.find(reaching) {
                let interval = leaf.interval(slot);
                if interval.start() > self.range.last() {
                    // So does all that follows.
                    self.at = LeafAt::END;
                    return None;
                }
                // SAFETY: This is a leaf, and its order has the slot.
                let hook = unsafe { leaf.hook_unchecked(slot) };
                self.found = Some(hook);
                return Some((interval, hook));
            }
            let (next, visited) = self.tree.next_leaf(leaf, self.at.path, self.range);
            self.at = next;
            self.visited = self.visited.wrapping_add(visited);
            self.slots = next.leaf?.order().slots();
        }
    }
}

impl<'a> Tree<Shared<'a>> {
    /// The first leaf that reaches into `range`, or starts behind it; and the number of nodes visited.
    #[inline]
    fn first_leaf(&'a self, range: Interval) -> (LeafAt<'a>, usize) {
        let Some(root) = self.root() else {
            return (LeafAt::END, 0);
        };
        self.descend(self.node(root), 0, range)
    }

    /// The position behind what a slot of a leaf links.
    pub(super) fn position_behind(&self, leaf: &Node<Shared<'a>>, slot: usize) -> Option<Position> {
        Some(Position {
            start: leaf.start(slot),
            serial: self.hook(leaf.hook(slot)?).serial,
        })
    }

    /// The last leaf that can have something in front of `position`, and the number of nodes visited. All leaves before
    /// have nothing behind it.
    fn leaf_before(&'a self, position: Position) -> (LeafAt<'a>, usize) {
        let Some(root) = self.root() else {
            return (LeafAt::END, 0);
        };
        let mut node = self.node(root);
        let mut path = 0;
        let mut visited: usize = 1;
        while !node.is_leaf() {
            // What is below the first slot is not in front of anything here.
            let mut slot = node.last_slot();
            while slot > 0 {
                if node.start(slot) < position.start {
                    break;
                }
                if node.start(slot) == position.start {
                    // What starts there and comes first decides.
                    let first = node
                        .child(slot)
                        .map(|child| self.node(self.leftmost(child)));
                    visited = visited.wrapping_add(node.level());
                    let first = first.and_then(|leaf| self.position_behind(leaf, leaf.nth(0)));
                    if first <= Some(position) {
                        break;
                    }
                }
                slot = slot.wrapping_sub(1);
            }
            let Some(child) = node.child(slot) else {
                warn_on!(true);
                return (LeafAt::END, visited);
            };
            node = self.node(child);
            path = path << 4 | slot as u64;
            visited = visited.wrapping_add(1);
        }
        let leaf = Some(node);
        (LeafAt { leaf, path }, visited)
    }
    /// The first leaf of `node` and what is below.
    pub(super) fn leftmost(&'a self, mut node: NodePtr<Shared<'a>>) -> NodePtr<Shared<'a>> {
        while let Some(child) = self.node(node).child(0) {
            node = child;
        }
        node
    }

    /// The first leaf that reaches into `range`, or starts behind it, of what is below `node`, to which `path` leads; and
    /// the number of nodes visited. Unless that is the root, it reaches so far.
    #[inline]
    fn descend(
        &'a self,
        mut node: &'a Node<Shared<'a>>,
        mut path: u64,
        range: Interval,
    ) -> (LeafAt<'a>, usize) {
        let visited = node.level().wrapping_add(1);
        while !node.is_leaf() {
            let Some(slot) = node.first_reaching(range.start()) else {
                warn_on!(node.parent.is_some());
                return (LeafAt::END, 1);
            };
            // SAFETY: This is an inner node, and uses the slot.
            node = self.node(unsafe { node.child_unchecked(slot) });
            path = path << 4 | slot as u64;
        }
        let leaf = Some(node);
        (LeafAt { leaf, path }, visited)
    }

    /// As [`Self::descend`], for what is behind the leaf `node`, to which `path` leads.
    #[inline(never)] // so that what goes on in a leaf stays small
    fn next_leaf(
        &'a self,
        mut node: &'a Node<Shared<'a>>,
        mut path: u64,
        range: Interval,
    ) -> (LeafAt<'a>, usize) {
        while let Some(parent) = node.parent {
            node = self.node(parent);
            let slot = path as usize % 16;
            path >>= 4;
            if let Some(slot) = node.next_reaching(slot, range.start()) {
                if node.start(slot) > range.last() {
                    break;
                }
                // SAFETY: As a parent, this is an inner node; it uses the slot.
                let child = self.node(unsafe { node.child_unchecked(slot) });
                return self.descend(child, path << 4 | slot as u64, range);
            }
        }
        (LeafAt::END, 0)
    }
}
