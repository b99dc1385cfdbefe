// SPDX-License-Identifier: GPL-2.0

//! Queries.

use super::{
    node::{
        Node,
        Ptr, //
    },
    raw::RawTree,
    Entry,
    Interval, //
};
use core::marker::PhantomData;

/// An iterator over the intervals of a tree that overlap a range, in order of start; among equal
/// starts, those inserted earlier come first.
///
/// It borrows the tree, so the lock that guards it is held while the iterator lives. To stop early, stop
/// iterating: nothing is looked at in advance.
pub struct Overlapping<'a, T> {
    tree: &'a RawTree,
    range: Interval,
    /// The next slot to look at.
    at: Option<(Ptr<Node>, usize)>,
    visited: usize,
    _values: PhantomData<&'a T>,
}

impl<'a, T> Overlapping<'a, T> {
    pub(super) fn new(tree: &'a RawTree, range: Interval) -> Self {
        let root = tree.root();
        Self {
            tree,
            range,
            at: root.map(|root| (root, 0)),
            visited: usize::from(root.is_some()),
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

    fn next(&mut self) -> Option<Self::Item> {
        let Interval { start, last } = self.range;
        loop {
            let (ptr, from) = self.at?;
            let node = self.tree.node(ptr);
            let mut slots = node.slots().iter().enumerate().skip(from);
            let Some((index, slot)) =
                slots.find(|(_, slot)| slot.last >= start || slot.start > last)
            else {
                self.at = self
                    .tree
                    .place(ptr)
                    .map(|(parent, place)| (parent, place + 1));
                continue;
            };
            if slot.start > last {
                // So does all that follows.
                self.at = None;
                return None;
            }
            if node.is_leaf() {
                self.at = Some((ptr, index + 1));
                // SAFETY: A leaf's slot links the hook of an entry, which lives as long as the tree
                // is borrowed.
                let entry: &'a Entry<T> = unsafe { &*slot.hook().cast().as_ptr() };
                return Some((slot.interval(), &entry.value));
            }
            self.at = Some((slot.child(), 0));
            self.visited += 1;
        }
    }
}
