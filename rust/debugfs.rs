// SPDX-License-Identifier: GPL-2.0-only

//! The files in debugfs `anon_rmap/`; `debugfs.md` documents them.

use crate::{
    failure::{
        Place,
        Poison, //
    },
    helpers,
    index::{
        Index,
        Indices, //
    },
    loading::Loading,
    memory_failure::{
        inject::{
            self,
            Chosen, //
        },
        journal,
        soft_offline,
        Notice, //
    },
    poisoned,
    pool::quarantine,
    stats,
    verify, //
};
use answers::{
    Answer,
    Answers,
    LastAnswer,
    Question, //
};
use core::{
    fmt,
    ops::DerefMut, //
};
use file::{
    Command,
    Dir, //
};
use kernel::{
    prelude::*,
    sync::global_lock, //
};
use mappings::Mappings;
use parse::{
    numbers,
    numbers_and,
    numbers_in, //
};
use seq_file::{
    Growing,
    Listing,
    Poll, //
};

mod answers;
mod file;
mod lines;
mod mappings;
mod merging;
mod parse;
mod seq_file;

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it creates the files.
    unsafe(uninit) static CHOSEN: Mutex<LastAnswer<PoisonRandom>> = None;
}
global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it creates the files.
    unsafe(uninit) static HITS: Mutex<LastAnswer<DryRun>> = None;
}
global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it creates the files.
    unsafe(uninit) static MAPPED_AT: Mutex<LastAnswer<Rmap>> = None;
}

/// Makes the answers usable. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&CHOSEN)?;
    loading.init(&HITS)?;
    loading.init(&MAPPED_AT)
}

/// The files; removed when this is dropped, and the answers forgotten. Nobody may have one of them open then.
pub(crate) struct Files {
    _dir: Dir,
}

impl Drop for Files {
    fn drop(&mut self) {
        answers::forget::<PoisonRandom>();
        answers::forget::<DryRun>();
        answers::forget::<Rmap>();
    }
}

/// Creates the files.
pub(crate) fn create() -> Files {
    let dir = Dir::new(c"anon_rmap");
    dir.command::<PoisonAddr>(c"poison_addr");
    dir.command::<PoisonPfn>(c"poison_pfn");
    dir.command::<PoisonRange>(c"poison_range");
    dir.command_and_listing::<Answers<PoisonRandom>>(c"poison_random");
    dir.command::<Replay>(c"replay");
    dir.command::<HardOffline>(c"hard_offline");
    dir.command::<SoftOffline>(c"soft_offline");
    dir.command::<UnpoisonPfn>(c"unpoison_pfn");
    dir.command_and_listing::<Answers<DryRun>>(c"dry_run");
    dir.command_and_listing::<Answers<Rmap>>(c"rmap");
    dir.listing::<Mappings>(c"mappings");
    dir.listing::<Poisoned>(c"poisoned");
    dir.growing::<Events>(c"events");
    dir.listing::<Quarantine>(c"quarantine");
    dir.listing::<Stats>(c"stats");
    dir.listing::<Verify>(c"verify");
    merging::create(&dir);
    Files { _dir: dir }
}

/// The word by which a page is kept.
const KEEP: &str = "keep";

/// How a page fails in a drill that is followed by that word, or not.
fn kind(is_kept: bool) -> Poison {
    match is_kept {
        true => Poison::Kept,
        false => Poison::Simulated,
    }
}

/// `PID ADDRESS`, and perhaps `touched` or `keep`: poisons the page of a process at an address; without a word, touched or not.
struct PoisonAddr;

impl Command for PoisonAddr {
    fn run(text: &[u8]) -> Result {
        let ([pid, address], word) = numbers_and(&["touched", KEEP], text)?;
        let place = parse::place(pid, address)?;
        inject::poison_addr(place, kind(word == Some(KEEP)), word.is_some())
    }
}

/// `PFN` or `PFN keep`: poisons the page in a frame.
struct PoisonPfn;

impl Command for PoisonPfn {
    fn run(text: &[u8]) -> Result {
        let ([pfn], word) = numbers_and(&[KEEP], text)?;
        inject::poison_pfn(pfn, kind(word.is_some()))
    }
}

/// `PID START END` or `PID START-END`, and perhaps `keep`; or a line as `mappings` has them: poisons all pages of a process in a
/// range of addresses.
struct PoisonRange;

impl Command for PoisonRange {
    /// More than a line of `mappings` can have.
    const MOST_BYTES: usize = 256;

    fn run(text: &[u8]) -> Result {
        let (pid, range, word) = parse::range(&[KEEP], text)?;
        inject::poison_range(pid, range, kind(word.is_some()))
    }
}

/// Lines as `poisoned` has them: poisons these pages.
struct Replay;

impl Command for Replay {
    const MOST_BYTES: usize = 1 << 20;
    const TOO_LONG: Error = E2BIG;

    fn run(text: &[u8]) -> Result {
        inject::replay(&parse::places(text)?)
    }
}

/// `PFN`: takes the page in a frame away for good.
struct HardOffline;

impl Command for HardOffline {
    fn run(text: &[u8]) -> Result {
        let [pfn] = numbers(text)?;
        inject::hard_offline_pfn(pfn)
    }
}

/// `PFN`: moves the page in a frame to another.
struct SoftOffline;

impl Command for SoftOffline {
    fn run(text: &[u8]) -> Result {
        let [pfn] = numbers(text)?;
        soft_offline::soft_offline(pfn)
    }
}

/// `PFN`: undoes the poisoning of the page in a frame.
struct UnpoisonPfn;

impl Command for UnpoisonPfn {
    fn run(text: &[u8]) -> Result {
        let [pfn] = numbers(text)?;
        inject::unpoison_pfn(pfn)
    }
}

/// `PID COUNT SEED`: poisons pages of a process at random. One line a page that was chosen.
struct PoisonRandom;

impl Question for PoisonRandom {
    type Key = usize;
    type Value = Option<Chosen>;

    fn answer(question: &[u8]) -> Result<Answer<Self>> {
        let [pid, count, seed] = numbers(question)?;
        if count == 0 {
            return Err(EINVAL);
        }
        inject::poison_random(parse::pid(pid)?, count, seed)
    }

    fn last() -> impl DerefMut<Target = LastAnswer<Self>> {
        CHOSEN.lock()
    }

    fn show(_: &usize, chosen: &Option<Chosen>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chosen {
            Some(chosen) => lines::chosen(chosen, f),
            None => Ok(()),
        }
    }
}

/// `PID ADDRESS` or `PFN`: one line a process that would be hit if that page failed.
struct DryRun;

impl Question for DryRun {
    type Key = Place;
    type Value = Notice;

    fn answer(question: &[u8]) -> Result<Answer<Self>> {
        match numbers_in(question, &[1, 2])? {
            ([pfn, _], 1) => inject::dry_run_pfn(pfn),
            ([pid, address], _) => inject::dry_run_addr(parse::place(pid, address)?),
        }
    }

    fn last() -> impl DerefMut<Target = LastAnswer<Self>> {
        HITS.lock()
    }

    fn show(place: &Place, notice: &Notice, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines::dry_run(place, notice, f)
    }
}

/// `PFN`: one line a page table entry that maps that frame, at the index of its page; with `FIRST LAST`, at any
/// of these indices.
struct Rmap;

impl Question for Rmap {
    type Key = Place;
    type Value = ();

    fn answer(question: &[u8]) -> Result<Answer<Self>> {
        let (pfn, indices) = match numbers_in(question, &[1, 3])? {
            ([pfn, _, _], 1) => (pfn, None),
            ([pfn, first, last], _) => (
                pfn,
                Some(Indices::new(Index(first), Index(last)).ok_or(EINVAL)?),
            ),
        };
        inject::mapped_at(pfn, indices)
    }

    fn last() -> impl DerefMut<Target = LastAnswer<Self>> {
        MAPPED_AT.lock()
    }

    fn show(place: &Place, (): &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines::place(place, f)
    }
}

/// One line a poisoned page, by frame.
struct Poisoned;

impl Listing for Poisoned {
    /// The first frame that has not been looked at.
    type Cursor = u64;

    /// The frame.
    type Line = u64;

    fn next(cursor: &u64) -> Option<(u64, u64)> {
        let pfn = poisoned::first_from(*cursor)?;
        Some((pfn + 1, pfn))
    }

    fn show(pfn: &u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        poisoned::with(*pfn, |record| lines::poisoned(*pfn, record, f)).unwrap_or(Ok(()))
    }
}

/// One line a record of the journal, and one for those that were overwritten before they could be read.
struct Events;

impl Listing for Events {
    /// The number of the first record that has not been looked at.
    type Cursor = u64;

    /// How many records were lost before this one, its number, and the record.
    type Line = (u64, u64, journal::Record);

    fn next(cursor: &u64) -> Option<(u64, Self::Line)> {
        let (number, record) = journal::first_from(*cursor)?;
        Some((number + 1, (number - cursor, number, record)))
    }

    fn show((lost, number, record): &Self::Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *lost > 0 {
            lines::lost(*lost, f)?;
        }
        lines::event(*number, record, f)
    }
}

impl Growing for Events {
    fn has_more(cursor: &u64) -> bool {
        journal::has(*cursor)
    }

    fn wait(poll: &Poll<Self>) {
        // SAFETY: These are the arguments of `poll`.
        unsafe { helpers::anon_rmap_journal_wait(poll.file(), poll.table()) };
    }
}

/// One line a frame that is out of use.
struct Quarantine;

impl Listing for Quarantine {
    /// The first frame that has not been looked at.
    type Cursor = u64;

    /// The frame, and why.
    type Line = (u64, quarantine::Kind);

    fn next(cursor: &u64) -> Option<(u64, Self::Line)> {
        let frame = quarantine::next(*cursor)?;
        Some((frame.0 + 1, frame))
    }

    fn show((pfn, kind): &Self::Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines::quarantined(*pfn, *kind, f)
    }
}

/// All counters, read at the same time.
struct Stats;

impl Listing for Stats {
    /// Whether they have been shown.
    type Cursor = bool;

    type Line = ();

    fn next(shown: &bool) -> Option<(bool, ())> {
        (!shown).then_some((true, ()))
    }

    fn show((): &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in stats::ALL {
            lines::counter(name, counter.get(), f)?;
        }
        lines::counter("quarantined", quarantine::count() as i64, f)
    }
}

/// The result of a check of all trees.
struct Verify;

impl Listing for Verify {
    /// Whether it has been shown.
    type Cursor = bool;

    type Line = Result<verify::Report>;

    fn next(shown: &bool) -> Option<(bool, Self::Line)> {
        (!shown).then(|| (true, verify::check()))
    }

    fn show(report: &Self::Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match report {
            Ok(report) => lines::verify(report, f),
            Err(_) => lines::no_verify(f),
        }
    }
}
