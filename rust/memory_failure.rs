// SPDX-License-Identifier: GPL-2.0

//! Memory failures: taking a page away from all who use it.
//!
//! All doors lead to [`poison`]. It sets the poison under the anon's lock and then unmaps the page
//! through the rmap: a fault either sees the poison, or has installed an entry that the walk finds.
//! When it returns nobody can read the page through the device any more; whoever touches it gets a
//! SIGBUS from the fault.

use crate::{
    anon::{
        Anon,
        Poison, //
    },
    anon_vma::Walk,
    process,
    rmap,
    stats, //
};
use core::fmt;
use kernel::{
    prelude::*, //
};

pub(crate) mod inject;
pub(crate) mod registry;

/// How a failure was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// debugfs `poison_addr`.
    PoisonAddr,
    /// debugfs `poison_pfn`.
    PoisonPfn,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PoisonAddr => "poison_addr",
            Self::PoisonPfn => "poison_pfn",
        })
    }
}

/// Takes the page of `anon` away from all who use it.
///
/// Takes O(log n + k), however many processes there are. Sleeps; the caller must hold no lock of the
/// driver and no mmap lock.
///
/// # Errors
///
/// [`EHWPOISON`] if the page is poisoned already; [`ENOMEM`]. Nothing has changed then.
pub(crate) fn poison(anon: &Anon, door: Door) -> Result {
    let room = rmap::reserve(anon)?;
    let record = registry::Reservation::new(anon.index(), door, room.capacity())?;
    let pfn = {
        let mut content = anon.lock();
        if content.poison().is_some() {
            return Err(EHWPOISON);
        }
        content.set_poison(Some(Poison::Simulated));
        let pfn = content.pfn();
        registry::insert(pfn, record);
        pfn
    };
    stats::POISONINGS.inc();
    let walk = rmap::unmap(anon, room, |mm| registry::add_holder(pfn, process::pid(mm)));
    show_in_stats(&walk);
    Ok(())
}

fn show_in_stats(walk: &Walk) {
    stats::LAST_WALK_NODES.set(walk.nodes);
    stats::LAST_WALK_VMAS.set(walk.vmas);
    stats::LAST_WALK_MAPPINGS.set(walk.mappings);
}

/// Gives the page of `anon` back, with its content, after a simulated failure.
///
/// # Errors
///
/// [`ENOENT`] if it is not poisoned. Nothing has changed then.
pub(crate) fn unpoison(anon: &Anon) -> Result {
    let record = {
        let mut content = anon.lock();
        match content.poison() {
            None => return Err(ENOENT),
            Some(Poison::Simulated) => content.set_poison(None),
        }
        registry::remove(content.pfn())
    };
    drop(record);
    stats::UNPOISONINGS.inc();
    Ok(())
}
