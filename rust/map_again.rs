// SPDX-License-Identifier: GPL-2.0-only

//! Mapping a page again where it was taken away, so that whoever reads page tables does not take it for one that was never written.

use crate::{
    anon::Anon,
    anon_vma::{
        rmap_mm::RmapMm,
        rmap_vma::RmapVma, //
    },
    index::Index,
    vma::locked::VmaRef, //
};
use core::ptr;
use kernel::{
    bindings,
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

/// Where the page was mapped.
pub(crate) struct Unmapped {
    places: KVec<(Arc<RmapMm>, usize)>,
    /// How many there were, also those for which there was no room.
    all: usize,
}

impl Unmapped {
    /// As many as are mapped again. More than that share a page seldom.
    const PLACES: usize = 64;

    /// The room to begin with for who adds places one by one: most pages are mapped once.
    pub(crate) const ONE: usize = 1;

    /// None yet, with room for `places` places; [`ENOMEM`].
    pub(crate) fn new(places: usize) -> Result<Self> {
        Ok(Self {
            places: KVec::with_capacity(places.min(Self::PLACES), GFP_KERNEL_ACCOUNT)?,
            all: 0,
        })
    }

    /// Adds the place at `index` of `vma`, if there is room.
    pub(crate) fn add(&mut self, vma: &RmapVma, index: Index) {
        let place = (vma.mm().clone(), vma.base().address(index));
        let _ = self.places.push_within_capacity(place);
        self.all += 1;
    }

    /// Adds a place, if there is memory, and not enough of them. Sleeps.
    pub(crate) fn add_place(&mut self, mm: Arc<RmapMm>, address: usize) {
        if self.places.len() < Self::PLACES {
            let _ = self.places.push((mm, address), GFP_KERNEL_ACCOUNT);
        }
        self.all += 1;
    }

    /// Maps the page of `anon` at all places where it still is, as a read would; whether that was all. Does not wait for mmap locks: what is left
    /// out is mapped by the next fault, which knows as much.
    pub(crate) fn map(&self, anon: &Anon) -> bool {
        let mut mapped = 0;
        let pfn = anon.lock().pfn();
        for (mm, address) in &self.places {
            mapped += usize::from(map(mm, *address, pfn));
        }
        mapped == self.all
    }
}

/// Maps frame `pfn` at `address` again; whether it did.
fn map(mm: &RmapMm, address: usize, pfn: u64) -> bool {
    let Some(mm) = mm.mmget_not_zero() else {
        return false;
    };
    // Not to be the one who takes the address space down.
    let mm = MmWithUser::into_mmput_async(mm);
    let Some(mmap) = mm.mmap_read_trylock() else {
        return false;
    };
    let is_there = mmap.vma_lookup(address).is_some_and(|vma| {
        let ours = VmaRef::of(vma);
        ours.is_some_and(|vma| {
            let state = vma.state();
            let slots = state.amap().lock();
            let slot = slots.anons.get(state.base().index(address).0);
            slot.is_some_and(|slot| slot.value.lock().pfn() == pfn)
        })
    });
    // What comes of it in a VMA of ours waits for nobody. If the page is discarded right now, zeroes are mapped.
    let flags = bindings::fault_flag_FAULT_FLAG_REMOTE;
    let fault = || {
        // SAFETY: The mmap lock is held, and kept: there is nowhere to say that it was given up.
        unsafe { bindings::fixup_user_fault(mm.as_raw(), address, flags, ptr::null_mut()) }
    };
    is_there && fault() == 0
}
