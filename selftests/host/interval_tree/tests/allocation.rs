// SPDX-License-Identifier: GPL-2.0-only

//! What a reservation promises: it may fail, what follows cannot.

use interval_tree::interval_tree::{
    Cursor,
    CursorMut,
    Interval,
    IntervalTree,
    IntervalTreeLink,
    IntervalTreeNode,
    IntervalTreeNodeReservation,
    Overlapping,
    OverlappingMut,
    RemovedNode,
    Surplus, //
};
use kernel::{
    alloc::{
        fail,
        AllocError, //
    },
    prelude::*, //
};
use std::sync::Arc;

#[test]
fn reservation_fails_cleanly_at_each_allocation() {
    let value = Arc::new(());
    let mut allocations = 0;
    loop {
        let clone = value.clone();
        match fail::after(allocations, || IntervalTreeNode::new(clone, GFP_KERNEL)) {
            Ok(_) => break,
            Err(AllocError) => allocations += 1,
        }
    }
    assert!(allocations > 0);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn nothing_but_the_reservation_allocates() {
    let mut tree = IntervalTree::new();
    let mut links = Vec::new();
    for i in 0..10_000u64 {
        let reserved = IntervalTreeNode::new(i, GFP_KERNEL).unwrap();
        let interval = Interval::point(i * 7919 % 10_000);
        links.push(fail::after(0, || tree.insert(reserved, interval)).0);
    }
    fail::after(0, || {
        for (i, link) in links.iter().enumerate() {
            let interval = Interval::point(i as u64 * 104_729 % 10_000);
            assert_eq!(tree.update(link, interval), Ok(()));
        }
        assert_eq!(tree.iter().count(), 10_000);
        for link in links {
            assert!(tree.remove(link).is_ok());
        }
    });
    assert_eq!(tree.verify(), Ok(()));
}

/// Each insertion brings a node and gets most of them back, however the tree was left by removals.
#[test]
fn memory_suffices_after_any_removals() {
    let mut tree = IntervalTree::new();
    for (growth, keep) in [(5000, 3), (100, 2), (3000, 1000), (10_000, 7)] {
        let mut links = Vec::new();
        for i in 0..growth {
            let reserved = IntervalTreeNode::new(i, GFP_KERNEL).unwrap();
            links.push(tree.insert(reserved, Interval::point(i)).0);
        }
        for (i, link) in links.into_iter().enumerate() {
            if i % keep != 0 {
                assert!(tree.remove(link).is_ok());
            }
        }
        assert_eq!(tree.verify(), Ok(()));
    }
}

#[test]
fn tree_and_links_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<IntervalTree<u64>>();
    is_shared::<IntervalTreeNode<u64>>();
    is_shared::<RemovedNode<u64>>();
    is_shared::<Overlapping<'_, u64>>();
    is_shared::<OverlappingMut<'_, u64>>();
    is_shared::<Cursor<'_, u64>>();
    is_shared::<CursorMut<'_, u64>>();
    // Memory without a value.
    is_shared::<IntervalTreeNodeReservation<*const u64>>();
    is_shared::<Surplus>();
    // A link alone gives no access to the value.
    is_shared::<IntervalTreeLink<*const u64>>();
    assert_eq!(size_of::<IntervalTreeLink<u64>>(), 16);
}

#[test]
fn stab_among_65536_disjoint_intervals_visits_few_nodes() {
    let mut tree = IntervalTree::new();
    for i in 0..65_536u64 {
        let start = i * 40_503 % 65_536 * 4;
        let reserved = IntervalTreeNode::new((), GFP_KERNEL).unwrap();
        let _linked = tree.insert(reserved, Interval::new(start, start + 3).unwrap());
    }
    for point in 0..65_536 * 4 {
        let mut overlapping = tree.overlapping(Interval::point(point));
        assert_eq!(overlapping.by_ref().count(), 1);
        assert!(overlapping.visited() <= 40, "{}", overlapping.visited());
    }
}
