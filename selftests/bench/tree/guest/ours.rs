// SPDX-License-Identifier: GPL-2.0

//! The tree of `rust/interval_tree.rs`.

use crate::{
    module::interval_tree::{
        Interval,
        IntervalTree,
        Linked,
        Removed,
        Reserved,
        Surplus, //
    },
    Tree, //
};
use kernel::prelude::*;

pub(crate) struct Ours(IntervalTree<u64>);

impl Tree for Ours {
    type Unlinked = Reserved<u64>;
    type Linked = Linked<u64>;
    type Removed = Removed<u64>;
    type Surplus = Surplus;

    const NAME: &'static str = "ours";

    fn new() -> Result<Self> {
        Ok(Self(IntervalTree::new()))
    }

    fn prepare(_interval: (u64, u64), payload: u64) -> Result<Self::Unlinked> {
        Ok(Reserved::new(payload, GFP_KERNEL)?)
    }

    #[inline(never)]
    fn insert(
        &mut self,
        unlinked: KVec<Self::Unlinked>,
        intervals: &[(u64, u64)],
        linked: &mut [Option<Self::Linked>],
        surplus: &mut [Option<Surplus>],
    ) -> Result {
        let places = linked.iter_mut().zip(surplus);
        for ((reserved, (start, last)), (linked, surplus)) in
            unlinked.into_iter().zip(intervals).zip(places)
        {
            let interval = Interval::new(*start, *last).ok_or(EINVAL)?;
            let (link, left) = self.0.insert(reserved, interval);
            *linked = Some(link);
            *surplus = Some(left);
        }
        Ok(())
    }

    #[inline(never)]
    fn remove(
        &mut self,
        linked: KVec<Self::Linked>,
        removed: &mut [Option<Self::Removed>],
    ) -> Result {
        for (link, removed) in linked.into_iter().zip(removed) {
            *removed = Some(self.0.remove(link).map_err(|_| EINVAL)?);
        }
        Ok(())
    }

    fn free(removed: Self::Removed) {
        drop(removed);
    }

    #[inline(never)]
    fn update(&mut self, linked: &[Self::Linked], starts: &[u64], lasts: &[u64]) -> Result {
        for ((link, start), last) in linked.iter().zip(starts).zip(lasts) {
            let interval = Interval::new(*start, *last).ok_or(EINVAL)?;
            self.0.update(link, interval).map_err(|_| EINVAL)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn stab(&self, points: &[u64]) -> u64 {
        let mut sum = 0u64;
        for point in points {
            for (interval, payload) in self.0.overlapping(Interval::point(*point)) {
                sum = sum.wrapping_add(interval.start() ^ payload);
            }
        }
        sum
    }

    #[inline(never)]
    fn walk(&self) -> u64 {
        let mut sum = 0u64;
        for (interval, payload) in self.0.iter() {
            sum = sum.wrapping_add(interval.start() ^ payload);
        }
        sum
    }
}
