// SPDX-License-Identifier: GPL-2.0-only

//! Core dumps: what of a VMA is not to be in one.

use super::VmaState;
use crate::{
    anon_vma::{
        zap::zap_write_locked,
        Links, //
    },
    failure::Poison,
    interval_tree::Interval,
    stats, //
};

impl VmaState {
    /// Takes the pages that are [kept](Poison::Kept) out of the VMA's page tables, as the current task is about to write a core
    /// dump: what it does not find there it asks for, and [does not get](crate::anon::content::Content::may_be_mapped).
    ///
    /// Takes the time of looking at all pages of the VMA if any page is poisoned.
    ///
    /// # Safety
    ///
    /// The mmap lock must be held for writing.
    pub(crate) unsafe fn hide_kept(&self) {
        if stats::POISONED.get() == 0 {
            return;
        }
        let mut rest = self.links(&self.amap().lock()).map(Links::interval);
        while let Some(indices) = rest {
            let next = {
                let slots = self.amap().lock();
                let mut anons = slots.anons.iter_range(indices.start(), indices.last());
                anons
                    .find(|(_, slot)| slot.value.lock().poison() == Some(Poison::Kept))
                    .map(|(index, _)| index)
            };
            let Some(index) = next else {
                return;
            };
            // SAFETY: The caller holds the lock, and the VMA covers the page.
            unsafe { zap_write_locked(self.vma(), self.base().addresses(Interval::point(index))) };
            rest = Interval::new(index + 1, indices.last());
        }
    }
}
