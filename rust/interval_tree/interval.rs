// SPDX-License-Identifier: GPL-2.0-only

//! Closed intervals of integers.

use core::ops::{
    Bound,
    RangeBounds, //
};

/// The integers from `start` to `last`, both included.
///
/// It is never empty. [`Interval::from_range`] makes it of a range as Rust writes them; and it is one itself, so it can be
/// given where `impl RangeBounds<u64>` is wanted.
///
/// # Invariants
///
/// `start` is not greater than `last`.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::Interval;
///
/// let interval = Interval::from_range(10..20).ok_or(EINVAL)?;
/// assert_eq!((interval.start(), interval.last()), (10, 19));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    start: u64,
    last: u64,
}

impl Interval {
    /// All integers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert_eq!(Interval::from_range(..), Some(Interval::ALL));
    /// ```
    // INVARIANT: Zero is the least.
    pub const ALL: Self = Self {
        start: 0,
        last: u64::MAX,
    };

    /// The integers from `start` to `last`, both included; none if `start` is greater than `last`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert!(Interval::new(10, 19).is_some());
    /// assert!(Interval::new(19, 10).is_none());
    /// ```
    #[inline]
    pub const fn new(start: u64, last: u64) -> Option<Self> {
        if start > last {
            return None;
        }
        // INVARIANT: Checked just now.
        Some(Self { start, last })
    }

    /// The integers of a range; none if it is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert_eq!(Interval::from_range(10..20), Interval::new(10, 19));
    /// assert_eq!(Interval::from_range(10..=20), Interval::new(10, 20));
    /// assert_eq!(Interval::from_range(10..), Interval::new(10, u64::MAX));
    /// assert_eq!(Interval::from_range(10..10), None);
    /// assert_eq!(Interval::from_range(..0), None);
    /// ```
    #[inline]
    pub fn from_range(range: impl RangeBounds<u64>) -> Option<Self> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(end) => end.checked_sub(1)?,
            Bound::Unbounded => u64::MAX,
        };
        Self::new(start, last)
    }

    /// One integer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert_eq!(Interval::from_range(7..=7), Some(Interval::point(7)));
    /// ```
    #[inline]
    pub const fn point(at: u64) -> Self {
        // INVARIANT: They are equal.
        Self {
            start: at,
            last: at,
        }
    }

    /// What a tree has linked from `start` to `last`.
    #[inline]
    pub(super) const fn of_linked(start: u64, last: u64) -> Self {
        // INVARIANT: It was an interval when it was linked.
        Self { start, last }
    }

    /// The first integer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert_eq!(Interval::point(7).start(), 7);
    /// ```
    #[inline]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The last integer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// assert_eq!(Interval::ALL.last(), u64::MAX);
    /// ```
    #[inline]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Returns whether an integer is in both.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// let interval = Interval::new(10, 19).ok_or(EINVAL)?;
    /// assert!(interval.overlaps(Interval::point(19)));
    /// assert!(!interval.overlaps(Interval::point(20)));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Returns whether all integers of `other` are in this one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::Interval;
    ///
    /// let interval = Interval::new(10, 19).ok_or(EINVAL)?;
    /// assert!(interval.contains(interval));
    /// assert!(!interval.contains(Interval::ALL));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }
}

impl RangeBounds<u64> for Interval {
    #[inline]
    fn start_bound(&self) -> Bound<&u64> {
        Bound::Included(&self.start)
    }

    #[inline]
    fn end_bound(&self) -> Bound<&u64> {
        Bound::Included(&self.last)
    }
}
