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

pub struct Ours(IntervalTree<u64>);

fn interval(start: u64, last: u64) -> Interval {
    Interval::new(start, last).expect("the workload's intervals are in order")
}

impl Tree for Ours {
    type Unlinked = IntervalTreeNode<u64>;
    type Linked = IntervalTreeLink<u64>;
    type Removed = RemovedNode<u64>;
    type Surplus = Surplus;

    const NAME: &'static str = "ours";

    fn new() -> Self {
        Self(IntervalTree::new())
    }

    fn prepare(_interval: (u64, u64), payload: u64, surplus: Option<Surplus>) -> Self::Unlinked {
        let surplus = surplus.unwrap_or(Surplus::NONE);
        IntervalTreeNode::with_surplus(payload, surplus, GFP_KERNEL).expect("the host has memory")
    }

    #[inline(never)]
    fn insert(
        &mut self,
        unlinked: Vec<Self::Unlinked>,
        intervals: &[(u64, u64)],
        linked: &mut Vec<Self::Linked>,
        surplus: &mut Vec<Surplus>,
    ) {
        for (reserved, (start, last)) in unlinked.into_iter().zip(intervals) {
            let (link, left) = self.0.insert(reserved, interval(*start, *last));
            linked.push(link);
            if !left.is_none() {
                surplus.push(left);
            }
        }
    }

    #[inline(never)]
    fn remove(&mut self, linked: Vec<Self::Linked>) -> Vec<Self::Removed> {
        linked
            .into_iter()
            .map(|link| self.0.remove(link).expect("the link is of this tree"))
            .collect()
    }

    fn free(mut removed: Self::Removed) -> Option<Surplus> {
        let surplus = removed.take_surplus();
        (!surplus.is_none()).then_some(surplus)
    }

    #[inline(never)]
    fn update(&mut self, linked: &mut [Self::Linked], starts: &[u64], lasts: &[u64]) {
        for ((link, start), last) in linked.iter().zip(starts).zip(lasts) {
            self.0
                .update(link, interval(*start, *last))
                .expect("the link is of this tree");
        }
    }

    fn stab(&self, points: &[u64]) -> u64 {
        queries::stab(&self.0, points)
    }

    fn walk(&self) -> u64 {
        queries::walk(&self.0)
    }
}
