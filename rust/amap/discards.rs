// SPDX-License-Identifier: GPL-2.0-only

//! What is still to be taken out of an amap.

use crate::index::Indices;

/// Ranges that are to be taken out of an amap and are not yet, for want of memory: what is there is gone as far as
/// the user can see.
///
/// # Invariants
///
/// `in_use` is the number of places that are.
pub(crate) struct Discards {
    places: [Option<Indices>; Self::PLACES],
    in_use: usize,
}

impl Discards {
    const PLACES: usize = 8;

    /// None.
    // INVARIANT: No place is in use.
    pub(super) const NONE: Self = Self {
        places: [None; Self::PLACES],
        in_use: 0,
    };

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_use == 0
    }

    /// Adds `range`. False if there is no place left.
    pub(super) fn add(&mut self, range: Indices) -> bool {
        match self.places.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                // INVARIANT: It was free.
                *place = Some(range);
                self.in_use += 1;
                true
            }
            None => false,
        }
    }

    pub(super) fn first(&self) -> Option<Indices> {
        self.places.iter().flatten().next().copied()
    }

    pub(super) fn remove(&mut self, range: Indices) {
        if let Some(place) = self.places.iter_mut().find(|place| **place == Some(range)) {
            // INVARIANT: It was in use.
            *place = None;
            self.in_use -= 1;
        }
    }
}
