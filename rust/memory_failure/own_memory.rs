// SPDX-License-Identifier: GPL-2.0-only

//! Drills of the current process on its own memory: what `ioctl()` of the device does.

use super::{
    inject::{
        poison_all,
        poison_place,
        MAX_PAGES, //
    },
    policy,
    unpoison as unpoison_anon, //
};
use crate::{
    anon::Anon,
    errno::{
        EHWPOISON,
        ENODATA, //
    },
    failure::{
        Poison,
        Source, //
    },
    index::Pages,
    process,
    spot::{
        Spot,
        Wanted, //
    }, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef, //
};

/// Poisons all good pages in `range`, as `kind` says; returns how many.
///
/// # Errors
///
/// Those of [`Spot::in_range`] and [`poison_all`].
pub(crate) fn poison(range: Range<usize>, kind: Poison) -> Result<usize> {
    let spots = Spot::in_range(&process::Id::current()?, range, Wanted::Good)?;
    let mut count = 0;
    poison_all(spots, Source::Ioctl, |_| kind, |_, _| count += 1)?;
    Ok(count)
}

/// Poisons all good pages in `range`, also those that nobody has touched; returns how many. All of it must be the device's.
///
/// # Errors
///
/// * [`EINVAL`], [`E2BIG`]: it is no range of pages, or one of too many.
/// * Those of [`Spot::at`] for any of them. Nothing has changed up to here.
/// * [`EHWPOISON`]: all are poisoned already.
/// * Those of [`poison_place`], and [`EINTR`] if the current task is being killed: the pages before have failed then.
pub(crate) fn poison_untouched(range: Range<usize>) -> Result<usize> {
    let process = process::Id::current()?;
    let pages = Pages::of(range)?;
    let pages = pages.first()..=pages.last();
    if pages.end() - pages.start() >= MAX_PAGES as u64 {
        return Err(E2BIG);
    }
    let spot = |page| Spot::at(process.clone(), (page as usize) << PAGE_SHIFT);
    for page in pages.clone() {
        spot(page)?;
    }
    let policy = policy::early_kill();
    let mut count = 0;
    for page in pages {
        if process::is_current_killed() {
            return Err(EINTR);
        }
        let find = || spot(page);
        match poison_place(find, Source::Ioctl, Poison::Simulated, false, policy) {
            Ok(()) => count += 1,
            Err(error) if error == EHWPOISON => (),
            Err(error) => return Err(error),
        }
    }
    match count {
        0 => Err(EHWPOISON),
        _ => Ok(count),
    }
}

/// Gives all poisoned pages in `range` back; returns how many.
///
/// # Errors
///
/// Those of [`Spot::in_range`]; those of [`unpoison`](unpoison_anon) for the first, if none can be given back.
pub(crate) fn unpoison(range: Range<usize>) -> Result<usize> {
    let mut count = 0;
    let mut refused = None;
    for mut spot in Spot::in_range(&process::Id::current()?, range, Wanted::Poisoned)? {
        let given_back = spot
            .with(|anon| Ok(anon.into()))
            .and_then(|anon: ARef<Anon>| unpoison_anon(&anon, Source::Ioctl));
        match given_back {
            Ok(()) => count += 1,
            Err(error) if error == EINTR => return Err(EINTR),
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    match refused {
        Some(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

/// Where in `range` pages are poisoned, and how.
///
/// # Errors
///
/// Those of [`Spot::in_range`], but for [`ENODATA`] and [`ENOENT`]: these are none.
pub(crate) fn poisoned(range: Range<usize>) -> Result<KVVec<(usize, Poison)>> {
    let mut pages = KVVec::new();
    let spots = match Spot::in_range(&process::Id::current()?, range, Wanted::Poisoned) {
        Err(error) if error == ENODATA || error == ENOENT => return Ok(pages),
        spots => spots?,
    };
    for mut spot in spots {
        let address = spot.address();
        match spot.with(|anon| Ok(anon.lock().poison())) {
            Ok(Some(kind)) => pages.push((address, kind), GFP_KERNEL_ACCOUNT)?,
            // It has been given back, or the memory unmapped, meanwhile.
            Ok(None) => (),
            Err(error) if error == EINTR => return Err(EINTR),
            Err(_) => (),
        }
    }
    Ok(pages)
}
