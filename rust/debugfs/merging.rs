// SPDX-License-Identifier: GPL-2.0-only

//! The files in debugfs `anon_rmap/merge/`, with the names and the meanings that ksm has in sysfs.

use super::{
    file::{
        Command,
        Dir, //
    },
    parse::numbers,
    seq_file::Listing, //
};
use crate::merge::{
    self,
    Run, //
};
use core::{
    fmt,
    marker::PhantomData, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

/// Creates the directory.
pub(super) fn create(parent: &Dir) {
    let dir = parent.dir(c"merge");
    dir.command_and_listing::<Setting<State>>(c"run");
    dir.command_and_listing::<Setting<PagesToScan>>(c"pages_to_scan");
    dir.command_and_listing::<Setting<SleepMillisecs>>(c"sleep_millisecs");
    dir.command_and_listing::<Setting<MaxPageSharing>>(c"max_page_sharing");
    dir.command_and_listing::<Setting<AcrossFamilies>>(c"merge_across_families");
}

/// A number that is chosen.
trait Number: 'static {
    /// What it is.
    fn get() -> u32;

    /// Chooses another one; [`EINVAL`] if there is no such choice.
    fn set(number: u32) -> Result;
}

/// Its file.
struct Setting<N>(PhantomData<fn(N)>);

impl<N: Number> Command for Setting<N> {
    fn run(text: &[u8]) -> Result {
        let [number] = numbers(text)?;
        N::set(u32::try_from(number).map_err(|_| EINVAL)?)
    }
}

impl<N: Number> Listing for Setting<N> {
    /// Whether it has been shown.
    type Cursor = bool;

    type Line = u32;

    fn next(shown: &bool) -> Option<(bool, u32)> {
        (!shown).then(|| (true, N::get()))
    }

    fn show(number: &u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{number}")
    }
}

/// `run`.
struct State;

impl Number for State {
    fn get() -> u32 {
        merge::run() as u32
    }

    fn set(number: u32) -> Result {
        let all = [Run::Stop, Run::Merge, Run::Unmerge];
        let run = all.into_iter().find(|run| *run as u32 == number);
        merge::set_run(run.ok_or(EINVAL)?)
    }
}

/// `pages_to_scan`.
struct PagesToScan;

impl Number for PagesToScan {
    fn get() -> u32 {
        merge::PAGES_TO_SCAN.load(Relaxed)
    }

    fn set(number: u32) -> Result {
        if number == 0 {
            return Err(EINVAL);
        }
        merge::PAGES_TO_SCAN.store(number, Relaxed);
        Ok(())
    }
}

/// `sleep_millisecs`.
struct SleepMillisecs;

impl Number for SleepMillisecs {
    fn get() -> u32 {
        merge::sleep_millisecs()
    }

    fn set(number: u32) -> Result {
        merge::set_sleep_millisecs(number);
        Ok(())
    }
}

/// `max_page_sharing`.
struct MaxPageSharing;

impl Number for MaxPageSharing {
    fn get() -> u32 {
        merge::MAX_PAGE_SHARING.load(Relaxed)
    }

    fn set(number: u32) -> Result {
        if number < 2 {
            return Err(EINVAL);
        }
        merge::MAX_PAGE_SHARING.store(number, Relaxed);
        Ok(())
    }
}

/// `merge_across_families`.
struct AcrossFamilies;

impl Number for AcrossFamilies {
    fn get() -> u32 {
        merge::merges_across_families().into()
    }

    fn set(number: u32) -> Result {
        match number {
            0 | 1 => merge::set_merge_across_families(number == 1),
            _ => Err(EINVAL),
        }
    }
}
