// SPDX-License-Identifier: GPL-2.0-only

//! The tree of `rust/interval_tree.rs`.

use crate::{
    module::interval_tree::{
        Interval,
        IntervalTree,
        IntervalTreeLink,
        IntervalTreeNode,
        RemovedNode,
        Surplus, //
    },
    queries,
    Tree, //
};
use kernel::prelude::*;

pub(crate) struct Ours(IntervalTree<u64>);

impl Tree for Ours {
    type Interval = Interval;
    type Unlinked = (IntervalTreeNode<u64>, Interval);
    type Inserted = (IntervalTreeLink<u64>, Surplus);
    type Linked = IntervalTreeLink<u64>;
    type Removed = RemovedNode<u64>;

    const NAME: &'static str = "ours";

    fn new() -> Result<Self> {
        Ok(Self(IntervalTree::new()))
    }

    fn interval((start, last): (u64, u64)) -> Result<Interval> {
        Interval::new(start, last).ok_or(EINVAL)
    }

    fn prepare(interval: (u64, u64), payload: u64) -> Result<Self::Unlinked> {
        Ok((
            IntervalTreeNode::new(payload, GFP_KERNEL)?,
            Self::interval(interval)?,
        ))
    }

    #[inline(never)]
    fn insert(
        &mut self,
        unlinked: &mut KVec<Self::Unlinked>,
        inserted: &mut KVec<Self::Inserted>,
    ) -> Result {
        for (reserved, interval) in unlinked.drain_all() {
            let new = self.0.insert(reserved, interval);
            inserted.push_within_capacity(new).map_err(|_| ENOMEM)?;
        }
        Ok(())
    }

    fn linked((link, _): Self::Inserted) -> Self::Linked {
        link
    }

    #[inline(never)]
    fn remove(
        &mut self,
        linked: &mut KVec<Self::Linked>,
        removed: &mut KVec<Self::Removed>,
    ) -> Result {
        for link in linked.drain_all() {
            let old = self.0.remove(link).map_err(|_| EINVAL)?;
            removed.push_within_capacity(old).map_err(|_| ENOMEM)?;
        }
        Ok(())
    }

    fn free(removed: Self::Removed) {
        drop(removed);
    }

    #[inline(never)]
    fn update(&mut self, linked: &[Self::Linked], intervals: &[Interval]) -> Result {
        for (link, interval) in linked.iter().zip(intervals) {
            self.0.update(link, *interval).map_err(|_| EINVAL)?;
        }
        Ok(())
    }

    fn stab(&self, points: &[u64]) -> u64 {
        queries::stab(&self.0, points)
    }

    fn walk(&self) -> u64 {
        queries::walk(&self.0)
    }
}
