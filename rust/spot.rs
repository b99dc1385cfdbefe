// SPDX-License-Identifier: GPL-2.0

//! A place of a process, found without its mmap lock.
//!
//! The driver knows its VMAs by address, under a lock of its own that nobody keeps while he waits. What is at the
//! place can be replaced at any time, by a copy on write for one; so whoever means the place, and not what was there a
//! moment ago, looks at it with the amap locked ([`Spot::with`]).

use crate::{
    address_space::AddressSpace,
    anon::Anon,
    index::Index,
    interval_tree::Interval,
    process,
    rmap::Place,
    vma::VmaState, //
};
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    page::{
        PAGE_MASK,
        PAGE_SHIFT, //
    },
    prelude::*,
    sync::Arc,
    task::Pid, //
};

/// A page of a process that a VMA of the device covers.
pub(crate) struct Spot {
    pid: Pid,
    state: Arc<VmaState>,
    index: Index,
}

impl Spot {
    /// The spot at `place`; the page need not be there.
    ///
    /// # Errors
    ///
    /// * [`ESRCH`]: there is no such process, or it has no address space.
    /// * [`EFAULT`]: nothing is mapped at the address.
    /// * [`ENXIO`]: what is mapped there is not the device's.
    /// * [`ENODATA`]: the mapping is the device's, and has grown there since it was touched last.
    pub(crate) fn at(place: Place) -> Result<Self> {
        let mm = process::mm(place.pid)?;
        let state = AddressSpace::of(&mm).and_then(|space| {
            let page = Interval::point((place.address >> PAGE_SHIFT) as u64);
            let vmas = space.vmas().lock();
            let mut here = vmas.by_page.overlapping(page);
            here.next().map(|(_, state)| state.clone())
        });
        match state {
            Some(state) => {
                let index = state.base().index(place.address & PAGE_MASK);
                Ok(Self {
                    pid: place.pid,
                    state,
                    index,
                })
            }
            None => Err(why_not(&mm, place.address)),
        }
    }

    /// The spots of the pages that a VMA of the process `pid` has at the addresses `[start, end)` and that are good, added to
    /// `spots`. Returns how many pages it has there; `None` if it is not in the range at all. [`ENOMEM`].
    pub(crate) fn add_good(
        pid: Pid,
        state: &Arc<VmaState>,
        (start, end): (usize, usize),
        spots: &mut KVVec<Self>,
    ) -> Result<Option<u64>> {
        let Some((first, last)) = state.range() else {
            return Ok(None);
        };
        let (start, end) = (start.max(first), end.min(last));
        if start >= end {
            return Ok(None);
        }
        let indices = state.base().interval(start, end)?;
        loop {
            let slots = state.amap().lock();
            let pages = slots.anons.count_range(indices.start(), indices.last());
            if spots.capacity() - spots.len() < pages as usize {
                drop(slots);
                spots.reserve(pages as usize, GFP_KERNEL)?;
                continue;
            }
            for (index, slot) in slots.anons.iter_range(indices.start(), indices.last()) {
                if slot.value.lock().poison().is_none() {
                    // There is room: checked above.
                    let _ = spots.push_within_capacity(Self {
                        pid,
                        state: state.clone(),
                        index: Index(index),
                    });
                }
            }
            return Ok(Some(pages));
        }
    }

    /// The position in the rmap.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// The process and the address.
    pub(crate) fn place(&self) -> Place {
        Place {
            pid: self.pid,
            address: self.state.base().address(self.index),
        }
    }

    /// What `f` makes of the anon that is there, with the amap locked: it stays there meanwhile.
    ///
    /// # Errors
    ///
    /// * [`EFAULT`]: nothing is mapped there any more.
    /// * [`ENODATA`]: there is no page, since nobody has touched it.
    /// * Those of `f`.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Anon) -> Result<R>) -> Result<R> {
        let slots = self.state.amap().lock();
        let links = self.state.links(&slots).ok_or(EFAULT)?;
        if !links.interval().contains(Interval::point(self.index.0)) {
            return Err(EFAULT);
        }
        let slot = slots.anons.get(self.index.0).ok_or(ENODATA)?;
        f(slot.value)
    }
}

/// Why nothing of the device is known at `address`.
fn why_not(mm: &Mm, address: usize) -> Error {
    let Some(mm) = mm.mmget_not_zero() else {
        return ESRCH;
    };
    // Not to be the one who takes the address space down.
    let mm = MmWithUser::into_mmput_async(mm);
    match process::maps(&mm, address) {
        None => EFAULT,
        Some(true) => ENODATA,
        Some(false) => ENXIO,
    }
}

/// All VMAs of the device that the process `pid` has, in the order of addresses.
///
/// # Errors
///
/// * [`ESRCH`]: there is no such process, or it has no address space.
/// * [`ENXIO`]: it has none.
/// * [`ENOMEM`].
pub(crate) fn vmas_of(pid: Pid) -> Result<KVVec<Arc<VmaState>>> {
    let mm = process::mm(pid)?;
    AddressSpace::of(&mm).ok_or(ENXIO)?.states()
}
