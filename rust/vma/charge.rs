// SPDX-License-Identifier: GPL-2.0-only

//! The [commit charge](crate::commit_charge) of a VMA, from the mprotect that makes it writable on, through splits and growth.

use super::{
    locked::VmaMut,
    mm_state::Vmas,
    Registration,
    VmaState, //
};
use crate::{
    anon_vma::family::Sharing,
    commit_charge::Charge,
    index::Indices, //
};
use core::ops::Range;
use kernel::{
    bindings,
    page::PAGE_SHIFT,
    prelude::*,
    sync::atomic::Release, //
};

impl Registration {
    /// Whether a VMA that is split off this one needs a charge.
    pub(super) fn is_charged(&self) -> bool {
        self.charge.is_some() || self.charge_of_part.is_some()
    }

    /// Gives the charge of what is split off, `new`, to it, where `rest` is what is left; `spare` is an empty one.
    pub(super) fn split_charge(
        &mut self,
        new: Range<usize>,
        rest: Range<usize>,
        spare: Option<Charge>,
        split_off: &mut Self,
    ) {
        if let (Some(charge), Some(mut spare)) = (&mut self.charge, spare) {
            charge.move_to(&mut spare, (new.end - new.start) >> PAGE_SHIFT);
            split_off.charge = Some(spare);
        }
        let Some((part, charge)) = self.charge_of_part.take() else {
            return;
        };
        if part == new {
            split_off.charge = Some(charge);
        } else if part == rest {
            self.charge = Some(charge);
        } else if new.start <= part.start && part.end <= new.end {
            split_off.charge_of_part = Some((part, charge));
        } else {
            self.charge_of_part = Some((part, charge));
        }
    }
}

impl VmaState {
    /// Charges what the VMA, which covers `[start, end)` and so `indices`, has grown by.
    pub(super) fn charge_growth(&self, start: usize, end: usize, indices: Indices) -> Result {
        if self.amap().sharing() == Sharing::Shared {
            return self
                .rmap
                .family()
                .charge_up_to(indices.last().0 as usize + 1);
        }
        let missing =
            |charge: &Charge| ((end - start) >> PAGE_SHIFT).saturating_sub(charge.pages());
        let grown = {
            let vmas = self.mm_state.vmas().lock();
            let charge = &self.registration.access(&vmas).charge;
            charge.as_ref().map_or(0, missing)
        };
        if grown > 0 {
            let mut more = Charge::new(grown)?;
            let mut vmas = self.mm_state.vmas().lock();
            // Another thread may have been faster.
            if let Some(charge) = &mut self.registration.access_mut(&mut vmas).charge {
                let missing = missing(charge);
                more.move_to(charge, missing);
            }
        }
        Ok(())
    }

    /// Notes that `[start, end)` is all of the VMA, as the rmap and the address space know; a fault has to ask first if the system has
    /// not promised all of it.
    pub(super) fn note_known(&self, vmas: &Vmas, start: usize, end: usize) {
        let is_promised = match (
            self.amap().sharing(),
            &self.registration.access(vmas).charge,
        ) {
            (Sharing::Private, Some(charge)) => charge.pages() >= (end - start) >> PAGE_SHIFT,
            (Sharing::Private, None) => true,
            (Sharing::Shared, _) => self.base().indices(start..end).is_ok_and(|indices| {
                self.rmap
                    .family()
                    .is_charged_up_to(indices.last().0 as usize + 1)
            }),
        };
        self.known_end
            .store(if is_promised { end } else { 0 }, Release);
    }

    /// Whether the system has promised something for the VMA that core mm does not know of.
    pub(super) fn is_charged(&self) -> bool {
        let vmas = self.mm_state.vmas().lock();
        self.registration.access(&vmas).charge.is_some()
    }
}

impl VmaMut<'_> {
    /// Charges `addresses` of the VMA, whose protection is to become that of `new_flags`, if that makes private memory writable
    /// for the first time.
    ///
    /// # Errors
    ///
    /// Those of [`Charge::new`].
    pub(super) fn mprotect(
        self,
        addresses: Range<usize>,
        new_flags: bindings::vm_flags_t,
    ) -> Result {
        let charged_by_core_mm_or_not_at_all =
            (bindings::VM_ACCOUNT | bindings::VM_NORESERVE) as bindings::vm_flags_t;
        let state = self.state();
        if state.amap().sharing() == Sharing::Shared
            || new_flags & bindings::VM_WRITE as bindings::vm_flags_t == 0
            || self.flags() & charged_by_core_mm_or_not_at_all != 0
            || state.is_charged()
        {
            return Ok(());
        }
        let charge = Charge::for_addresses(addresses.clone())?;
        let _former = {
            let mut vmas = state.mm_state.vmas().lock();
            let registration = state.registration.access_mut(&mut vmas);
            let former = registration.charge_of_part.take();
            if addresses == self.range() {
                registration.charge = Some(charge);
            } else {
                registration.charge_of_part = Some((addresses, charge));
            }
            former
        };
        Ok(())
    }
}
