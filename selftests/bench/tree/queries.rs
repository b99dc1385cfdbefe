// SPDX-License-Identifier: GPL-2.0-only

//! The queries that are measured, of the tree of `rust/interval_tree.rs`. Each returns a sum over what it finds.

use crate::module::interval_tree::{
    Interval,
    IntervalTree, //
};

/// Looks for what covers each of `points`.
#[inline(never)]
pub(crate) fn stab(tree: &IntervalTree<u64>, points: &[u64]) -> u64 {
    let mut sum = 0u64;
    for point in points {
        for (interval, payload) in tree.overlapping(Interval::point(*point)) {
            sum = sum.wrapping_add(interval.start() ^ payload);
        }
    }
    sum
}

/// Looks at all intervals.
#[inline(never)]
pub(crate) fn walk(tree: &IntervalTree<u64>) -> u64 {
    let mut sum = 0u64;
    for (interval, payload) in tree.iter() {
        sum = sum.wrapping_add(interval.start() ^ payload);
    }
    sum
}
