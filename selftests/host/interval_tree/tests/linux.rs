// SPDX-License-Identifier: GPL-2.0-only

//! The checks that Linux makes of its own interval tree (`lib/interval_tree_test.c`), with the same sizes.

use interval_tree::{
    interval_tree::{
        Interval,
        IntervalTree,
        IntervalTreeLink,
        IntervalTreeNode, //
    },
    random::Random,
};
use kernel::prelude::*;

const NODES: usize = 100;
const SEARCHES: usize = 100;
const LOOPS: usize = 100;
const MAX_ENDPOINT: u64 = u32::MAX as u64;

fn random_interval(random: &mut Random) -> Interval {
    let last = random.next() % MAX_ENDPOINT;
    let start = random.next() % last.max(1);
    Interval::new(start, last).unwrap()
}

fn insert_all(
    tree: &mut IntervalTree<usize>,
    intervals: &[Interval],
) -> Vec<IntervalTreeLink<usize>> {
    let insert = |(i, interval): (usize, &Interval)| {
        let reserved = IntervalTreeNode::new(i, GFP_KERNEL).unwrap();
        tree.insert(reserved, *interval).0
    };
    intervals.iter().enumerate().map(insert).collect()
}

fn random_intervals(random: &mut Random) -> Vec<Interval> {
    (0..NODES).map(|_| random_interval(random)).collect()
}

/// The whole range first, then random ones.
fn ranges(random: &mut Random) -> impl Iterator<Item = Interval> + '_ {
    std::iter::once(Interval::ALL).chain((1..SEARCHES).map(|_| random_interval(random)))
}

#[test]
fn insertion_and_removal() {
    let mut random = Random::seeded();
    let intervals = random_intervals(&mut random);
    let mut tree = IntervalTree::new();
    for _ in 0..LOOPS {
        for link in insert_all(&mut tree, &intervals) {
            assert!(tree.remove(link).is_ok());
        }
        assert!(tree.is_empty());
    }
}

#[test]
fn search() {
    let mut random = Random::seeded();
    let intervals = random_intervals(&mut random);
    let mut tree = IntervalTree::new();
    let _links = insert_all(&mut tree, &intervals);
    for _ in 0..LOOPS * SEARCHES {
        let point = Interval::point(random.next() % MAX_ENDPOINT);
        let expected = intervals.iter().filter(|i| i.overlaps(point)).count();
        assert_eq!(tree.overlapping(point).count(), expected);
    }
}

#[test]
fn intersection_range() {
    let mut random = Random::seeded();
    for _ in 0..LOOPS {
        let intervals = random_intervals(&mut random);
        let mut tree = IntervalTree::new();
        let _links = insert_all(&mut tree, &intervals);
        for range in ranges(&mut random) {
            let mut found = [false; NODES];
            for (_, i) in tree.overlapping(range) {
                found[*i] = true;
            }
            for (found, interval) in found.iter().zip(&intervals) {
                assert_eq!(*found, interval.overlaps(range));
            }
        }
    }
}

/// Merges intervals that touch or overlap, given by start, to what they cover of `range`.
fn used(intervals: impl Iterator<Item = Interval>, range: Interval) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for interval in intervals {
        let start = interval.start().max(range.start());
        let last = interval.last().min(range.last());
        match spans.last_mut() {
            Some((_, end)) if start <= end.saturating_add(1) => *end = last.max(*end),
            _ => spans.push((start, last)),
        }
    }
    spans
}

/// Linux compares with a maple tree; a sorted vector serves as well.
#[test]
fn span_iteration() {
    let mut random = Random::seeded();
    for _ in 0..LOOPS {
        let mut intervals = random_intervals(&mut random);
        let mut tree = IntervalTree::new();
        let _links = insert_all(&mut tree, &intervals);
        intervals.sort_by_key(|interval| interval.start());
        for range in ranges(&mut random) {
            let overlapping = intervals.iter().copied().filter(|i| i.overlaps(range));
            let expected = used(overlapping, range);
            assert_eq!(
                used(tree.overlapping(range).map(|(i, _)| i), range),
                expected
            );
        }
    }
}
