// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests, which are the host's tests, too.

use kernel::prelude::*;

#[kunit_tests(anon_rmap_interval_tree)]
mod tests {
    use super::super::{
        order::Order,
        *, //
    };
    use core::ops::Bound;
    use kernel::sync::atomic::{
        Atomic,
        Relaxed, //
    };

    fn interval(start: u64, last: u64) -> Result<Interval> {
        Interval::new(start, last).ok_or(EINVAL)
    }

    fn insert<T>(
        tree: &mut IntervalTree<T>,
        start: u64,
        last: u64,
        value: T,
    ) -> Result<IntervalTreeLink<T>> {
        Ok(tree.try_create_and_insert(interval(start, last)?, value, GFP_KERNEL)?)
    }

    /// Counts its drops.
    struct Counted<'a>(&'a Atomic<usize>);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Links `n` intervals of length ten side by side, from a shuffled order.
    fn disjoint(n: u64) -> Result<IntervalTree<u64>> {
        let mut tree = IntervalTree::new();
        for i in 0..n {
            // A prime permutes the residues of what it does not divide.
            let i = i * 2_654_435_761 % n;
            let _link = insert(&mut tree, i * 10, i * 10 + 9, i)?;
        }
        Ok(tree)
    }

    #[test]
    fn interval_refuses_to_end_before_it_starts() {
        assert_eq!(Interval::new(2, 1), None);
        assert_eq!(Interval::new(1, 1), Some(Interval::point(1)));
        assert_eq!(Interval::new(0, u64::MAX), Some(Interval::ALL));
    }

    #[test]
    fn intervals_that_share_an_end_overlap() -> Result {
        assert!(interval(1, 5)?.overlaps(interval(5, 9)?));
        assert!(interval(5, 9)?.overlaps(interval(1, 5)?));
        assert!(!interval(1, 4)?.overlaps(interval(5, 9)?));
        assert!(interval(1, 9)?.contains(interval(1, 9)?));
        assert!(!interval(1, 8)?.contains(interval(1, 9)?));
        Ok(())
    }

    #[test]
    fn order_of_a_leaf_is_that_of_a_list() -> Result {
        let mut order = Order::EMPTY;
        let mut list: KVec<usize> = KVec::new();
        for round in 0..1000usize {
            // Grows to full and shrinks to empty, at ranks all over.
            if round / Order::CAPACITY % 2 == 0 {
                let rank = round * 7 % (list.len() + 1);
                let slot = order.insert(rank);
                assert!(!list.iter().any(|other| *other == slot));
                list.push(slot, GFP_KERNEL)?;
                list.get_mut(rank..).ok_or(EINVAL)?.rotate_right(1);
            } else {
                let rank = round * 5 % list.len();
                let next = order.remove(*list.get(rank).ok_or(EINVAL)?);
                list.get_mut(rank..).ok_or(EINVAL)?.rotate_left(1);
                list.pop();
                assert_eq!(next, order.slot(rank));
                assert_eq!(list.get(rank).is_some(), order.uses(next));
            }
            assert_eq!(order.len(), list.len());
            assert_eq!(order.is_full(), list.len() == Order::CAPACITY);
            assert!(order.slots().eq(list.iter().copied()));
            for slot in 0..=Order::CAPACITY {
                assert_eq!(order.uses(slot), list.iter().any(|used| *used == slot));
            }
            for pair in list.windows(2) {
                if let [one, other] = *pair {
                    assert_eq!(order.next(one), Some(other));
                    assert_eq!(order.previous(other), Some(one));
                }
            }
            for (rank, slot) in list.iter().enumerate() {
                assert_eq!(order.slot(rank), *slot);
            }
            assert_eq!(list.first().and_then(|slot| order.previous(*slot)), None);
            assert_eq!(list.last().and_then(|slot| order.next(*slot)), None);
        }
        Ok(())
    }

    #[test]
    fn empty_tree_has_nothing() {
        let tree = IntervalTree::<u64>::new();
        assert!(tree.is_empty());
        assert!(tree.first().is_none());
        assert!(tree.last().is_none());
        assert!(tree.iter().next().is_none());
        assert_eq!(tree.overlapping(Interval::ALL).visited(), 0);
        assert_eq!(tree.verify(), Ok(()));
    }

    #[test]
    fn equal_starts_keep_insertion_order() -> Result {
        let mut tree = IntervalTree::new();
        for value in 0..200u64 {
            let _link = insert(&mut tree, value % 2, value, value)?;
        }
        assert_eq!(tree.verify(), Ok(()));
        let even = (0..200u64).filter(|value| value % 2 == 0);
        let odd = (0..200u64).filter(|value| value % 2 == 1);
        assert!(tree
            .iter()
            .map(|(_, value)| *value)
            .eq(Iterator::chain(even, odd)));
        Ok(())
    }

    #[test]
    fn greatest_start_keeps_insertion_order() -> Result {
        let mut tree = IntervalTree::new();
        for value in 0..100u64 {
            let _link = insert(&mut tree, u64::MAX, u64::MAX, value)?;
        }
        assert_eq!(tree.verify(), Ok(()));
        assert!(tree.iter().map(|(_, value)| *value).eq(0..100));
        assert_eq!(tree.overlapping(Interval::point(u64::MAX)).count(), 100);
        assert_eq!(tree.overlapping(Interval::point(u64::MAX - 1)).count(), 0);
        Ok(())
    }

    #[test]
    fn query_finds_what_overlaps_and_nothing_else() -> Result {
        let mut tree = IntervalTree::new();
        // Lengths from one to a thousand, so that some reach over many others.
        for i in 0..500u64 {
            let start = i * 7 % 500 * 10;
            let _link = insert(&mut tree, start, start + i * i % 1000, i)?;
        }
        for start in (0..6000).step_by(37) {
            let range = interval(start, start + start % 50)?;
            let expected = tree.iter().filter(|(found, _)| found.overlaps(range));
            assert!(tree.overlapping(range).eq(expected));
        }
        Ok(())
    }

    #[test]
    fn query_goes_on_at_a_position() -> Result {
        let mut tree = IntervalTree::new();
        // Many equal starts, long runs of them, and some that reach over others.
        for i in 0..600u64 {
            let start = i * 7 % 600 / 100 * (i % 3);
            let _link = insert(&mut tree, start, start + i * i % 40, i)?;
        }
        for point in 0..40 {
            let range = Interval::point(point);
            let mut found = tree.overlapping(range);
            assert_eq!(found.resume_position(), None);
            let mut count = tree.overlapping(range).count();
            while found.next().is_some() {
                count -= 1;
                let position = found.resume_position().ok_or(EINVAL)?;
                let behind = tree.overlapping_after(range, position);
                assert_eq!(behind.count(), count);
            }
            assert_eq!(count, 0);
        }
        Ok(())
    }

    #[test]
    fn query_that_goes_on_misses_nothing_that_moves_on() -> Result {
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        for i in 0..100u64 {
            links.push(insert(&mut tree, 0, 1000, i)?, GFP_KERNEL)?;
        }
        let mut seen = KVec::new();
        let mut position = None;
        // Splits and removals between any two looks.
        for step in 1u64.. {
            let mut found = match position {
                None => tree.overlapping(Interval::point(900)),
                Some(position) => tree.overlapping_after(Interval::point(900), position),
            };
            let Some((_, value)) = found.next() else {
                break;
            };
            seen.push(*value, GFP_KERNEL)?;
            position = found.resume_position();
            let victim = (step * 37 % 100) as usize;
            let link = links.get(victim).ok_or(EINVAL)?;
            let old = tree.interval(link).map_err(|_| EINVAL)?;
            if old.start() < 800 {
                let _ = tree.update(link, interval(old.start() + 50, 1000)?);
            }
            assert_eq!(tree.verify(), Ok(()));
            assert!(step < 10_000);
        }
        for i in 0..100 {
            assert!(seen.iter().any(|value| *value == i));
        }
        Ok(())
    }

    #[test]
    fn stab_among_4096_disjoint_intervals_visits_few_nodes() -> Result {
        let tree = disjoint(4096)?;
        assert_eq!(tree.verify(), Ok(()));
        for i in (0..4096).step_by(31) {
            let mut overlapping = tree.overlapping(Interval::point(i * 10 + 5));
            assert_eq!(overlapping.next().map(|(_, value)| *value), Some(i));
            assert!(overlapping.next().is_none());
            assert!(overlapping.visited() <= 40);
        }
        Ok(())
    }

    #[test]
    fn query_looks_at_nothing_in_advance() -> Result {
        let tree = disjoint(1024)?;
        let mut all = tree.iter();
        all.next();
        let visited = all.visited();
        assert!(visited <= 10);
        assert!(all.next().is_some());
        assert_eq!(all.visited(), visited);
        assert!(all.by_ref().count() > 1000);
        assert!(all.visited() > 1024 / 16);
        assert!(all.next().is_none());
        Ok(())
    }

    #[test]
    fn first_and_last_are_those_by_start() -> Result {
        let mut tree = IntervalTree::new();
        let _long = insert(&mut tree, 10, 1000, "long")?;
        let first = insert(&mut tree, 5, 6, "first")?;
        let last = insert(&mut tree, 500, 501, "last")?;
        assert_eq!(tree.first(), Some((interval(5, 6)?, &"first")));
        assert_eq!(tree.last(), Some((interval(500, 501)?, &"last")));
        assert!(tree.remove(first).is_ok());
        assert!(tree.remove(last).is_ok());
        assert_eq!(tree.first(), tree.last());
        Ok(())
    }

    #[test]
    fn removed_is_found_no_more_and_the_others_still_are() -> Result {
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        for i in 0..1000u64 {
            links.push(insert(&mut tree, i / 2, i, i)?, GFP_KERNEL)?;
        }
        let mut left = 1000;
        while let Some(link) = links.pop() {
            let removed = tree.remove(link).map_err(|_| EINVAL)?;
            left -= 1;
            assert_eq!(*removed, left);
            assert_eq!(tree.len() as u64, left);
            if left % 64 == 0 {
                assert_eq!(tree.verify(), Ok(()));
            }
            assert_eq!(tree.last().map(|(_, value)| *value), left.checked_sub(1));
        }
        assert!(tree.is_empty());
        Ok(())
    }

    #[test]
    fn tree_shrinks_from_each_side() -> Result {
        // Which of the links left is removed next: the first, the last, one in the middle.
        let choices: [fn(usize) -> usize; 3] = [|_| 0, |left| left - 1, |left| left / 2];
        for choose in choices {
            let mut tree = IntervalTree::new();
            let mut links = KVec::new();
            for i in 0..2000u64 {
                links.push(insert(&mut tree, i * 10, i * 10 + 15, i)?, GFP_KERNEL)?;
            }
            while !links.is_empty() {
                let link = links.remove(choose(links.len())).map_err(|_| EINVAL)?;
                assert!(tree.remove(link).is_ok());
                if links.len() % 16 == 0 {
                    assert_eq!(tree.verify(), Ok(()));
                    assert_eq!(tree.iter().count(), links.len());
                }
            }
            assert!(tree.is_empty());
        }
        Ok(())
    }

    #[test]
    fn update_moves_behind_equal_starts_unless_the_start_stays() -> Result {
        let mut tree = IntervalTree::new();
        let a = insert(&mut tree, 10, 20, 'a')?;
        let _b = insert(&mut tree, 10, 20, 'b')?;
        let c = insert(&mut tree, 30, 40, 'c')?;
        assert_eq!(tree.update(&a, interval(10, 99)?), Ok(()));
        assert!(tree.iter().map(|(_, value)| *value).eq(['a', 'b', 'c']));
        assert_eq!(tree.update(&a, interval(30, 99)?), Ok(()));
        assert_eq!(tree.update(&c, interval(10, 10)?), Ok(()));
        assert!(tree.iter().map(|(_, value)| *value).eq(['b', 'c', 'a']));
        assert_eq!(tree.interval(&a), interval(30, 99).map_err(|_| ForeignLink));
        assert_eq!(tree.verify(), Ok(()));
        Ok(())
    }

    #[test]
    fn a_split_shrinks_one_interval_and_adds_the_other() -> Result {
        let mut tree = IntervalTree::new();
        let mut lower = insert(&mut tree, 0, 4095, 0)?;
        for at in 1..4096u64 {
            assert_eq!(tree.update(&lower, interval(at - 1, at - 1)?), Ok(()));
            lower = insert(&mut tree, at, 4095, at)?;
            assert_eq!(tree.overlapping(Interval::point(4095)).count(), 1);
        }
        assert_eq!(tree.verify(), Ok(()));
        for at in 0..4096 {
            let found = tree.overlapping(Interval::point(at));
            assert!(found.map(|(_, value)| *value).eq([at]));
        }
        Ok(())
    }

    #[test]
    fn link_is_refused_by_other_trees() -> Result {
        let mut tree = IntervalTree::new();
        let mut other = IntervalTree::new();
        let link = insert(&mut tree, 1, 2, 'x')?;
        let _link = insert(&mut other, 1, 2, 'y')?;
        assert_eq!(other.value(&link), Err(ForeignLink));
        assert_eq!(other.interval(&link), Err(ForeignLink));
        assert_eq!(other.update(&link, Interval::ALL), Err(ForeignLink));
        let link = other.remove(link).err().ok_or(EINVAL)?;
        assert_eq!(other.len(), 1);
        assert_eq!(tree.value(&link), Ok(&'x'));
        drop(tree);
        assert!(other.remove(link).is_err());
        Ok(())
    }

    #[test]
    fn link_goes_with_the_tree_that_moves() -> Result {
        let mut tree = IntervalTree::new();
        let link = insert(&mut tree, 1, 2, 'x')?;
        let moved = core::mem::take(&mut tree);
        assert_eq!(tree.value(&link), Err(ForeignLink));
        assert_eq!(moved.value(&link), Ok(&'x'));
        Ok(())
    }

    #[test]
    fn each_value_is_dropped_once() -> Result {
        let drops = Atomic::<usize>::new(0);
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        for i in 0..100 {
            links.push(insert(&mut tree, i, i, Counted(&drops))?, GFP_KERNEL)?;
        }
        drop(IntervalTreeNode::new(Counted(&drops), GFP_KERNEL)?);
        assert_eq!(drops.load(Relaxed), 1);
        for _ in 0..50 {
            let link = links.pop().ok_or(EINVAL)?;
            let removed = tree.remove(link).map_err(|_| EINVAL)?;
            let before = drops.load(Relaxed);
            drop(removed);
            assert_eq!(drops.load(Relaxed), before + 1);
        }
        drop(links);
        assert_eq!(drops.load(Relaxed), 51);
        drop(tree);
        assert_eq!(drops.load(Relaxed), 101);
        Ok(())
    }

    #[test]
    fn ranges_are_those_of_rust() -> Result {
        let max = u64::MAX;
        assert_eq!(Interval::from_range(3..7), Some(interval(3, 6)?));
        assert_eq!(Interval::from_range(3..=7), Some(interval(3, 7)?));
        assert_eq!(Interval::from_range(..=7), Some(interval(0, 7)?));
        assert_eq!(Interval::from_range(3..), Some(interval(3, max)?));
        assert_eq!(Interval::from_range(..), Some(Interval::ALL));
        assert_eq!(Interval::from_range(max..=max), Some(Interval::point(max)));
        let behind = |start| (Bound::Excluded(start), Bound::Unbounded);
        assert_eq!(Interval::from_range(behind(3)), Some(interval(4, max)?));
        assert_eq!(Interval::from_range(behind(max)), None);
        assert_eq!(Interval::from_range(7..7), None);
        assert_eq!(Interval::from_range(..0), None);
        let one = interval(3, 7)?;
        assert_eq!(Interval::from_range(one), Some(one));
        Ok(())
    }

    #[test]
    fn query_of_an_empty_range_finds_nothing() -> Result {
        let mut tree = disjoint(100)?;
        assert_eq!(tree.overlapping(7..7).count(), 0);
        assert_eq!(tree.overlapping_mut(7..7).count(), 0);
        let mut all = tree.iter();
        all.next();
        let position = all.resume_position().ok_or(EINVAL)?;
        assert_eq!(tree.overlapping_after(7..7, position).count(), 0);
        assert_eq!(tree.overlapping_after(.., position).count(), 99);
        Ok(())
    }

    #[test]
    fn values_can_be_changed_where_they_are() -> Result {
        let mut tree = disjoint(100)?;
        for (interval, value) in tree.overlapping_mut(305..=500) {
            *value = interval.last();
        }
        for (interval, value) in &tree {
            let is_in = interval.overlaps(Interval::new(305, 500).ok_or(EINVAL)?);
            assert_eq!((*value == interval.last()), is_in);
        }
        for (_, value) in &mut tree {
            *value = 1;
        }
        assert_eq!(tree.iter().map(|(_, value)| value).sum::<u64>(), 100);
        // All of them at once.
        let mut values = KVec::new();
        for (_, value) in &mut tree {
            values.push(value, GFP_KERNEL)?;
        }
        for (value, new) in values.iter_mut().zip(0..) {
            **value = new;
        }
        drop(values);
        assert!(tree.iter().map(|(_, value)| *value).eq(0..100));
        assert_eq!(tree.verify(), Ok(()));
        Ok(())
    }

    #[test]
    fn value_of_a_link_can_be_changed() -> Result {
        let mut tree = disjoint(100)?;
        let link = insert(&mut tree, 55, 66, 0)?;
        *tree.value_mut(&link).map_err(|_| EINVAL)? = 7;
        assert_eq!(tree.value(&link), Ok(&7));
        assert_eq!(IntervalTree::new().value_mut(&link), Err(ForeignLink));
        Ok(())
    }

    #[test]
    fn cursor_goes_both_ways_over_all() -> Result {
        for n in [1, 2, 15, 16, 100, 4096] {
            let tree = disjoint(n)?;
            let mut forth = 0;
            let mut cursor = tree.cursor_front();
            while let Some(at) = cursor {
                assert_eq!(
                    at.current(),
                    (interval(forth * 10, forth * 10 + 9)?, &forth)
                );
                assert_eq!(
                    at.peek_prev().map(|(_, value)| *value),
                    forth.checked_sub(1)
                );
                forth += 1;
                cursor = at.move_next();
            }
            assert_eq!(forth, n);
            let mut back = n;
            let mut cursor = tree.cursor_back();
            while let Some(at) = cursor {
                let next = at.peek_next().map(|(_, value)| *value);
                assert_eq!(next, Some(back).filter(|next| *next < n));
                back -= 1;
                assert_eq!(*at.current().1, back);
                cursor = at.move_prev();
            }
            assert_eq!(back, 0);
        }
        assert!(IntervalTree::<u64>::new().cursor_front().is_none());
        assert!(IntervalTree::<u64>::new().cursor_back().is_none());
        Ok(())
    }

    #[test]
    fn cursor_finds_the_first_that_starts_late_enough() -> Result {
        let mut tree = IntervalTree::new();
        // Runs of equal starts, longer than a leaf, and gaps.
        for i in 0..1000u64 {
            let start = i * 7 % 1000 / 40 * 10;
            let _link = insert(&mut tree, start, start + i, i)?;
        }
        for start in 0..=245 {
            let found = tree.cursor_lower_bound(start).map(|at| at.current());
            assert_eq!(
                found,
                tree.iter().find(|(interval, _)| interval.start() >= start)
            );
            let found = tree.cursor_lower_bound_mut(start).map(|at| at.current().0);
            assert_eq!(found.is_some(), start <= 240);
        }
        assert!(tree.cursor_lower_bound(u64::MAX).is_none());
        let _link = insert(&mut tree, u64::MAX, u64::MAX, 0)?;
        let found = tree.cursor_lower_bound(u64::MAX).map(|at| at.current().0);
        assert_eq!(found, Some(Interval::point(u64::MAX)));
        Ok(())
    }

    #[test]
    fn cursor_changes_values() -> Result {
        let mut tree = disjoint(100)?;
        let mut cursor = tree.cursor_back_mut();
        while let Some(mut at) = cursor {
            let (interval, value) = at.current_mut();
            *value += interval.start();
            assert!(at.peek_next().is_none_or(|(_, value)| *value % 11 == 0));
            cursor = at.move_prev();
        }
        assert!(tree
            .iter()
            .map(|(_, value)| *value)
            .eq((0..100).map(|i| i * 11)));
        Ok(())
    }

    #[test]
    fn tree_is_taken_apart_in_order() -> Result {
        let drops = Atomic::<usize>::new(0);
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        for i in 0..200u64 {
            let link = insert(&mut tree, i * 77 % 200, 1000, Counted(&drops))?;
            links.push(link, GFP_KERNEL)?;
        }
        let mut parts = tree.into_iter();
        for start in 0..150 {
            assert_eq!(parts.len() as u64, 200 - start);
            let (interval, value) = parts.next().ok_or(EINVAL)?;
            assert_eq!(interval.start(), start);
            assert_eq!(drops.load(Relaxed) as u64, start);
            drop(value);
        }
        drop(parts);
        assert_eq!(drops.load(Relaxed), 200);
        // Links are worth nothing now.
        let mut other = IntervalTree::new();
        let _link = insert(&mut other, 1, 2, Counted(&drops))?;
        while let Some(link) = links.pop() {
            assert!(other.remove(link).is_err());
        }
        assert_eq!(other.len(), 1);
        Ok(())
    }

    #[test]
    fn removed_value_can_be_changed_and_linked_again() -> Result {
        let mut tree = IntervalTree::new();
        let link = insert(&mut tree, 1, 2, 10)?;
        let mut removed = tree.remove(link).map_err(|_| EINVAL)?;
        *removed += 1;
        let mut node = IntervalTreeNode::new(removed.into_value(), GFP_KERNEL)?;
        *node += 1;
        let (link, _surplus) = tree.insert(node, Interval::ALL);
        assert_eq!(tree.value(&link), Ok(&12));
        Ok(())
    }
}

/// What would leave a warning in the kernel's log: for the host only.
#[cfg(test)]
mod broken {
    use super::super::*;
    use kernel::bug::count_warnings;

    fn insert(tree: &mut IntervalTree<u64>, at: u64) -> Result<IntervalTreeLink<u64>> {
        Ok(tree.try_create_and_insert(Interval::point(at), at, GFP_KERNEL)?)
    }

    #[test]
    fn insertion_without_nodes_warns_and_changes_nothing() -> Result {
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        for at in 0..15 {
            links.push(insert(&mut tree, at)?, GFP_KERNEL)?;
        }
        tree.raw.lose_spare_nodes();
        let node = IntervalTreeNode::new(7, GFP_KERNEL)?;
        let mut lost = None;
        let warnings = count_warnings(|| lost = Some(tree.insert(node, Interval::point(7)).0));
        assert_eq!(warnings, 1);
        let lost = lost.ok_or(EINVAL)?;
        assert!(tree.iter().map(|(_, value)| *value).eq(0..15));
        assert_eq!(tree.len(), 15);
        assert_eq!(tree.verify(), Err(Violation::Memory));
        // All links are accepted but that one.
        for (link, value) in links.iter().zip(0..) {
            assert_eq!(tree.value(link), Ok(&value));
        }
        assert_eq!(tree.value(&lost), Err(ForeignLink));
        assert_eq!(IntervalTree::new().value(&lost), Err(ForeignLink));
        // SAFETY: It is in no tree.
        drop(unsafe { KBox::from_raw(lost.entry.as_ptr()) });
        Ok(())
    }

    #[test]
    fn update_without_nodes_warns_and_ends_all_links() -> Result {
        let mut tree = IntervalTree::new();
        let mut links = KVec::new();
        // Two leaves, of which the first becomes full.
        for at in (0..16).map(|i| i * 10).chain(1..8) {
            links.push(insert(&mut tree, at)?, GFP_KERNEL)?;
        }
        let last = links.get(15).ok_or(EINVAL)?;
        assert_eq!(tree.value(last), Ok(&150));
        tree.raw.lose_spare_nodes();
        let warnings = count_warnings(|| assert_eq!(tree.update(last, Interval::point(9)), Ok(())));
        assert_eq!(warnings, 1);
        assert_eq!(tree.len(), 22);
        assert_eq!(tree.iter().count(), 22);
        assert!(tree.iter().all(|(_, value)| *value != 150));
        for link in &links {
            assert_eq!(tree.value(link), Err(ForeignLink));
        }
        // SAFETY: It is in no tree.
        drop(unsafe { KBox::from_raw(last.entry.as_ptr()) });
        let link = insert(&mut tree, 200)?;
        assert_eq!(tree.value(&link), Ok(&200));
        Ok(())
    }
}
