// SPDX-License-Identifier: GPL-2.0-only

//! Core dumps: what of a VMA is not to be in one.

use super::locked::VmaMut;
use crate::{
    anon_vma::Links,
    failure::Poison,
    index::{
        Index,
        Indices, //
    },
    stats, //
};

impl VmaMut<'_> {
    /// Takes the pages that are [kept](Poison::Kept) out of the VMA's page tables, as the current task is about to write a core
    /// dump: what it does not find there it asks for, and [does not get](crate::anon::content::Content::may_be_mapped).
    ///
    /// Takes the time of looking at all pages of the VMA if any page is poisoned.
    pub(super) fn hide_kept(self) {
        if stats::POISONED.get() == 0 {
            return;
        }
        let state = self.state();
        let mut rest = state.links(&state.amap().lock()).map(Links::indices);
        while let Some(indices) = rest {
            let next = {
                let slots = state.amap().lock();
                let mut anons = slots.anons.iter_range(indices.first().0, indices.last().0);
                anons
                    .find(|(_, slot)| slot.value.lock().poison() == Some(Poison::Kept))
                    .map(|(index, _)| Index(index))
            };
            let Some(index) = next else {
                return;
            };
            self.zap_as_written(state.base().addresses(Indices::one(index)));
            rest = indices.behind(index);
        }
    }
}
