// SPDX-License-Identifier: GPL-2.0-only

//! A place of a process, found without its mmap lock.
//!
//! The driver knows its VMAs by address, under a lock of its own that nobody keeps while waiting. What is at the
//! place can be replaced at any time, by a copy on write for one; so whoever means the place, and not what was there a
//! moment ago, looks at it with the amap locked ([`Spot::with`]).

use crate::{
    amap::Slots,
    anon::{
        share::Share,
        Anon, //
    },
    errno::{
        EHWPOISON,
        ENODATA, //
    },
    failure::Place,
    gfp,
    index::{
        Index,
        Pages, //
    },
    process,
    radix_tree::NodeReservation,
    rmap,
    vma::{
        mm_state::MmState,
        ops,
        VmaState, //
    },
    wait::wake, //
};
use core::ops::Range;
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    page::{
        PAGE_MASK, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// A page of a process that a VMA of the device covers.
#[derive(Clone)]
pub(crate) struct Spot {
    process: process::Id,
    state: Arc<VmaState>,
    index: Index,
}

/// Which pages are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Good,
    Poisoned,
}

impl Wanted {
    /// Whether the page of `anon` is one.
    fn is(self, anon: &Anon) -> bool {
        (anon.lock().poison().is_some()) == (self == Self::Poisoned)
    }

    /// Why there is none, where there are pages.
    fn none(self) -> Error {
        match self {
            Self::Good => EHWPOISON,
            Self::Poisoned => ENOENT,
        }
    }
}

/// How many pages are looked at while faults there wait.
const PAGES_UNDER_LOCK: u64 = 1 << 16;

impl Spot {
    /// The spot at `address` of `process`; the page need not be there.
    ///
    /// # Errors
    ///
    /// * [`ESRCH`]: the process has no address space.
    /// * [`EFAULT`]: nothing is mapped at the address.
    /// * [`ENXIO`]: what is mapped there is not the device's.
    /// * [`ENODATA`]: the mapping is the device's, and has grown there since it was touched last.
    pub(crate) fn at(process: process::Id, address: usize) -> Result<Self> {
        let mm = process.mm()?;
        let state = MmState::of(&mm).and_then(|mm_state| {
            let page = Pages::at(address);
            let vmas = mm_state.vmas().lock();
            let mut here = vmas.overlapping(page);
            here.next().map(|(_, state)| state.clone())
        });
        match state {
            Some(state) => {
                let index = state.base().index(address & PAGE_MASK);
                Ok(Self {
                    process,
                    state,
                    index,
                })
            }
            None => Err(why_not(&mm, address)),
        }
    }

    /// The spots of the `wanted` pages of `process` at the addresses in `range`, in their order. Each page that stays where it
    /// is meanwhile is found once, whatever becomes of the VMAs.
    ///
    /// # Errors
    ///
    /// * [`ESRCH`]: the process has no address space.
    /// * [`ENXIO`]: nothing of the device is mapped in the range.
    /// * [`ENODATA`]: the mappings have no pages there.
    /// * [`EHWPOISON`]: all pages there are poisoned; [`ENOENT`]: none is.
    /// * [`ENOMEM`]; [`EINTR`] if the current task is being killed.
    pub(crate) fn in_range(
        process: &process::Id,
        range: Range<usize>,
        wanted: Wanted,
    ) -> Result<KVVec<Self>> {
        let mm = process.mm()?;
        let mm_state = MmState::of(&mm).ok_or(ENXIO)?;
        let mut spots = KVVec::new();
        let mut error = ENXIO;
        let mut rest = Pages::of(range.start..range.end).ok();
        while let Some(pages) = rest {
            if process::is_current_killed() {
                return Err(EINTR);
            }
            let next = {
                let vmas = mm_state.vmas().lock();
                let mut here = vmas.overlapping(pages);
                here.next().map(|(covered, state)| (covered, state.clone()))
            };
            let Some((covered, state)) = next else {
                break;
            };
            let Some(part) = covered.common(pages) else {
                break;
            };
            let part = part.at_most(PAGES_UNDER_LOCK);
            // Nothing of it if it has changed since.
            let Some((count, looked_at)) = Self::add(process, &state, part, wanted, &mut spots)?
            else {
                continue;
            };
            if error != wanted.none() {
                error = if count > 0 { wanted.none() } else { ENODATA };
            }
            rest = pages.behind(looked_at);
        }
        match spots.is_empty() {
            false => Ok(spots),
            // What has grown there has no page yet.
            true if error == ENXIO && why_not(&mm, range.start) == ENODATA => Err(ENODATA),
            true => Err(error),
        }
    }

    /// Adds to `spots` the `wanted` pages of a VMA at `pages`. Returns how many pages it has there, and what it covers of that; `None` if
    /// it does not have the first one any more. [`ENOMEM`].
    fn add(
        process: &process::Id,
        state: &Arc<VmaState>,
        pages: Pages,
        wanted: Wanted,
        spots: &mut KVVec<Self>,
    ) -> Result<Option<(u64, Pages)>> {
        let asked = state.base().indices(pages.addresses())?;
        loop {
            let slots = state.amap().lock();
            let Some(links) = state.links(&slots) else {
                return Ok(None);
            };
            let indices = asked.common(links.indices());
            let Some(indices) = indices.filter(|indices| indices.first() == asked.first()) else {
                return Ok(None);
            };
            let (first, last) = (indices.first().0, indices.last().0);
            let count = slots.anons.count_range(first, last);
            let most = match wanted {
                Wanted::Good => count as usize,
                // Few of many.
                Wanted::Poisoned => {
                    let pages = slots.anons.iter_range(first, last);
                    pages.filter(|(_, slot)| wanted.is(slot.value)).count()
                }
            };
            if spots.capacity() - spots.len() < most {
                drop(slots);
                spots.reserve(most, GFP_KERNEL_ACCOUNT)?;
                continue;
            }
            for (index, slot) in slots.anons.iter_range(first, last) {
                if wanted.is(slot.value) {
                    // There is room: checked above.
                    let _ = spots.push_within_capacity(Self {
                        process: process.clone(),
                        state: state.clone(),
                        index: Index(index),
                    });
                }
            }
            let looked_at = Pages::of(state.base().addresses(indices))?;
            return Ok(Some((count, looked_at)));
        }
    }

    /// The process and the address.
    pub(crate) fn place(&self) -> Place {
        let mm = self.state.mm_state().mm();
        Place::of_process(Some(self.process.clone()), mm, self.address())
    }

    /// The address.
    pub(crate) fn address(&self) -> usize {
        self.state.base().address(self.index)
    }

    /// What `f` makes of the anon that is there, with the amap locked: it stays there meanwhile.
    ///
    /// # Errors
    ///
    /// * Those of [`Self::at`], if something else is mapped there now, or the process has another address space (`execve()`) or
    ///   none.
    /// * [`ENODATA`]: there is no page, since nobody has touched it.
    /// * [`EINTR`] if the current task is being killed.
    /// * Those of `f`.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&Anon) -> Result<R>) -> Result<R> {
        loop {
            {
                let slots = self.state.amap().lock();
                if self.is_in(&slots) {
                    let slot = slots.anons.get(self.index.0).ok_or(ENODATA)?;
                    return f(slot.value);
                }
            }
            *self = self.clone().again()?;
        }
    }

    /// What `f` makes of the anon that is there, as [`Self::with`] has it; and whether it is a page of zeroes that was made for
    /// that, as nobody has touched the memory yet. Such a page is in no page table, nor are the zeroes that stood for it.
    ///
    /// The memory cgroup of the process is charged for it, as if the process had touched it; but nothing is reclaimed, nor anybody
    /// killed, to make room there. Takes no mmap lock; waits, a moment each, for faults that replace something in the mapping.
    ///
    /// # Errors
    ///
    /// * Those of [`Self::at`] and of `f`.
    /// * [`EBUSY`]: `mremap()` is moving memory of the process.
    /// * [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
    /// * [`EINTR`] if the current task is being killed.
    pub(crate) fn with_page<R>(mut self, f: impl FnOnce(&Anon) -> Result<R>) -> Result<(R, bool)> {
        let flags = GFP_NOWAIT | gfp::account();
        let mut page: Option<ARef<Anon>> = None;
        let mut nodes = NodeReservation::new();
        let mut needed = 0;
        loop {
            let amap = self.state.amap().clone();
            amap.finish_discards()?;
            {
                let _charged = process::ChargeTo::new(self.state.mm_state().mm());
                nodes.reserve(needed, flags)?;
                let is_for = |page: &ARef<Anon>| {
                    page.index() == self.index && Arc::ptr_eq(page.anon_vma(), amap.anon_vma())
                };
                if !page.as_ref().is_some_and(is_for) {
                    page = Some(Anon::zeroed(amap.anon_vma(), self.index, flags)?);
                }
            }
            let Some(moves) = self.begin_replacing()? else {
                fsleep(Delta::from_millis(1));
                self = self.again()?;
                continue;
            };
            rmap::unmap_zeroes(&self.state, self.index);
            {
                let vmas = self.state.mm_state().vmas().lock();
                let mut slots = amap.lock();
                slots.replacing.end(self.index);
                wake(&*amap);
                if self.is_in(&slots) && slots.discards.is_empty() {
                    if let Some(slot) = slots.anons.get(self.index.0) {
                        return Ok((f(slot.value)?, false));
                    }
                    needed = slots.anons.nodes_for_insert(self.index.0);
                    // A move that has failed can have moved zeroes back.
                    let is_ready = vmas.moves == moves && nodes.len() >= needed;
                    if let Some(anon) = page.as_ref().filter(|_| is_ready) {
                        let share = Share::new(anon.clone());
                        // There was nothing, and there are enough nodes.
                        let _ = slots.anons.insert(self.index.0, share, &mut nodes);
                        return Ok((f(anon)?, true));
                    }
                }
            }
            self = self.again()?;
        }
    }

    /// Lets faults that want to map something here wait, until the end in [`Self::with_page`]. Returns how many moves there
    /// have been; `None` if too many faults are replacing something in the mapping.
    ///
    /// # Errors
    ///
    /// [`EBUSY`]: `mremap()` is moving memory of the process.
    fn begin_replacing(&self) -> Result<Option<u64>> {
        let vmas = self.state.mm_state().vmas().lock();
        if vmas.moving.is_some() {
            return Err(EBUSY);
        }
        let has_begun = self.state.amap().lock().replacing.begin(self.index);
        Ok(has_begun.then_some(vmas.moves))
    }

    /// Whether the VMA still covers the page, and is one of the process; to be asked with its amap locked.
    fn is_in(&self, slots: &Slots) -> bool {
        self.state.covers(slots, self.index) && self.process.has(self.state.mm_state().mm())
    }

    /// The spot of the same name now: what was there has been unmapped, or is another VMA's after a split.
    ///
    /// # Errors
    ///
    /// Those of [`Self::at`]; [`EINTR`] if the current task is being killed.
    fn again(self) -> Result<Self> {
        if process::is_current_killed() {
            return Err(EINTR);
        }
        let address = self.address();
        Self::at(self.process, address)
    }
}

/// Why nothing of the device is known at `address`.
fn why_not(mm: &Mm, address: usize) -> Error {
    let Some(mm) = mm.mmget_not_zero() else {
        return ESRCH;
    };
    // Not to be the one who takes the address space down.
    let mm = MmWithUser::into_mmput_async(mm);
    match ops::maps(&mm, address) {
        None => EFAULT,
        Some(true) => ENODATA,
        Some(false) => ENXIO,
    }
}
