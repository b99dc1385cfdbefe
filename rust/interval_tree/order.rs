// SPDX-License-Identifier: GPL-2.0-only

//! The order of a leaf's slots, so that these stay where they are when others come and go.
//!
//! A permutation in one word is what the border nodes of Masstree have (Mao, Kohler, Morris: "Cache craftiness for fast
//! multicore key-value storage"), there for readers without locks.

/// A permutation of the slots 1 to 15 of a leaf: those in use, in order, then the others in any; and how many these are.
///
/// # Invariants
///
/// Of the 16 digits of 4 bits, the least significant one is how many slots are not in use. In the others each slot is
/// once, and the first in order is the least significant.
#[derive(Clone, Copy)]
pub(super) struct Order(u64);

const BITS: u32 = 4;

/// A one in each digit for a slot.
const ONES: u64 = 0x1111_1111_1111_1110;

impl Order {
    /// No slot is in use.
    // INVARIANT: Each slot is there once.
    pub(super) const EMPTY: Self = Self(0xfedc_ba98_7654_321f);

    /// How many slots there are.
    pub(super) const CAPACITY: usize = 15;

    /// How many slots are in use.
    #[inline]
    pub(super) fn len(self) -> usize {
        Self::CAPACITY.wrapping_sub(self.0 as usize % 16)
    }

    /// Whether all slots are in use.
    #[inline]
    pub(super) fn is_full(self) -> bool {
        self.0 % 16 == 0
    }

    /// This order with the first `len` slots in use, at most [`CAPACITY`](Self::CAPACITY).
    #[inline]
    pub(super) fn with_len(self, len: usize) -> Self {
        // INVARIANT: The digits for slots are the same.
        Self(self.0 & !15 | !len as u64 & 15)
    }

    /// The lowest bit of the digit at `rank`.
    #[inline]
    fn shift(rank: usize) -> u32 {
        (rank as u32).wrapping_mul(BITS).wrapping_add(BITS)
    }

    /// The slot at `rank`, which is less than [`CAPACITY`](Self::CAPACITY): in use if it is less than [`len`](Self::len).
    #[inline]
    pub(super) fn slot(self, rank: usize) -> usize {
        self.0.wrapping_shr(Self::shift(rank)) as usize % 16
    }

    /// The slot in front of `slot`, which is in use.
    #[inline]
    pub(super) fn previous(self, slot: usize) -> Option<usize> {
        // In front of the first is the count.
        let place = self.place(slot).wrapping_sub(BITS);
        (place != 0).then_some(self.0.wrapping_shr(place) as usize % 16)
    }

    /// The slot in use behind `slot`, which is in use.
    #[inline]
    pub(super) fn next(self, slot: usize) -> Option<usize> {
        let place = self.place(slot).wrapping_add(BITS);
        (place < Self::shift(self.len())).then_some(self.0.wrapping_shr(place) as usize % 16)
    }

    /// Whether `slot` is in use.
    pub(super) fn uses(self, slot: usize) -> bool {
        slot != 0 && self.place(slot) < Self::shift(self.len())
    }

    /// The lowest bit of the digit that is `slot`. If there is none, that of the last.
    #[inline]
    fn place(self, slot: usize) -> u32 {
        let differing = self.0 ^ (slot as u64).wrapping_mul(ONES);
        // The lowest digit of zero is found exactly: a borrow comes from such a digit, and goes up.
        let zero = differing.wrapping_sub(ONES) & !differing & (ONES << (BITS - 1));
        // With the last bit set, the processor need not be asked what it does with zero.
        (zero | 1 << (u64::BITS - 1)).trailing_zeros() & !(BITS - 1)
    }

    /// Takes a slot that is not in use, of which there must be one, to be at `rank`.
    #[inline]
    pub(super) fn insert(&mut self, rank: usize) -> usize {
        let shift = Self::shift(rank);
        let slot = self.0 >> (u64::BITS - BITS);
        // Fifteen times more of what is behind is a shift by one digit.
        let behind = self.0.wrapping_shr(shift);
        let more = behind
            .wrapping_mul(15)
            .wrapping_add(slot)
            .wrapping_shl(shift);
        // INVARIANT: The digit that is shifted out comes in again. The count is not zero, so nothing borrows.
        self.0 = self.0.wrapping_add(more).wrapping_sub(1);
        slot as usize
    }

    /// Gives up `slot`, which is in use; returns the slot that was behind it, which need not be in use.
    #[inline]
    pub(super) fn remove(&mut self, slot: usize) -> usize {
        let place = self.place(slot);
        let behind = u64::MAX.wrapping_shl(place);
        let moved = self.0 >> BITS & behind;
        let last = (slot as u64) << (u64::BITS - BITS);
        // INVARIANT: The digit that is shifted over is that of the slot, which comes in again. The count is less than 15, so
        // nothing carries.
        self.0 = (self.0 & !behind | moved | last).wrapping_add(1);
        self.0.wrapping_shr(place) as usize % 16
    }

    /// Puts the first `count` slots behind all others.
    pub(super) fn rotate(&mut self, count: usize) {
        let by = (count as u32).wrapping_mul(BITS);
        let slots = self.0 >> BITS;
        let behind = slots.wrapping_shl((u64::BITS - BITS).wrapping_sub(by));
        // INVARIANT: The digits for slots go round.
        self.0 = (slots.wrapping_shr(by) | behind) << BITS | self.0 & 15;
    }

    /// The slots in use, in order.
    #[inline]
    pub(super) fn slots(self) -> SlotSet {
        let unused = (self.0 as u32 % 16).wrapping_mul(BITS);
        SlotSet(self.0 >> BITS & (u64::MAX >> BITS).wrapping_shr(unused))
    }
}

/// Some slots in order. No slot is zero, which so is the end.
#[derive(Clone, Copy)]
pub(super) struct SlotSet(u64);

impl SlotSet {
    pub(super) const NONE: Self = Self(0);
}

impl Iterator for SlotSet {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let slot = self.0 as usize % 16;
        self.0 >>= BITS;
        (slot != 0).then_some(slot)
    }
}
