// SPDX-License-Identifier: GPL-2.0

//! Soft offline: taking a frame out of use before it fails.
//!
//! The content moves to another frame, and nobody is signalled. The anon stays what it is, as does all
//! that refers to it; only its page changes, under its lock:
//!
//! 1. The anon is tagged as migrating, under its lock: faults on it map nothing and wait.
//! 2. The page is unmapped through the rmap, as for a failure.
//! 3. If nobody else has a reference to it, nobody can change the content any more: it is copied, and
//!    the anon gets the new page.
//! 4. The tag is cleared. The next fault maps the new page.
//!
//! The old frame is put aside, as in Linux: it is marked as bad and never handed out again, until
//! [`unpoison`].

use super::{
    event,
    Door, //
};
use crate::{
    anon::Migration,
    frame,
    pool::OwnedPage,
    rmap,
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
/// * [`EHWPOISON`]: the page is poisoned, or fails while it is copied.
/// * [`EBUSY`]: the page stays in use, since it is pinned, or is being moved already.
/// * [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
///
/// Nothing has changed then.
pub(crate) fn soft_offline(pfn: u64) -> Result {
    let anon = frame::lookup(pfn).ok_or(ENXIO)?;
    // The charge of the old page moves to this one.
    let page = OwnedPage::alloc(GFP_KERNEL)?;
    let migration = anon.begin_migration(pfn)?;
    rmap::unmap(&anon);
    move_patiently(&migration, page)?;
    stats::SOFT_OFFLINES.inc();
    event::action(
        pfn,
        anon.index(),
        event::Action::SoftOffline,
        Door::SoftOffline,
    );
    Ok(())
}

/// [`Migration::move_to`], again and again as long as the page is in use.
fn move_patiently(migration: &Migration<'_>, mut to: OwnedPage) -> Result {
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

/// Takes the frame `pfn`, which a soft offline has taken out of use, into use again.
///
/// # Errors
///
/// [`ENXIO`] if none has.
pub(crate) fn unpoison(pfn: u64) -> Result {
    frame::take_back(pfn)
}
