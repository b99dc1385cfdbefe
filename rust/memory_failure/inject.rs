// SPDX-License-Identifier: GPL-2.0-only

//! Injection: naming the pages that are to fail.
//!
//! A page has three names: an address of a process, which means something to that process; its frame;
//! and, for a list that is to be replayed, again the address, since that stays as long as the mapping
//! does while the frame can change.

use super::{
    device_memory,
    dry_run,
    event,
    poison,
    policy::{
        self,
        EarlyKill, //
    },
    unpoison,
    Notice,
    PoisonReservation, //
};
use crate::{
    anon::{
        self,
        Anon, //
    },
    errno::{
        EHWPOISON,
        ENODATA, //
    },
    failure::{
        Failure,
        MfAction,
        Place,
        Poison, //
        Source,
    },
    index::Indices,
    pool::{
        device_memory::DeviceMemory,
        quarantine, //
    },
    process,
    rmap,
    spot::{
        Spot,
        Wanted, //
    }, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::aref::ARef,
    task::Pid, //
};

/// Pages that one write can name.
pub(super) const MAX_PAGES: usize = 1 << 16;

impl Failure {
    /// An injected failure.
    fn injected(source: Source, kind: Poison, pfn: Option<u64>) -> Self {
        Self {
            kind,
            source,
            action: MfAction::Optional,
            pfn,
            place: None,
        }
    }

    /// An injected failure of what is at `spot`.
    fn at(spot: &Spot, source: Source, kind: Poison) -> Self {
        Self {
            place: Some(spot.place()),
            ..Self::injected(source, kind, None)
        }
    }
}

/// Poisons what is at `spots`, each as it says, but for what is poisoned already or has gone meanwhile. Calls `done` for each
/// page that was poisoned, with its frame.
///
/// # Errors
///
/// * [`E2BIG`]: too many pages for one write.
/// * Those of [`PoisonReservation::poison`] for the first, if all are refused: they are poisoned already, or have gone.
/// * [`ENOMEM`].
///
/// Nothing has changed then.
pub(super) fn poison_all(
    spots: KVVec<Spot>,
    source: Source,
    kind: impl Fn(usize) -> Poison,
    mut done: impl FnMut(&Spot, u64),
) -> Result {
    if spots.len() > MAX_PAGES {
        return Err(E2BIG);
    }
    let mut prepared = KVVec::with_capacity(spots.len(), GFP_KERNEL_ACCOUNT)?;
    for (i, spot) in spots.into_iter().enumerate() {
        let failure = Failure::at(&spot, source, kind(i));
        prepared.push(PoisonReservation::new(spot, failure)?, GFP_KERNEL_ACCOUNT)?;
    }
    // Once for all: a file is read for it.
    let policy = policy::early_kill();
    let mut poisoned = false;
    let mut refused = None;
    for failure in prepared {
        match failure.poison(policy) {
            Ok((spot, pfn)) => {
                poisoned = true;
                done(&spot, pfn);
            }
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    match refused {
        Some(error) if !poisoned => Err(error),
        _ => Ok(()),
    }
}

/// The anon in frame `pfn`, if there is one. While the kernel marks a frame none can be looked up in it: so this waits until it has.
pub(super) fn find(pfn: u64) -> Option<ARef<Anon>> {
    anon::lookup(pfn).or_else(|| {
        drop(quarantine::marking());
        anon::lookup(pfn)
    })
}

/// What `f` makes of an anon in frame `pfn`; of another one if it has left the others there before `f` has come to it.
///
/// # Errors
///
/// [`ENXIO`] if there is none; those of `f`, which is [`ENXIO`] if the anon's page is not in that frame.
pub(super) fn with_anon<R>(pfn: u64, mut f: impl FnMut(&ARef<Anon>) -> Result<R>) -> Result<R> {
    loop {
        let anon = find(pfn).ok_or(ENXIO)?;
        match f(&anon) {
            Err(error) if error == ENXIO && anon.lock().pfn() != pfn => (),
            result => return result,
        }
    }
}

/// A place as the user names it: the number that a process or one of its threads has in the pid namespace of the current
/// task, and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) pid: Pid,
    pub(crate) address: usize,
}

impl Named {
    /// The spot there.
    ///
    /// # Errors
    ///
    /// Those of [`process::Id::find`] and [`Spot::at`].
    fn spot(self) -> Result<Spot> {
        Spot::at(process::Id::find(self.pid)?, self.address)
    }
}

/// Poisons the page at `place` as `kind` says, also in advance, before it is touched for the first time; with `is_touched`, only
/// if it has been.
///
/// # Errors
///
/// Those of [`Named::spot`], [`PoisonReservation::poison`] and [`PoisonReservation::poison_in_advance`].
pub(crate) fn poison_addr(place: Named, kind: Poison, is_touched: bool) -> Result {
    let policy = policy::early_kill();
    poison_place(
        || place.spot(),
        Source::PoisonAddr,
        kind,
        is_touched,
        policy,
    )
}

/// As [`poison_addr`], for the spot that `find` finds: it can be another one when it is asked again.
///
/// # Errors
///
/// Those of `find`, [`PoisonReservation::poison`] and [`PoisonReservation::poison_in_advance`].
pub(super) fn poison_place(
    find: impl Fn() -> Result<Spot>,
    source: Source,
    kind: Poison,
    is_touched: bool,
    policy: EarlyKill,
) -> Result {
    let prepared = || {
        let spot = find()?;
        let failure = Failure::at(&spot, source, kind);
        PoisonReservation::new(spot, failure)
    };
    match prepared()?.poison(policy) {
        Err(error) if error == ENODATA && !is_touched => prepared()?.poison_in_advance(),
        result => result.map(|_| ()),
    }
}

/// Poisons the page in frame `pfn` as `kind` says.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`poison`].
pub(crate) fn poison_pfn(pfn: u64, kind: Poison) -> Result {
    let failure = || Failure::injected(Source::PoisonPfn, kind, Some(pfn));
    with_anon(pfn, |anon| poison(anon, failure()))
}

/// Poisons all pages of the process `pid` of which bytes in `range` are a part, as `kind` says.
///
/// # Errors
///
/// [`EINVAL`] if the range is empty; those of [`process::Id::find`], [`Spot::in_range`] and [`poison_all`].
pub(crate) fn poison_range(pid: Pid, range: Range<usize>, kind: Poison) -> Result {
    if range.is_empty() {
        return Err(EINVAL);
    }
    let spots = Spot::in_range(&process::Id::find(pid)?, range, Wanted::Good)?;
    poison_all(spots, Source::PoisonRange, |_| kind, |_, _| ())
}

/// A page that was chosen at random.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub(crate) place: Place,
    pub(crate) pfn: u64,
}

/// Poisons `count` good pages of the process `pid`, and returns which, numbered in the order in which they were chosen; none
/// where one went or failed otherwise meanwhile.
/// A seed chooses the same addresses again if the process has pages at the same addresses.
///
/// # Errors
///
/// [`EINVAL`] if `count` is zero, [`ENODATA`] if the process has fewer good pages; those of [`process::Id::find`],
/// [`Spot::in_range`] and [`poison_all`].
pub(crate) fn poison_random(
    pid: Pid,
    count: u64,
    seed: u64,
) -> Result<RBTree<usize, Option<Chosen>>> {
    if count == 0 {
        return Err(EINVAL);
    }
    let mut pages = Spot::in_range(&process::Id::find(pid)?, 0..usize::MAX, Wanted::Good)?;
    let count = usize::try_from(count).map_err(|_| ENODATA)?;
    if count > pages.len() {
        return Err(ENODATA);
    }
    let mut random = Random(seed);
    let mut chosen = RBTree::new();
    for i in 0..count.min(MAX_PAGES) {
        let rest = (pages.len() - i) as u64;
        pages.swap(i, i + (random.next() % rest) as usize);
        chosen.try_create_and_insert(i, None, GFP_KERNEL_ACCOUNT)?;
    }
    pages.truncate(count);
    let mut places = chosen.values_mut();
    let simulated = |_| Poison::Simulated;
    poison_all(pages, Source::PoisonRandom, simulated, |spot, pfn| {
        // There is one for each of them.
        if let Some(chosen) = places.next() {
            let place = spot.place();
            *chosen = Some(Chosen { place, pfn });
        }
    })?;
    drop(places);
    Ok(chosen)
}

/// The generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Poisons the pages at `places`, each as it says.
///
/// # Errors
///
/// [`EINVAL`] if there are none; [`ENODATA`] if a mapping has no page there, since it was not touched; those of [`Named::spot`] and
/// [`poison_all`].
pub(crate) fn replay(places: &[(Named, Poison)]) -> Result {
    if places.is_empty() {
        return Err(EINVAL);
    }
    let mut spots = KVVec::with_capacity(places.len(), GFP_KERNEL_ACCOUNT)?;
    for (place, _) in places {
        place.spot()?.with(|_| Ok(()))?;
        spots.push(place.spot()?, GFP_KERNEL_ACCOUNT)?;
    }
    poison_all(spots, Source::Replay, |i| places[i].1, |_, _| ())
}

/// Takes the page in frame `pfn` away for good, as if the hardware had failed; or a frame of the pool that holds none out of use.
///
/// # Errors
///
/// * [`ENXIO`]: the frame is not the device's.
/// * [`EHWPOISON`]: it is out of use already.
/// * Those of [`poison`].
pub(crate) fn hard_offline_pfn(pfn: u64) -> Result {
    let failure = || Failure::injected(Source::HardOffline, Poison::Hardware, Some(pfn));
    match with_anon(pfn, |anon| poison(anon, failure())) {
        Err(error) if error != ENXIO => Err(error),
        Ok(()) => Ok(()),
        Err(_) if DeviceMemory::get().is_none() => Err(ENXIO),
        Err(_) if quarantine::kind(pfn).is_some() => Err(EHWPOISON),
        Err(_) => device_memory::take_out(pfn, failure()),
    }
}

/// Who would be hit if the page at `place` failed.
///
/// # Errors
///
/// Those of [`Named::spot`], [`Spot::with`] and [`dry_run`].
pub(crate) fn dry_run_addr(place: Named) -> Result<RBTree<Place, Notice>> {
    let anon: ARef<Anon> = place.spot()?.with(|anon| Ok(anon.into()))?;
    dry_run(&anon)
}

/// Who would be hit if the page in frame `pfn` failed.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`dry_run`].
pub(crate) fn dry_run_pfn(pfn: u64) -> Result<RBTree<Place, Notice>> {
    dry_run(&*find(pfn).ok_or(ENXIO)?)
}

/// Where page tables map frame `pfn`. Looks at the index of the page only, or at all of `indices`.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`rmap::mapped_at`].
pub(crate) fn mapped_at(pfn: u64, indices: Option<Indices>) -> Result<RBTree<Place, ()>> {
    rmap::mapped_at(&*find(pfn).ok_or(ENXIO)?, indices)
}

/// Gives the page in frame `pfn` back, or a frame that is out of use.
///
/// # Errors
///
/// Those of [`unpoison`] and [`quarantine::release`].
pub(crate) fn unpoison_pfn(pfn: u64) -> Result {
    let unpoison_there = |anon: &ARef<Anon>| {
        let is_there = anon.lock().pfn() == pfn;
        is_there.then_some(()).ok_or(ENXIO)?;
        unpoison(anon, Source::UnpoisonPfn)
    };
    match with_anon(pfn, unpoison_there) {
        Err(error) if error != ENXIO => Err(error),
        Ok(()) => Ok(()),
        Err(_) => {
            quarantine::release(pfn)?;
            event::release(pfn, Source::UnpoisonPfn);
            Ok(())
        }
    }
}

#[kunit_tests(anon_rmap_inject)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_of_splitmix64() {
        let mut random = Random(1234567);
        assert_eq!(random.next(), 6457827717110365317);
        assert_eq!(random.next(), 3203168211198807973);
        assert_eq!(random.next(), 9817491932198370423);
    }
}
