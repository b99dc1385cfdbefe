// SPDX-License-Identifier: GPL-2.0

//! Queries.

use super::{
    node::{
        Node,
        Ptr,
        Slot, //
    },
    raw::RawTree,
    Entry,
    Interval, //
};
use core::{
    marker::PhantomData,
    slice, //
};

/// An iterator over the intervals of a tree that overlap a range, in order of start; among equal
/// starts, those inserted earlier come first.
///
/// It borrows the tree, so the lock that guards it is held while the iterator lives. To stop early, stop
/// iterating: nothing is looked at in advance.
pub struct Overlapping<'a, T> {
    tree: &'a RawTree,
    range: Interval,
    /// None when all have been found.
    leaf: Option<Ptr<Node>>,
    /// What is left of the leaf.
    slots: slice::Iter<'a, Slot>,
    visited: usize,
    _values: PhantomData<&'a T>,
}

impl<'a, T> Overlapping<'a, T> {
    #[inline]
    pub(super) fn new(tree: &'a RawTree, range: Interval) -> Self {
        let mut visited = 0;
        let leaf = tree
            .root()
            .and_then(|root| tree.descend(root, range, &mut visited));
        Self {
            tree,
            range,
            leaf,
            slots: tree.slots(leaf),
            visited,
            _values: PhantomData,
        }
    }

    /// How many nodes of the tree the query has visited so far.
    pub fn visited(&self) -> usize {
        self.visited
    }
}

impl<'a, T> Iterator for Overlapping<'a, T> {
    type Item = (Interval, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Interval { start, last } = self.range;
        loop {
            // What starts behind the range also ends behind its start.
            if let Some(slot) = self.slots.find(|slot| slot.last >= start) {
                if slot.start > last {
                    // So does all that follows.
                    self.leaf = None;
                    self.slots = [].iter();
                    return None;
                }
                // SAFETY: A leaf's slot links the hook of an entry, which lives as long as the tree is
                // borrowed.
                let entry: &'a Entry<T> = unsafe { &*slot.hook().cast().as_ptr() };
                return Some((slot.interval(), &entry.value));
            }
            self.leaf = self
                .tree
                .next_leaf(self.leaf?, self.range, &mut self.visited);
            self.slots = self.tree.slots(self.leaf);
        }
    }
}

impl RawTree {
    #[inline]
    fn slots(&self, leaf: Option<Ptr<Node>>) -> slice::Iter<'_, Slot> {
        leaf.map_or([].iter(), |leaf| self.node(leaf).slots().iter())
    }

    /// The first leaf under `node` that may have an interval in `range`.
    fn descend(
        &self,
        mut node: Ptr<Node>,
        range: Interval,
        visited: &mut usize,
    ) -> Option<Ptr<Node>> {
        loop {
            *visited += 1;
            let this = self.node(node);
            if this.is_leaf() {
                return Some(node);
            }
            node = this.first_reaching(range)?.child();
        }
    }

    /// The first such leaf behind `node`.
    fn next_leaf(
        &self,
        mut node: Ptr<Node>,
        range: Interval,
        visited: &mut usize,
    ) -> Option<Ptr<Node>> {
        loop {
            let (parent, place) = self.place(node)?;
            let behind = self.node(parent).slots().get(place + 1..)?;
            if let Some(slot) = behind.iter().find(|slot| slot.last >= range.start) {
                if slot.start > range.last {
                    return None;
                }
                return self.descend(slot.child(), range, visited);
            }
            node = parent;
        }
    }
}
