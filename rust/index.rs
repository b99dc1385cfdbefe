// SPDX-License-Identifier: GPL-2.0-only

//! Positions of pages in the rmap's index space.

use crate::interval_tree::Interval;
use core::{
    fmt,
    ops::Range, //
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
    pub(crate) fn addresses(self, indices: Interval) -> Range<usize> {
        let start = self.address(Index(indices.start()));
        start..self.address(Index(indices.last())).wrapping_add(PAGE_SIZE)
    }

    /// The indices that `[start, end)` covers; [`EINVAL`] if it is empty.
    pub(crate) fn interval(self, start: usize, end: usize) -> Result<Interval> {
        if start >= end {
            return Err(EINVAL);
        }
        Interval::new(self.index(start).0, self.index(end - 1).0).ok_or(EINVAL)
    }
}

/// Page numbers of the addresses `[start, end)`; [`EINVAL`] if there are none.
pub(crate) fn pages(start: usize, end: usize) -> Result<Interval> {
    if start >= end {
        return Err(EINVAL);
    }
    Interval::new(
        (start >> PAGE_SHIFT) as u64,
        ((end - 1) >> PAGE_SHIFT) as u64,
    )
    .ok_or(EINVAL)
}
