// SPDX-License-Identifier: GPL-2.0

//! Injection: naming the pages that are to fail.
//!
//! A page has three names: an address of a process, which means something to that process; its frame;
//! and, for a list that is to be replayed, again the address, since that stays as long as the mapping
//! does while the frame can change.

use super::{
    dry_run,
    poison,
    soft_offline,
    unpoison,
    Action,
    Door,
    Failure,
    Hit,
    Prepared, //
};
use crate::{
    address_space::AddressSpace,
    anon::{
        Anon,
        Poison, //
    },
    frame,
    interval_tree::Interval,
    process,
    rmap::{
        self,
        Place, //
    },
    vma::VmaState, //
};
use core::{
    fmt,
    ops::Range,
    ptr, //
};
use kernel::{
    mm::MmapReadGuard,
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::aref::ARef,
    task::Pid, //
};

/// Pages that one write can name.
const MAX_PAGES: usize = 1 << 16;

/// A page, and where it was found.
struct Found {
    anon: ARef<Anon>,
    place: Place,
}

impl Found {
    /// The page at `place`.
    ///
    /// # Errors
    ///
    /// * [`ESRCH`]: there is no such process, or it has no address space.
    /// * [`EFAULT`]: nothing is mapped at the address.
    /// * [`ENXIO`]: what is mapped there is not the device's.
    /// * [`ENODATA`]: the mapping has no page there, since it was not touched.
    fn at(place: Place) -> Result<Self> {
        let mm = process::address_space(place.pid)?;
        let mmap_lock = mm.mmap_read_lock();
        let vma = mmap_lock.vma_lookup(place.address).ok_or(EFAULT)?;
        // SAFETY: The VMA is locked by the mmap lock.
        let state = unsafe { VmaState::of(vma.as_ptr()) }.ok_or(ENXIO)?;
        let anon = state.amap().lock().anon(state.base().index(place.address));
        Ok(Self {
            anon: anon.ok_or(ENODATA)?,
            place: Place {
                pid: place.pid,
                address: place.address & PAGE_MASK,
            },
        })
    }

    /// The good pages of the process `pid` in `range`, in the order of addresses.
    ///
    /// # Errors
    ///
    /// * [`ESRCH`]: there is no such process, or it has no address space.
    /// * [`ENXIO`]: nothing of the device is mapped in the range.
    /// * [`ENODATA`]: the mappings have no pages there.
    /// * [`EHWPOISON`]: all pages there are poisoned.
    /// * [`ENOMEM`].
    fn all_in(pid: Pid, range: Range<usize>) -> Result<KVVec<Self>> {
        let mm = process::address_space(pid)?;
        let spaces = AddressSpace::all()?;
        let mut spaces = spaces.iter();
        let space = spaces
            .find(|space| ptr::eq(space.mm().as_raw(), mm.as_raw()))
            .ok_or(ENXIO)?;
        let states = space.states()?;
        let mmap_lock = mm.mmap_read_lock();
        let mut found = KVVec::new();
        let mut error = ENXIO;
        for state in &states {
            if let Some(pages) = add_pages(pid, state, &mmap_lock, &range, &mut found)? {
                let here = if pages > 0 { EHWPOISON } else { ENODATA };
                if error != EHWPOISON {
                    error = here;
                }
            }
        }
        if found.is_empty() {
            return Err(error);
        }
        Ok(found)
    }

    /// The drill's failure of this page.
    fn failure(&self, door: Door) -> Failure {
        Failure {
            place: Some(self.place),
            ..Failure::simulated(door, None)
        }
    }
}

/// Adds to `found` the good pages that the VMA of `state` has in `range`. Returns how many pages it has
/// there; `None` if it is not in the range at all. [`ENOMEM`].
fn add_pages(
    pid: Pid,
    state: &VmaState,
    mmap_lock: &MmapReadGuard<'_>,
    range: &Range<usize>,
    found: &mut KVVec<Found>,
) -> Result<Option<u64>> {
    let Some((start, end)) = state.range(mmap_lock) else {
        return Ok(None);
    };
    let (start, end) = (start.max(range.start), end.min(range.end));
    if start >= end {
        return Ok(None);
    }
    let indices = state.base().interval(start, end)?;
    loop {
        let slots = state.amap().lock();
        let pages = slots.anons.count_range(indices.start(), indices.last());
        if found.capacity() - found.len() < pages as usize {
            drop(slots);
            found.reserve(pages as usize, GFP_KERNEL)?;
            continue;
        }
        for (_, slot) in slots.anons.iter_range(indices.start(), indices.last()) {
            if slot.value.lock().poison().is_none() {
                let address = state.base().address(slot.value.index());
                // There is room: checked above.
                let _ = found.push_within_capacity(Found {
                    anon: slot.value.anon(),
                    place: Place { pid, address },
                });
            }
        }
        return Ok(Some(pages));
    }
}

impl Failure {
    /// A drill's failure.
    fn simulated(door: Door, pfn: Option<u64>) -> Self {
        Self {
            kind: Poison::Simulated,
            door,
            action: Action::Optional,
            pfn,
            place: None,
        }
    }
}

/// Poisons all of `pages`, but for those that are poisoned already.
///
/// # Errors
///
/// * [`E2BIG`]: too many pages for one write.
/// * [`EHWPOISON`]: all of them are poisoned already.
/// * [`ENOMEM`].
///
/// Nothing has changed then.
fn poison_all(pages: &[Found], door: Door) -> Result {
    if pages.len() > MAX_PAGES {
        return Err(E2BIG);
    }
    let mut prepared = KVVec::with_capacity(pages.len(), GFP_KERNEL)?;
    for page in pages {
        let failure = Prepared::new(page.anon.clone(), page.failure(door))?;
        prepared.push(failure, GFP_KERNEL)?;
    }
    let mut poisoned = false;
    for failure in prepared {
        poisoned |= failure.poison().is_ok();
    }
    if poisoned {
        Ok(())
    } else {
        Err(EHWPOISON)
    }
}

/// Poisons the page at `place`.
///
/// # Errors
///
/// Those of finding the page, see [`Found::at`], and of [`poison`].
pub(crate) fn poison_addr(place: Place) -> Result {
    let page = Found::at(place)?;
    poison(&page.anon, page.failure(Door::PoisonAddr))
}

/// Poisons the page in frame `pfn`.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`poison`].
pub(crate) fn poison_pfn(pfn: u64) -> Result {
    let anon = frame::lookup(pfn).ok_or(ENXIO)?;
    poison(&anon, Failure::simulated(Door::PoisonPfn, Some(pfn)))
}

/// Poisons all pages of the process `pid` of which the bytes `[start, end)` are a part.
///
/// # Errors
///
/// [`EINVAL`] if the range is empty; those of [`Found::all_in`] and [`poison_all`].
pub(crate) fn poison_range(pid: Pid, start: usize, end: usize) -> Result {
    if start >= end {
        return Err(EINVAL);
    }
    let end = end.checked_next_multiple_of(PAGE_SIZE).ok_or(ERANGE)?;
    let pages = Found::all_in(pid, start & PAGE_MASK..end)?;
    poison_all(&pages, Door::PoisonRange)
}

/// A page that was chosen at random.
pub(crate) struct Chosen {
    place: Place,
    pfn: u64,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pfn={:#x}", self.place, self.pfn)
    }
}

/// Poisons `count` good pages of the process `pid`, and returns which, in the order in which they were chosen.
/// The same seed chooses the same addresses if the process has pages at the same addresses.
///
/// # Errors
///
/// [`EINVAL`] if `count` is zero, [`ENODATA`] if the process has fewer good pages; those of
/// [`Found::all_in`] and [`poison_all`].
pub(crate) fn poison_random(pid: Pid, count: u64, seed: u64) -> Result<KVVec<Chosen>> {
    if count == 0 {
        return Err(EINVAL);
    }
    let mut pages = Found::all_in(pid, 0..usize::MAX)?;
    let count = usize::try_from(count).map_err(|_| ENODATA)?;
    if count > pages.len() {
        return Err(ENODATA);
    }
    let mut random = Random(seed);
    for i in 0..count {
        let rest = (pages.len() - i) as u64;
        pages.swap(i, i + (random.next() % rest) as usize);
    }
    pages.truncate(count);
    let mut chosen = KVVec::with_capacity(count, GFP_KERNEL)?;
    for page in &pages {
        let pfn = page.anon.lock().pfn();
        let place = page.place;
        chosen.push(Chosen { place, pfn }, GFP_KERNEL)?;
    }
    poison_all(&pages, Door::PoisonRandom)?;
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

/// Poisons the pages at `places`.
///
/// # Errors
///
/// [`EINVAL`] if there are none; those of [`Found::at`] and [`poison_all`].
pub(crate) fn replay(places: &[Place]) -> Result {
    if places.is_empty() {
        return Err(EINVAL);
    }
    let mut pages = KVVec::with_capacity(places.len(), GFP_KERNEL)?;
    for place in places {
        pages.push(Found::at(*place)?, GFP_KERNEL)?;
    }
    poison_all(&pages, Door::Replay)
}

/// Takes the page in frame `pfn` away for good, as if the hardware had failed.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`poison`].
pub(crate) fn hard_offline_pfn(pfn: u64) -> Result {
    let anon = frame::lookup(pfn).ok_or(ENXIO)?;
    let failure = Failure {
        kind: Poison::Hardware,
        ..Failure::simulated(Door::HardOffline, Some(pfn))
    };
    poison(&anon, failure)
}

/// Who would be hit if the page at `place` failed.
///
/// # Errors
///
/// Those of [`Found::at`] and [`dry_run`].
pub(crate) fn dry_run_addr(place: Place) -> Result<KVVec<Hit>> {
    dry_run(&Found::at(place)?.anon)
}

/// Who would be hit if the page in frame `pfn` failed.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`dry_run`].
pub(crate) fn dry_run_pfn(pfn: u64) -> Result<KVVec<Hit>> {
    dry_run(&*frame::lookup(pfn).ok_or(ENXIO)?)
}

/// Where page tables map frame `pfn`. Looks at the index of the page only, or at all of `indices`.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; [`ENOMEM`].
pub(crate) fn mapped_at(pfn: u64, indices: Option<Interval>) -> Result<KVVec<Place>> {
    let anon = frame::lookup(pfn).ok_or(ENXIO)?;
    let index = Interval::point(anon.index().0);
    let mut places = KVVec::new();
    for place in rmap::mapped_at(&anon, indices.unwrap_or(index))?.keys() {
        places.push(*place, GFP_KERNEL)?;
    }
    Ok(places)
}

/// Gives the page in frame `pfn` back, or a frame that a soft offline has taken out of use.
///
/// # Errors
///
/// [`ENXIO`] if the frame is neither; those of [`unpoison`].
pub(crate) fn unpoison_pfn(pfn: u64) -> Result {
    match frame::lookup(pfn) {
        Some(anon) => unpoison(&anon),
        None => soft_offline::unpoison(pfn),
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
