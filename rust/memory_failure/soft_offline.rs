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
//! [`quarantine::release`].

use super::{
    direct_map,
    event,
    inject::with_anon,
    journal,
    policy, //
};
use crate::{
    anon::{
        migration::Migration,
        Anon, //
    },
    detached::{
        Detached,
        Mappings, //
    },
    errno::EOPNOTSUPP,
    failure::Source,
    page::OwnedPage,
    pool::{
        self,
        quarantine, //
    },
    stats, //
};
use kernel::{
    prelude::*,
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
/// * [`EHWPOISON`](crate::errno::EHWPOISON): the page is poisoned, or fails while it is copied.
/// * [`EBUSY`]: the page stays in use, since it is pinned, or is being moved already.
/// * [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
///
/// Nothing has changed then.
pub(crate) fn soft_offline(pfn: u64) -> Result {
    with_anon(pfn, |anon| {
        if !policy::allows_offline() {
            return Err(EOPNOTSUPP);
        }
        // The charge of the old page moves to this one.
        let page = pool::alloc(GFP_KERNEL)?;
        let (detached, migration) = detach_patiently(anon, pfn)?;
        let moved = move_patiently(&migration, page);
        drop(migration);
        // Also if it could not be moved: nothing has changed then.
        detached.map_again();
        let old = moved?;
        stats::SOFT_OFFLINES.inc();
        // Before anybody can undo it.
        event::action(
            pfn,
            anon.index(),
            journal::PageEvent::SoftOffline,
            Source::SoftOffline,
        );
        take_out_of_use(old);
        Ok(())
    })
}

/// [`Detached::new`], again and again as long as somebody else moves or compares the page.
fn detach_patiently(anon: &Anon, pfn: u64) -> Result<(Detached<'_>, Migration<'_>)> {
    for _ in 1..ATTEMPTS {
        match Detached::new(anon, pfn, Mappings::All) {
            Err(error) if error == EBUSY => fsleep(Delta::from_millis(1)),
            result => return result,
        }
    }
    Detached::new(anon, pfn, Mappings::All)
}

/// Takes the frame of `page`, which is nobody's, out of use.
fn take_out_of_use(page: OwnedPage) {
    let pfn = page.pfn();
    // A machine check can have met it meanwhile.
    if quarantine::quarantine(page) == quarantine::Kind::Hardware {
        direct_map::withdraw(pfn);
    }
}

/// [`Migration::move_to`], again and again as long as the page is in use. Returns the old page.
fn move_patiently(migration: &Migration<'_>, mut to: OwnedPage) -> Result<OwnedPage> {
    for _ in 1..ATTEMPTS {
        match migration.move_to(to) {
            Err((error, Some(page))) if error == EBUSY => to = page,
            result => return give_back(result),
        }
        migration.shake();
        fsleep(Delta::from_millis(1));
    }
    give_back(migration.move_to(to))
}

/// Gives back the page to which nothing was moved; if it has failed meanwhile, it goes out of use.
pub(crate) fn give_back<R>(moved: Result<R, (Error, Option<OwnedPage>)>) -> Result<R> {
    moved.map_err(|(error, to)| {
        if let Some(to) = to.filter(|to| quarantine::has_failed(to)) {
            take_out_of_use(to);
        }
        error
    })
}
