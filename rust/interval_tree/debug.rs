// SPDX-License-Identifier: GPL-2.0-only

//! For debugging: a tree that checks itself, a query that tells what it cost.

use super::{
    node::NodePtr,
    overlapping::{
        Overlapping,
        Position, //
    },
    ptr::Shared,
    raw::{
        most_nodes,
        Tree, //
    }, //
};

impl<T> Overlapping<'_, T> {
    /// For debugging: how many nodes of the tree the query has visited so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// for at in 0..1000 {
    ///     let _link = tree.try_create_and_insert(Interval::point(at), at, GFP_KERNEL)?;
    /// }
    /// let mut found = tree.overlapping(500..=500);
    /// assert!(found.next().is_some());
    /// assert!(found.visited() < 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn visited(&self) -> usize {
        self.query.visited()
    }
}

/// What is wrong with a tree, see [`verify`](super::IntervalTree::verify).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// An interval starts before the one in front of it, or as early and was not linked later, or ends before it starts.
    Order,
    /// A node's record of the greatest end, or of the first start, below it is wrong.
    Augmentation,
    /// A leaf is nearer to the root than another, or a node has too few slots.
    Balance,
    /// A node or an interval does not know where it is linked.
    Links,
    /// The count of intervals is wrong.
    Count,
    /// The tree has more or fewer nodes, used and spare, than its intervals call for, or a node has something where nothing
    /// is linked.
    Memory,
}

/// What is known when the nodes in front have been checked.
struct Check<'a> {
    tree: &'a Tree<Shared<'a>>,
    /// The start of the interval in front, and the position behind it.
    start: u64,
    position: Option<Position>,
    intervals: usize,
    nodes: usize,
}

impl<'a> Tree<Shared<'a>> {
    /// Checks all of the tree; the first violation that is found.
    pub(super) fn verify(&'a self) -> Result<(), Violation> {
        let mut check = Check {
            tree: self,
            start: 0,
            position: None,
            intervals: 0,
            nodes: self.spare_nodes(),
        };
        if let Some(root) = self.root() {
            check.node(root, None)?;
        }
        if check.intervals != self.len() {
            return Err(Violation::Count);
        }
        if check.nodes != most_nodes(self.len()) {
            return Err(Violation::Memory);
        }
        Ok(())
    }
}

impl<'a> Check<'a> {
    /// Checks `ptr`, linked by a slot of its parent, and what is below. The recursion is as deep as the tree is high.
    fn node(
        &mut self,
        ptr: NodePtr<Shared<'a>>,
        above: Option<(NodePtr<Shared<'a>>, usize)>,
    ) -> Result<(), Violation> {
        let tree = self.tree;
        let node = tree.node(ptr);
        self.nodes += 1;
        if node.parent != above.map(|(parent, _)| parent) {
            return Err(Violation::Links);
        }
        if let Some((parent, slot)) = above {
            let parent = tree.node(parent);
            if node.level() + 1 != parent.level() || node.is_short() {
                return Err(Violation::Balance);
            }
            if node.greatest_last() != parent.last(slot) {
                return Err(Violation::Augmentation);
            }
        } else if node.len() == 0 {
            return Err(Violation::Balance);
        }
        for rank in 0..node.len() {
            let slot = node.nth(rank);
            if let Some(hook) = node.hook(slot).map(|hook| tree.hook(hook)) {
                if hook.leaf != Some(ptr) || hook.slot != slot {
                    return Err(Violation::Links);
                }
                let position = tree.position_behind(node, slot);
                if node.last(slot) < node.start(slot) || position <= self.position {
                    return Err(Violation::Order);
                }
                self.position = position;
                self.intervals += 1;
            } else if rank == 0 && node.start(slot) != 0 {
                return Err(Violation::Augmentation);
            }
            if node.is_leaf() || rank > 0 {
                if node.start(slot) < self.start {
                    return Err(Violation::Order);
                }
                self.start = node.start(slot);
            }
            if let Some(child) = node.child(slot) {
                self.node(child, Some((ptr, slot)))?;
            }
        }
        if !node.unused_are_empty() {
            return Err(Violation::Memory);
        }
        Ok(())
    }
}
