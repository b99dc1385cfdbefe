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
    anon_vma::{
        Mapping,
        Walk, //
    },
    process,
    rmap::{
        self,
        Place, //
    },
    stats, //
};
use core::fmt;
use kernel::{
    fmt::Adapter,
    prelude::*,
    sync::aref::ARef,
    task::Pid, //
};
use kill::Victim;

pub(crate) mod copy;
pub(crate) mod device_memory;
pub(crate) mod event;
pub(crate) mod inject;
mod kill;
pub(crate) mod machine_check;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod soft_offline;

/// How a failure was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// debugfs `poison_addr`.
    PoisonAddr,
    /// debugfs `poison_pfn`.
    PoisonPfn,
    /// debugfs `poison_range`.
    PoisonRange,
    /// debugfs `poison_random`.
    PoisonRandom,
    /// debugfs `replay`.
    Replay,
    /// debugfs `hard_offline`.
    HardOffline,
    /// debugfs `soft_offline`.
    SoftOffline,
    /// debugfs `unpoison_pfn`.
    UnpoisonPfn,
    /// The machine-check decode chain.
    MachineCheck,
    /// The kernel's own `memory_failure()`, for a page of device memory.
    DeviceMemory,
    /// The copy of a page on a write.
    Copy,
}

impl Door {
    /// The name of the door, which for one in debugfs is that of its file.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::PoisonAddr => c"poison_addr",
            Self::PoisonPfn => c"poison_pfn",
            Self::PoisonRange => c"poison_range",
            Self::PoisonRandom => c"poison_random",
            Self::Replay => c"replay",
            Self::HardOffline => c"hard_offline",
            Self::SoftOffline => c"soft_offline",
            Self::UnpoisonPfn => c"unpoison_pfn",
            Self::MachineCheck => c"machine_check",
            Self::DeviceMemory => c"device_memory",
            Self::Copy => c"copy",
        }
    }
}

/// Whether the current process can go on, in the terms of `memory_failure()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nobody has used the bad data yet.
    Optional,
    /// The current task was about to use it (`MF_ACTION_REQUIRED`).
    Required,
}

/// A failure as its door reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Poison,
    pub(crate) door: Door,
    pub(crate) action: Action,
    /// The frame that has failed, if that is what the door names: the page may have left it.
    pub(crate) pfn: Option<u64>,
    /// Where the page was found, if that is what the door names.
    pub(crate) place: Option<Place>,
}

/// Takes the page of `anon` away from all who use it.
///
/// Takes O(log n + k), however many processes there are. Sleeps; the caller must hold no lock of the
/// driver and no mmap lock.
///
/// # Errors
///
/// Those of [`Prepared::new`] and [`Prepared::poison`]. Nothing has changed then.
pub(crate) fn poison(anon: &Anon, failure: Failure) -> Result {
    Prepared::new(anon.into(), failure)?.poison()
}

/// A failure for which all memory has been reserved.
pub(crate) struct Prepared {
    anon: ARef<Anon>,
    failure: Failure,
    room: KVec<Mapping>,
    victims: KVec<Victim>,
    record: registry::Reservation,
}

impl Prepared {
    /// Reserves what failing the page of `anon` needs; [`ENOMEM`].
    pub(crate) fn new(anon: ARef<Anon>, failure: Failure) -> Result<Self> {
        let room = rmap::reserve(&anon)?;
        Ok(Self {
            victims: KVec::with_capacity(room.capacity(), GFP_KERNEL)?,
            record: registry::Reservation::new(anon.index(), failure, room.capacity())?,
            room,
            anon,
            failure,
        })
    }

    /// Takes the page away: poisons it, unmaps it, and signals those who want to know at once.
    ///
    /// # Errors
    ///
    /// * [`EHWPOISON`]: the page is poisoned already. A failure of the hardware takes a drill's place.
    /// * [`ENXIO`]: the page has left the frame that has failed.
    ///
    /// Nothing has changed then.
    pub(crate) fn poison(self) -> Result {
        let Self {
            anon,
            failure,
            room,
            mut victims,
            record,
        } = self;
        let pfn = {
            let mut content = anon.lock();
            let pfn = content.pfn();
            if failure.pfn.is_some_and(|failed| failed != pfn) {
                return Err(ENXIO);
            }
            match (content.poison(), failure.kind) {
                (None, _) | (Some(Poison::Simulated), Poison::Hardware) => {
                    content.set_poison(Some(failure.kind))
                }
                _ => return Err(EHWPOISON),
            }
            registry::insert(pfn, record);
            pfn
        };
        stats::POISONINGS.inc();
        event::action(pfn, anon.index(), failure.into(), failure.door);
        let walk = rmap::unmap(&anon, room, |mm, address| {
            let place = Place {
                pid: process::pid(mm),
                address,
            };
            if registry::add_holder(pfn, place) {
                let victim = Victim::of(mm, address, failure.action);
                event::hit(pfn, place, victim.as_ref());
                if let Some(victim) = victim {
                    // There is room, but for what came into being after the holders were counted. For
                    // whom there is no memory is signalled when it touches the page.
                    let _ = victims.push(victim, GFP_KERNEL | __GFP_NOWARN);
                }
            }
        });
        show_in_stats(&walk);
        // Not before: who is told must not be able to read the page any more.
        for victim in victims {
            victim.signal();
        }
        Ok(())
    }
}

/// Somebody who would be hit by a failure.
pub(crate) struct Hit {
    place: Place,
    /// The thread that would be signalled at once, and how.
    signal: Option<(Pid, kill::Code)>,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tid, signal) = match self.signal {
            Some((tid, code)) => (tid, code.name()),
            None => (0, c"none"),
        };
        write!(f, "{} tid={tid} signal={}", self.place, Adapter(signal))
    }
}

/// Who would be hit if the page of `anon` failed now, without anything being changed.
///
/// # Errors
///
/// [`EHWPOISON`] if it is poisoned already; [`ENOMEM`].
pub(crate) fn dry_run(anon: &Anon) -> Result<KVVec<Hit>> {
    if anon.lock().poison().is_some() {
        return Err(EHWPOISON);
    }
    let mut hits = KVVec::new();
    let holders = rmap::holders(anon, |mm, place| {
        Victim::of(mm, place.address, Action::Optional).map(|victim| (victim.tid(), victim.code()))
    })?;
    for (place, signal) in holders {
        hits.push(Hit { place, signal }, GFP_KERNEL)?;
    }
    Ok(hits)
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
/// [`ENOENT`] if it is not poisoned; [`EPERM`] if the hardware has failed. Nothing has changed then.
pub(crate) fn unpoison(anon: &Anon) -> Result {
    let record = {
        let mut content = anon.lock();
        match content.poison() {
            None => return Err(ENOENT),
            Some(Poison::Hardware) => return Err(EPERM),
            Some(Poison::Simulated) => content.set_poison(None),
        }
        event::action(
            content.pfn(),
            anon.index(),
            event::Action::Unpoison,
            Door::UnpoisonPfn,
        );
        registry::remove(content.pfn())
    };
    drop(record);
    stats::UNPOISONINGS.inc();
    Ok(())
}
