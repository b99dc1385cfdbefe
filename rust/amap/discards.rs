// SPDX-License-Identifier: GPL-2.0-only

//! What is still to be taken out of an amap.

use crate::index::Indices;

/// Ranges that are to be taken out of an amap and are not yet, for want of memory: what is there is gone as far as
/// the user can see.
pub(crate) struct Discards([Option<Indices>; Self::PLACES]);

impl Discards {
    const PLACES: usize = 8;

    /// None.
    pub(super) const NONE: Self = Self([None; Self::PLACES]);

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Adds `range`. False if there is no place left.
    pub(super) fn add(&mut self, range: Indices) -> bool {
        match self.0.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(range);
                true
            }
            None => false,
        }
    }

    pub(super) fn first(&self) -> Option<Indices> {
        self.0.iter().flatten().next().copied()
    }

    pub(super) fn remove(&mut self, range: Indices) {
        if let Some(place) = self.0.iter_mut().find(|place| **place == Some(range)) {
            *place = None;
        }
    }
}
