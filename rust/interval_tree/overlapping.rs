// SPDX-License-Identifier: GPL-2.0-only

//! Queries.

use super::{
    node::{
        Hook,
        Node,
        Ptr, //
    },
    order::Slots,
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
    at: Position<'a>,
    /// What is left of the leaf.
    slots: Slots,
    visited: usize,
    /// What was found last.
    found: Option<Ptr<Hook>>,
    _values: PhantomData<&'a T>,
}

/// Where a query stopped: between two intervals in the order of all that are or will be in the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    start: u64,
    serial: u64,
}

/// A leaf, and how it was reached.
#[derive(Clone, Copy)]
struct Position<'a> {
    /// None when all have been found.
    leaf: Option<&'a Node>,
    /// The slots of the nodes above, four bits each, the lowest node's in the lowest bits. In 16 levels there is
    /// room for more intervals than memory has addresses.
    path: u64,
}

impl Position<'_> {
    const END: Self = Self {
        leaf: None,
        path: 0,
    };
}

impl<'a, T> Overlapping<'a, T> {
    #[inline]
    pub(super) fn new(tree: &'a RawTree, range: Interval) -> Self {
        let (at, visited) = tree.first_position(range);
        Self {
            tree,
            range,
            at,
            slots: at.leaf.map_or(Slots::NONE, |leaf| leaf.order().slots()),
            visited,
            found: None,
            _values: PhantomData,
        }
    }

    pub(super) fn behind(tree: &'a RawTree, range: Interval, cursor: Cursor) -> Self {
        let (at, visited) = tree.position_of(cursor);
        let mut slots = at.leaf.map_or(Slots::NONE, |leaf| leaf.order().slots());
        if let Some(leaf) = at.leaf {
            let mut rest = slots;
            while rest
                .next()
                .is_some_and(|slot| tree.cursor(leaf, slot) <= cursor)
            {
                slots = rest;
            }
        }
        Self {
            tree,
            range,
            at,
            slots,
            visited,
            found: None,
            _values: PhantomData,
        }
    }

    /// Behind what was found last; none if nothing was.
    pub fn cursor(&self) -> Option<Cursor> {
        let hook = self.tree.hook(self.found?);
        Some(self.tree.cursor(self.tree.node(hook.leaf), hook.slot))
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
        loop {
            let leaf = self.at.leaf?;
            // What starts behind the range also ends behind its start.
            let reaching = |slot: &usize| leaf.last(*slot) >= self.range.start;
            if let Some(slot) = self.slots.find(reaching) {
                let slot = leaf.slot(slot);
                if slot.start > self.range.last {
                    // So does all that follows.
                    self.at = Position::END;
                    return None;
                }
                self.found = Some(slot.hook());
                // SAFETY: A leaf's slot links the hook of an entry, which lives as long as the tree is
                // borrowed.
                let entry: &'a Entry<T> = unsafe { &*slot.hook().cast().as_ptr() };
                return Some((slot.interval(), &entry.value));
            }
            let (next, visited) = self.tree.next_position(leaf, self.at.path, self.range);
            self.at = next;
            self.visited = self.visited.wrapping_add(visited);
            self.slots = next.leaf?.order().slots();
        }
    }
}

impl RawTree {
    /// The first leaf that reaches into `range`, or starts behind it; and the number of nodes visited.
    #[inline]
    fn first_position(&self, range: Interval) -> (Position<'_>, usize) {
        let Some(root) = self.root() else {
            return (Position::END, 0);
        };
        self.descend(self.node(root), 0, range)
    }

    /// The cursor behind what a slot of a leaf links.
    pub(super) fn cursor(&self, leaf: &Node, slot: usize) -> Cursor {
        Cursor {
            start: leaf.start(slot),
            serial: self.hook(leaf.slot(slot).hook()).serial,
        }
    }

    /// The last leaf that can have something in front of `cursor`, and the number of nodes visited. All leaves before
    /// have nothing behind it.
    fn position_of(&self, cursor: Cursor) -> (Position<'_>, usize) {
        let Some(root) = self.root() else {
            return (Position::END, 0);
        };
        let mut node = self.node(root);
        let mut path = 0;
        let mut visited: usize = 1;
        while !node.is_leaf() {
            // What is below the first slot is not in front of anything here.
            let mut slot = node.len().saturating_sub(1);
            while slot > 0 {
                if node.start(slot) < cursor.start {
                    break;
                }
                if node.start(slot) == cursor.start {
                    // What starts there and comes first decides.
                    let child = self.node(node.link(slot).cast());
                    visited = visited.wrapping_add(child.level.wrapping_add(1));
                    let first = self.leftmost(child);
                    if self.cursor(first, first.nth(0)) <= cursor {
                        break;
                    }
                }
                slot = slot.wrapping_sub(1);
            }
            node = self.node(node.link(slot).cast());
            path = path << 4 | slot as u64;
            visited = visited.wrapping_add(1);
        }
        let leaf = Some(node);
        (Position { leaf, path }, visited)
    }

    /// The first leaf below `node`.
    fn leftmost<'a>(&'a self, mut node: &'a Node) -> &'a Node {
        while !node.is_leaf() {
            node = self.node(node.link(0).cast());
        }
        node
    }

    /// The same for what is below `node`, which reaches into `range` or starts behind it; `path` leads there.
    #[inline]
    fn descend<'a>(
        &'a self,
        mut node: &'a Node,
        mut path: u64,
        range: Interval,
    ) -> (Position<'a>, usize) {
        let visited = node.level.wrapping_add(1);
        while !node.is_leaf() {
            let Some(slot) = node.first_reaching(range.start) else {
                return (Position::END, 1);
            };
            node = self.node(node.link(slot).cast());
            path = path << 4 | slot as u64;
        }
        let leaf = Some(node);
        (Position { leaf, path }, visited)
    }

    /// The same for what is behind the leaf `node`, to which `path` leads.
    #[inline(never)] // so that what goes on in a leaf stays small
    fn next_position<'a>(
        &'a self,
        mut node: &'a Node,
        mut path: u64,
        range: Interval,
    ) -> (Position<'a>, usize) {
        while let Some(parent) = node.parent {
            node = self.node(parent);
            let slot = path as usize % 16;
            path >>= 4;
            if let Some(slot) = node.next_reaching(slot, range.start) {
                if node.start(slot) > range.last {
                    break;
                }
                let child = self.node(node.link(slot).cast());
                return self.descend(child, path << 4 | slot as u64, range);
            }
        }
        (Position::END, 0)
    }
}
