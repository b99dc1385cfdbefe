// SPDX-License-Identifier: GPL-2.0-only

//! The tree's check of itself.

use super::{
    node::{
        Node,
        Ptr,
        Slot,
        MIN, //
    },
    raw::{
        most_nodes,
        RawTree, //
    },
    Cursor, //
};

/// What is wrong with a tree.
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
    tree: &'a RawTree,
    /// The start of the interval in front, and where a query stops behind it.
    start: u64,
    cursor: Option<Cursor>,
    intervals: usize,
    nodes: usize,
}

impl RawTree {
    pub(super) fn verify(&self) -> Result<(), Violation> {
        let mut check = Check {
            tree: self,
            start: 0,
            cursor: None,
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

impl Check<'_> {
    /// Checks `ptr`, linked by slot `above` of its parent, and what is below. The recursion is as deep as
    /// the tree is high.
    fn node(&mut self, ptr: Ptr<Node>, above: Option<(Ptr<Node>, Slot)>) -> Result<(), Violation> {
        let node = self.tree.node(ptr);
        self.nodes += 1;
        match above {
            None if node.parent.is_some() => return Err(Violation::Links),
            None if node.len() == 0 => return Err(Violation::Balance),
            Some((parent, _)) if node.parent != Some(parent) => return Err(Violation::Links),
            Some((parent, _)) if node.level + 1 != self.tree.node(parent).level => {
                return Err(Violation::Balance);
            }
            Some(_) if node.len() < MIN => return Err(Violation::Balance),
            Some((_, slot)) if node.greatest_last() != slot.last => {
                return Err(Violation::Augmentation);
            }
            _ => {}
        }
        for rank in 0..node.len() {
            let slot = node.nth(rank);
            let content = node.slot(slot);
            if node.is_leaf() {
                let hook = self.tree.hook(content.hook());
                if hook.leaf != ptr || hook.slot != slot {
                    return Err(Violation::Links);
                }
                let cursor = Some(self.tree.cursor(node, slot));
                if content.last < content.start || cursor <= self.cursor {
                    return Err(Violation::Order);
                }
                self.cursor = cursor;
                self.intervals += 1;
            } else if rank == 0 && content.start != 0 {
                return Err(Violation::Augmentation);
            }
            if node.is_leaf() || rank > 0 {
                if content.start < self.start {
                    return Err(Violation::Order);
                }
                self.start = content.start;
            }
            if !node.is_leaf() {
                self.node(content.child(), Some((ptr, content)))?;
            }
        }
        if !node.unused_are_empty() {
            return Err(Violation::Memory);
        }
        Ok(())
    }
}
