// SPDX-License-Identifier: GPL-2.0-only

//! Which intervals, and which points to look for: the same for each tree, on the host and in the guest.

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Moves `count` random elements to the end.
    pub(crate) fn gather<T>(&mut self, from: &mut [T], count: usize) {
        let len = from.len();
        for done in 0..count {
            let chosen = self.next() as usize % (len - done);
            from.swap(chosen, len - 1 - done);
        }
    }
}

/// How the intervals lie to each other.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Side by side: one mapping that mprotect has split.
    Disjoint,
    /// Halves of halves: each covers two of half its length. A point is in one of each length.
    Nested,
    /// Each 32 times: mappings that forked processes share.
    Shared,
}

const LENGTH: u64 = 16;
const SHARERS: usize = 32;

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Disjoint, Self::Nested, Self::Shared];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disjoint => "disjoint",
            Self::Nested => "nested",
            Self::Shared => "shared",
        }
    }

    /// Start and last of the `i`th of `2 * n` intervals. A tree of `n` holds half of them.
    pub(crate) fn interval(self, i: usize, n: usize) -> (u64, u64) {
        let (place, length) = match self {
            Self::Disjoint => (i, LENGTH),
            Self::Shared => (i / SHARERS, LENGTH),
            Self::Nested => {
                let (mut place, mut count, mut length) = (i, n, LENGTH);
                while place >= count && count > 1 {
                    place -= count;
                    count /= 2;
                    length *= 2;
                }
                (place % count, length)
            }
        };
        let start = place as u64 * length;
        (start, start + length - 1)
    }

    /// A random point among the intervals.
    pub(crate) fn point(self, random: u64, n: usize) -> u64 {
        let places = match self {
            Self::Disjoint => 2 * n,
            Self::Shared => 2 * n / SHARERS,
            Self::Nested => n,
        };
        random % (places as u64 * LENGTH)
    }
}

/// An interval with one end cut, as a split of a VMA does.
pub(crate) fn shrunk((start, last): (u64, u64), random: u64) -> (u64, u64) {
    let by = (last - start) / 2;
    if random & 1 == 0 {
        (start + by, last)
    } else {
        (start, last - by)
    }
}
