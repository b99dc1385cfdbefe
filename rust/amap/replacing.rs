// SPDX-License-Identifier: GPL-2.0-only

//! What of an amap is being replaced.

use crate::{
    index::Index,
    index::Indices,
    process, //
};

/// Indices whose anon a fault is about to replace: meanwhile no page table entry may be installed there.
///
/// The fault has to zap the old entry without the amap's lock. Its task's [key](process::current_key) is noted, which tells our
/// mmu notifier that nothing is to be discarded.
///
/// # Invariants
///
/// `in_use` is the number of places that are.
pub(crate) struct Replacing {
    places: [Option<(Index, usize)>; Self::PLACES],
    in_use: usize,
}

impl Replacing {
    /// About the number of threads in a fault.
    const PLACES: usize = 16;

    /// None.
    // INVARIANT: No place is in use.
    pub(super) const NONE: Self = Self {
        places: [None; Self::PLACES],
        in_use: 0,
    };

    /// Whether `index` is being replaced by another task.
    #[inline]
    pub(crate) fn has(&self, index: Index) -> bool {
        self.in_use > 0 && self.has_of_others(index)
    }

    fn has_of_others(&self, index: Index) -> bool {
        let current = process::current_key();
        let mut places = self.places.iter().flatten();
        places.any(|(replaced, task)| *replaced == index && *task != current)
    }

    /// Whether the current task is replacing something in `range`.
    pub(crate) fn has_own(&self, range: Indices) -> bool {
        if self.in_use == 0 {
            return false;
        }
        let current = process::current_key();
        let mut places = self.places.iter().flatten();
        places.any(|(replaced, task)| *task == current && range.contain(*replaced))
    }

    /// Begins to replace what is at `index`. False if there is no place left, until others have [ended](Self::end).
    pub(crate) fn begin(&mut self, index: Index) -> bool {
        match self.places.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                // INVARIANT: It was free.
                *place = Some((index, process::current_key()));
                self.in_use += 1;
                true
            }
            None => false,
        }
    }

    /// Ends what [`Self::begin`] began. To be followed by a [`wake`](crate::wait::wake) of who waits for the amap.
    pub(crate) fn end(&mut self, index: Index) {
        let own = Some((index, process::current_key()));
        if let Some(place) = self.places.iter_mut().find(|place| **place == own) {
            // INVARIANT: It was in use.
            *place = None;
            self.in_use -= 1;
        }
    }
}
