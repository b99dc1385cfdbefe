// SPDX-License-Identifier: GPL-2.0-only

//! Positions of pages in the rmap's index space.

use crate::interval_tree::Interval;
use core::{
    fmt,
    ops::{
        Bound,
        Range,
        RangeBounds, //
    }, //
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// The position of a page in the index space of its anon_vma, in pages.
///
/// It is given to a page when the page is created, and kept by split, fork and mremap. The index
/// space is the driver's own: it has nothing to do with `vm_pgoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Index(pub(crate) u64);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Indices from a first to a last one; never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indices(Interval);

impl Indices {
    /// All.
    pub(crate) const ALL: Self = Self(Interval::ALL);

    /// Those from `first` to `last`; `None` if there are none.
    pub(crate) fn new(first: Index, last: Index) -> Option<Self> {
        Interval::new(first.0, last.0).map(Self)
    }

    /// One.
    pub(crate) fn one(index: Index) -> Self {
        Self(Interval::point(index.0))
    }

    /// The first.
    pub(crate) fn first(self) -> Index {
        Index(self.0.start())
    }

    /// The last.
    pub(crate) fn last(self) -> Index {
        Index(self.0.last())
    }

    /// Whether `index` is one of them.
    pub(crate) fn contain(self, index: Index) -> bool {
        self.0.contains(Interval::point(index.0))
    }

    /// Those that are behind `index`; `None` if there are none.
    pub(crate) fn behind(self, index: Index) -> Option<Self> {
        Self::new(Index(index.0.checked_add(1)?), self.last())
    }

    /// Those that are among `others`, too; `None` if there are none.
    pub(crate) fn common(self, others: Self) -> Option<Self> {
        Self::new(
            self.first().max(others.first()),
            self.last().min(others.last()),
        )
    }
}

/// Page numbers of addresses, from a first to a last one; never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages(Interval);

impl Pages {
    /// All.
    pub(crate) const ALL: Self = Self(Interval::ALL);

    /// Those of `addresses`; [`EINVAL`] if there are none.
    pub(crate) fn of(addresses: Range<usize>) -> Result<Self> {
        if addresses.is_empty() {
            return Err(EINVAL);
        }
        let first = addresses.start >> PAGE_SHIFT;
        let last = (addresses.end - 1) >> PAGE_SHIFT;
        Interval::new(first as u64, last as u64)
            .map(Self)
            .ok_or(EINVAL)
    }

    /// Those from `first` on.
    pub(crate) fn from_first(first: u64) -> Self {
        Interval::new(first, u64::MAX).map_or(Self::ALL, Self)
    }

    /// The one of `address`.
    pub(crate) fn at(address: usize) -> Self {
        Self(Interval::point((address >> PAGE_SHIFT) as u64))
    }

    /// The first.
    pub(crate) fn first(self) -> u64 {
        self.0.start()
    }

    /// The last.
    pub(crate) fn last(self) -> u64 {
        self.0.last()
    }

    /// Their addresses.
    pub(crate) fn addresses(self) -> Range<usize> {
        (self.first() as usize) << PAGE_SHIFT..(self.last() as usize + 1) << PAGE_SHIFT
    }

    /// Whether that of `address` is one of them.
    pub(crate) fn contain(self, address: usize) -> bool {
        self.0.contains(Self::at(address).0)
    }

    /// Those that are among `others`, too; `None` if there are none.
    pub(crate) fn common(self, others: Self) -> Option<Self> {
        let (first, last) = (
            self.first().max(others.first()),
            self.last().min(others.last()),
        );
        Interval::new(first, last).map(Self)
    }

    /// The first `count` of them, at least one; all if they are fewer.
    pub(crate) fn at_most(self, count: u64) -> Self {
        let last = self.first().saturating_add(count.saturating_sub(1));
        Interval::new(self.first(), self.last().min(last)).map_or(self, Self)
    }

    /// Those that are behind all of `others`; `None` if there are none.
    pub(crate) fn behind(self, others: Self) -> Option<Self> {
        Interval::new(others.last().checked_add(1)?, self.last()).map(Self)
    }
}

/// An interval tree is asked by them.
macro_rules! impl_interval {
    ($type:ident) => {
        impl From<$type> for Interval {
            fn from(from: $type) -> Self {
                from.0
            }
        }

        impl From<Interval> for $type {
            fn from(interval: Interval) -> Self {
                Self(interval)
            }
        }

        impl RangeBounds<u64> for $type {
            fn start_bound(&self) -> Bound<&u64> {
                self.0.start_bound()
            }

            fn end_bound(&self) -> Bound<&u64> {
                self.0.end_bound()
            }
        }
    };
}

impl_interval!(Indices);
impl_interval!(Pages);

/// Where a VMA puts its indices: the (possibly virtual) address of index 0.
///
/// Constant for the lifetime of a VMA: a split moves a border, not a page; what mremap moves gets a
/// new VMA. Arithmetic wraps, since index 0 need not lie in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base(usize);

impl Base {
    /// The base that places `index` at `address`.
    pub(crate) fn placing(index: Index, address: usize) -> Self {
        Self(address.wrapping_sub((index.0 as usize) << PAGE_SHIFT))
    }

    /// The index of the page at `address`.
    pub(crate) fn index(self, address: usize) -> Index {
        Index((address.wrapping_sub(self.0) >> PAGE_SHIFT) as u64)
    }

    /// The address of the first byte of the page with `index`.
    pub(crate) fn address(self, index: Index) -> usize {
        self.0.wrapping_add((index.0 as usize) << PAGE_SHIFT)
    }

    /// The addresses of the pages with `indices`.
    pub(crate) fn addresses(self, indices: Indices) -> Range<usize> {
        let start = self.address(indices.first());
        start..self.address(indices.last()).wrapping_add(PAGE_SIZE)
    }

    /// The indices of `addresses`; [`EINVAL`] if there are none.
    pub(crate) fn indices(self, addresses: Range<usize>) -> Result<Indices> {
        if addresses.is_empty() {
            return Err(EINVAL);
        }
        Indices::new(self.index(addresses.start), self.index(addresses.end - 1)).ok_or(EINVAL)
    }
}
