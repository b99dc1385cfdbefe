// SPDX-License-Identifier: GPL-2.0-only

//! Memory failures: taking a page away from all who use it.
//!
//! All failures come to [`poison`]. It sets the poison under the anon's lock and then unmaps the page
//! through the rmap: a fault either sees the poison, or has installed an entry that the walk finds.
//! When it returns nobody can read the page through the device any more; whoever touches it gets a
//! SIGBUS from the fault.
//!
//! A drill can be one in which the page is [kept](Poison::Kept), as the owner of a memfd may choose by
//! `MFD_MF_KEEP_UE_MAPPED`, as proposed for Linux: it stays mapped, and only what would read all of it is refused. Any
//! failure that is no drill of the driver's takes it away.

use crate::{
    anon::Anon,
    anon_vma::Cost,
    errno::EHWPOISON,
    failure::{
        self,
        Failure,
        MfAction,
        Place,
        Poison, //
        Source,
    },
    map_again::Unmapped,
    poisoned,
    pool::quarantine,
    process,
    rmap,
    spot::Spot,
    stats, //
};
use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Full, //
        }, //
    }, //
};
use kill::Victim;
use policy::EarlyKill;

pub(crate) mod device_memory;
mod direct_map;
pub(crate) mod event;
mod failure_chain;
pub(crate) mod ghes;
pub(crate) mod inject;
pub(crate) mod journal;
pub(crate) mod kernel_event;
pub(crate) mod kill;
#[cfg(CONFIG_X86)]
pub(crate) mod machine_check;
pub(crate) mod own_memory;
mod policy;
pub(crate) mod queue;
pub(crate) mod soft_offline;

/// Takes the page of `anon` away from all who use it, unless it is to be kept, and tells them.
///
/// Takes O(log n + k), however many processes there are, and waits for none of them. Sleeps; the caller must hold no
/// lock of the driver.
///
/// # Errors
///
/// * [`EHWPOISON`]: the page is poisoned already. A failure of the hardware takes a drill's place, and a drill of the kernel's own
///   that of one in which the page is kept.
/// * [`ENXIO`]: the page has left the frame that has failed.
/// * [`ENOMEM`].
///
/// Nothing has changed then.
pub(crate) fn poison(anon: &Anon, failure: Failure) -> Result {
    let _under_way = UnderWay::begin();
    let record = poisoned::RecordReservation::new(failure)?;
    let marked = mark(anon, record).inspect_err(|_| anon.take_mark())?;
    follow_up(anon, marked, policy::early_kill());
    Ok(())
}

/// A failure of what is at a place, for which all memory has been reserved.
pub(crate) struct PoisonReservation {
    spot: Spot,
    record: poisoned::RecordReservation,
}

impl PoisonReservation {
    /// Reserves what failing the page at `spot` needs; [`ENOMEM`].
    pub(crate) fn new(spot: Spot, failure: Failure) -> Result<Self> {
        Ok(Self {
            record: poisoned::RecordReservation::new(failure)?,
            spot,
        })
    }

    /// As [`Self::poison`]; where nobody has touched the memory, the page of zeroes that whoever does would get is made, and fails
    /// before anybody has it.
    ///
    /// # Errors
    ///
    /// Those of [`Spot::with_page`], and [`EHWPOISON`] if the page is poisoned already.
    pub(crate) fn poison_in_advance(self) -> Result {
        let Self { spot, record } = self;
        let _under_way = UnderWay::begin();
        let marked = |anon: &Anon| Ok((anon.into(), mark(anon, record)?));
        let ((anon, marked), is_new) = spot.with_page(marked)?;
        let anon: ARef<Anon> = anon;
        if is_new {
            // It is mapped nowhere, and nobody needs to be told.
            stats::POISONINGS.inc();
        } else {
            follow_up(&anon, marked, policy::early_kill());
        }
        Ok(())
    }

    /// As the function [`poison`], for the page that is there now, with the `policy` that is given; returns where, and its frame.
    ///
    /// # Errors
    ///
    /// * Those of [`Spot::with`].
    /// * [`EHWPOISON`]: the page is poisoned already.
    ///
    /// Nothing has changed then.
    pub(crate) fn poison(self, policy: EarlyKill) -> Result<(Spot, u64)> {
        let Self { mut spot, record } = self;
        let _under_way = UnderWay::begin();
        // With the amap locked nobody replaces what is there.
        let (anon, marked) = spot.with(|anon| Ok((anon.into(), mark(anon, record)?)))?;
        let anon: ARef<Anon> = anon;
        follow_up(&anon, marked, policy);
        Ok((spot, marked.pfn))
    }
}

static UNDER_WAY: Atomic<usize> = Atomic::new(0);

/// A failure that is being handled: its page is marked before it is mapped nowhere.
struct UnderWay(());

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Full);
        Self(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Full);
    }
}

/// Whether a failure is being handled, so that a poisoned page may still be mapped.
pub(crate) fn is_under_way() -> bool {
    UNDER_WAY.load(Acquire) > 0
}

/// A page that was marked as poisoned.
#[derive(Clone, Copy)]
struct Marked {
    pfn: u64,
    /// The [number](poisoned::RecordReservation::number) of the failure.
    number: u64,
    kind: Poison,
    source: Source,
    action: MfAction,
    /// Whether it was poisoned by a drill of the kernel's own before.
    was_drill: bool,
}

/// Marks the page of `anon` as poisoned: from now on nobody maps it any more, unless it is kept. Errors as those of [`poison`].
fn mark(anon: &Anon, record: poisoned::RecordReservation) -> Result<Marked> {
    let failure = record.failure();
    let mut content = anon.lock();
    let pfn = content.pfn();
    let was_drill = content.is_kernels_drill();
    if failure.pfn.is_some_and(|failed| failed != pfn) {
        return Err(ENXIO);
    }
    let is_new = match content.poison() {
        // There is nothing to keep of what is about to be taken away.
        None => failure.kind != Poison::Kept || !content.has_failed(),
        Some(Poison::Simulated) => failure.kind == Poison::Hardware,
        Some(Poison::Kept) => {
            failure.kind == Poison::Hardware || failure.source.is_kernels_drill(failure.kind)
        }
        Some(Poison::Hardware) => false,
    };
    if !is_new {
        return Err(EHWPOISON);
    }
    let marked = Marked {
        pfn,
        number: record.number(),
        kind: failure.kind,
        source: failure.source,
        action: failure.action,
        was_drill,
    };
    content.set_poison(Some(marked.kind));
    // Before anybody can undo the drill.
    content.take_mark();
    poisoned::insert(pfn, anon.index(), record);
    // Before anything else is done to the page.
    event::action(pfn, anon.index(), marked.kind.into(), marked.source);
    Ok(marked)
}

/// Puts the frame of `anon`, which is mapped nowhere unless it is kept, out of use if it has to be. The caller must hold no lock.
fn put_out_of_use(anon: &Anon, marked: Marked) {
    match marked.kind {
        Poison::Kept => (),
        Poison::Simulated => anon.take_mark(),
        Poison::Hardware => {
            let cause = match marked.source {
                Source::HardOffline => quarantine::Cause::Software,
                _ => quarantine::Cause::Hardware,
            };
            // A machine check that did not find the anon then.
            if anon.mark(cause, marked.was_drill) {
                failure::report(marked.pfn, Source::MachineCheck);
            }
        }
    }
}

/// What comes after [`mark`]: takes the page of `anon` away from those who map it, unless it is kept, and tells them, as `policy` says.
fn follow_up(anon: &Anon, marked: Marked, policy: EarlyKill) {
    let Marked { pfn, number, .. } = marked;
    stats::POISONINGS.inc();
    if marked.kind != Poison::Kept {
        show_in_stats(rmap::unmap(anon));
    }
    // Not before: who is told must not be able to read the page any more, unless it is kept.
    let _ = rmap::holders(anon, |mm, place, page| {
        // What moves during the walk is found at two places.
        if mm.is_first_hit_by(number, page.number()) {
            let victim = Victim::of(mm, place.address, marked.action, policy);
            event::hit(pfn, &place, victim.as_ref());
            poisoned::add_holder(pfn, number, place);
            if let Some(victim) = victim {
                victim.signal();
            }
        }
        Ok(())
    });
    put_out_of_use(anon, marked);
}

/// The thread that would be signalled at once by a failure, and how; none if that can wait for an access.
#[derive(Clone)]
pub(crate) struct Notice(pub(crate) Option<(process::Id, kill::Code)>);

/// Who would be hit if the page of `anon` failed now, without anything being changed.
///
/// # Errors
///
/// [`EHWPOISON`] if it is poisoned already; [`ENOMEM`].
pub(crate) fn dry_run(anon: &Anon) -> Result<RBTree<Place, Notice>> {
    if anon.lock().poison().is_some() {
        return Err(EHWPOISON);
    }
    let mut hits = RBTree::new();
    let policy = policy::early_kill();
    rmap::holders(anon, |mm, place, _| {
        let victim = Victim::of(mm, place.address, MfAction::Optional, policy);
        let notice = victim.and_then(|victim| Some((victim.thread()?, victim.code())));
        hits.try_create_and_insert(place, Notice(notice), GFP_KERNEL_ACCOUNT)?;
        Ok(())
    })?;
    Ok(hits)
}

fn show_in_stats(walk: Cost) {
    stats::LAST_WALK_NODES.set(walk.nodes);
    stats::LAST_WALK_VMAS.set(walk.vmas);
    stats::LAST_WALK_MAPPINGS.set(walk.mappings);
}

/// Gives the page of `anon` back, with its content, after a simulated failure, as `source` wants, and maps it again where it was.
///
/// Takes the time of a walk, as [`rmap::holders`]. Sleeps; the caller must hold no lock of the driver.
///
/// # Errors
///
/// [`ENOENT`] if it is not poisoned; [`EPERM`] if the hardware has failed; [`EBUSY`] if the failure was a drill of the kernel's own, and
/// somebody uses the page. Nothing has changed then.
pub(crate) fn unpoison(anon: &Anon, source: Source) -> Result {
    // Who is to take the mark, if there is one, may not have come to it.
    anon.take_mark();
    anon.unmark()?;
    let was_taken_away;
    let record = {
        let mut content = anon.lock();
        was_taken_away = content.is_taken_away();
        match content.poison() {
            None => return Err(ENOENT),
            Some(Poison::Hardware) => return Err(EPERM),
            // The kernel has marked it right now.
            Some(Poison::Simulated) if content.is_kernels_drill() => return Err(EBUSY),
            Some(Poison::Simulated | Poison::Kept) => content.set_poison(None),
        }
        event::action(
            content.pfn(),
            anon.index(),
            journal::PageEvent::Unpoison,
            source,
        );
        poisoned::remove(content.pfn())
    };
    drop(record);
    stats::UNPOISONINGS.inc();
    if was_taken_away {
        map_again(anon);
    }
    Ok(())
}

/// Maps the page of `anon`, which has been taken away from all, where it was, as far as that does not mean to wait: elsewhere the next
/// fault maps it.
fn map_again(anon: &Anon) {
    let Ok(mut places) = Unmapped::new(Unmapped::ONE) else {
        return;
    };
    let _ = rmap::holders(anon, |mm, place, _| {
        places.add_place(mm.clone(), place.address);
        Ok(())
    });
    places.map(anon);
}
