// SPDX-License-Identifier: GPL-2.0-only

//! Soft offline: taking a frame out of use before it fails.
//!
//! The content moves to another frame, and nobody is signalled. The anon stays what it is, as does all
//! that refers to it; only its page changes, under its lock:
//!
//! 1. The anon is tagged as migrating, under its lock: faults on it map nothing and wait.
//! 2. The page is unmapped through the rmap, as for a failure.
//! 3. If nobody else has a reference to it, nobody can change the content any more: it is copied, and
//!    the anon gets the new page.
//! 4. The tag is cleared, and the page is mapped again where it was, as far as that does not mean to wait. Elsewhere the next
//!    fault maps it.
//!
//! The old frame is put out of use, as in Linux: it is marked as bad and never handed out again, until
//! [`quarantine::take_back`].

use super::{
    event,
    inject::find,
    journal,
    policy, //
};
use crate::{
    anon::{
        migration::Migration,
        Anon, //
    },
    anon_vma::{
        rmap_mm::RmapMm,
        rmap_vma::RmapVma, //
    },
    failure::Door,
    index::Index,
    page::OwnedPage,
    pool::{
        self,
        quarantine, //
    },
    rmap,
    stats,
    vma::locked::VmaRef, //
};
use core::ptr;
use kernel::{
    bindings,
    mm::MmWithUser,
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often a page that is in use is looked at again: many references are short-lived.
const ATTEMPTS: usize = 10;

/// Moves the page in frame `pfn` to another frame, and takes this one out of use.
///
/// Takes O(log n + k), and the copy of a page. Sleeps; the caller must hold no lock of the driver.
///
/// # Errors
///
/// * [`ENXIO`]: the frame is not the device's.
/// * [`EOPNOTSUPP`]: the administrator does not allow it (`vm.enable_soft_offline`, `vm.memory_failure_recovery`).
/// * [`EHWPOISON`]: the page is poisoned, or fails while it is copied.
/// * [`EBUSY`]: the page stays in use, since it is pinned, or is being moved already.
/// * [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
///
/// Nothing has changed then.
pub(crate) fn soft_offline(pfn: u64) -> Result {
    let anon = find(pfn).ok_or(ENXIO)?;
    if !policy::allows_offline() {
        return Err(EOPNOTSUPP);
    }
    // The charge of the old page moves to this one.
    let page = pool::alloc(GFP_KERNEL)?;
    let mut unmapped = Unmapped::new(anon.index())?;
    let was_soft_dirty = anon.lock().is_soft_dirty();
    let moved = {
        let migration = anon.begin_migration(pfn)?;
        rmap::unmap_each(&anon, |vma| unmapped.add(vma));
        move_patiently(&migration, page)
    };
    // Also if it could not be moved: nothing has changed then.
    if unmapped.map(&anon) && !was_soft_dirty {
        // All entries that have to say so do.
        anon.lock().clear_soft_dirty();
    }
    let old = moved?;
    quarantine::put(old);
    stats::SOFT_OFFLINES.inc();
    event::action(
        pfn,
        anon.index(),
        journal::Action::SoftOffline,
        Door::SoftOffline,
    );
    Ok(())
}

/// Where the page was mapped.
struct Unmapped {
    index: Index,
    places: KVec<(Arc<RmapMm>, usize)>,
    /// How many there were, also those for which there was no room.
    all: usize,
}

impl Unmapped {
    /// As many as are mapped again. More than that share a page seldom.
    const PLACES: usize = 64;

    /// None yet, for a page at `index`; [`ENOMEM`].
    fn new(index: Index) -> Result<Self> {
        Ok(Self {
            index,
            places: KVec::with_capacity(Self::PLACES, GFP_KERNEL)?,
            all: 0,
        })
    }

    /// Adds the place in `vma`, if there is room.
    fn add(&mut self, vma: &RmapVma) {
        let place = (vma.mm().clone(), vma.base().address(self.index));
        let _ = self.places.push_within_capacity(place);
        self.all += 1;
    }

    /// Maps `anon` at all places where it still is, as a read would; whether that was all. Does not wait for mmap locks: what is left
    /// out is mapped by the next fault, which knows as much.
    fn map(&self, anon: &Anon) -> bool {
        let mut mapped = 0;
        for (mm, address) in &self.places {
            mapped += usize::from(map(mm, *address, anon));
        }
        mapped == self.all
    }
}

/// Maps `anon` at `address` again; whether it did.
fn map(mm: &RmapMm, address: usize, anon: &Anon) -> bool {
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
        ours.is_some_and(|vma| vma.state().amap().lock().holds(anon))
    });
    // What comes of it in a VMA of ours waits for nobody. If the page is discarded right now, zeroes are mapped.
    let flags = bindings::fault_flag_FAULT_FLAG_REMOTE;
    let fault = || {
        // SAFETY: The mmap lock is held, and kept: there is nowhere to say that it was given up.
        unsafe { bindings::fixup_user_fault(mm.as_raw(), address, flags, ptr::null_mut()) }
    };
    is_there && fault() == 0
}

/// [`Migration::move_to`], again and again as long as the page is in use. Returns the old page.
fn move_patiently(migration: &Migration<'_>, mut to: OwnedPage) -> Result<OwnedPage> {
    for _ in 1..ATTEMPTS {
        match migration.move_to(to) {
            Err((error, page)) if error == EBUSY => to = page,
            result => return result.map_err(|(error, _)| error),
        }
        migration.shake();
        fsleep(Delta::from_millis(1));
    }
    migration.move_to(to).map_err(|(error, _)| error)
}
