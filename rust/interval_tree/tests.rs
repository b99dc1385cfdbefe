// SPDX-License-Identifier: GPL-2.0

//! KUnit tests.

use kernel::prelude::*;

#[kunit_tests(anon_rmap_interval_tree)]
mod tests {
    use super::super::*;

    fn interval(start: u64, last: u64) -> Result<Interval> {
        Interval::new(start, last).ok_or(EINVAL)
    }

    #[test]
    fn equal_starts_keep_insertion_order() -> Result {
        let mut tree = IntervalTree::new();
        for value in 0..100u64 {
            let _linked = tree.insert(
                Reserved::new(value, GFP_KERNEL)?,
                interval(value % 2, value)?,
            );
        }
        assert_eq!(tree.verify(), Ok(()));
        let mut expected = (0..100u64)
            .filter(|v| v % 2 == 0)
            .chain((0..100).filter(|v| v % 2 == 1));
        for (_, value) in tree.iter() {
            assert_eq!(Some(*value), expected.next());
        }
        assert_eq!(expected.next(), None);
        Ok(())
    }
}
