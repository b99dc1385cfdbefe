// SPDX-License-Identifier: GPL-2.0

//! The files in debugfs `anon_rmap/`; the README documents them.

use crate::{
    interval_tree::Interval,
    memory_failure::{
        inject::{
            self,
            Chosen,
            Named, //
        },
        registry,
        soft_offline,
        Hit, //
    },
    quarantine,
    rmap::Place,
    stats,
    verify, //
};
use core::{
    fmt,
    marker::PhantomData,
    mem,
    ops::DerefMut, //
};
use kernel::{
    debugfs::{
        Reader,
        Writer, //
    },
    prelude::*,
    sync::global_lock,
    uaccess::UserSliceReader, //
};
use mappings::Mappings;
use parse::{
    numbers,
    numbers_up_to, //
};

mod file;
mod mappings;
mod parse;

pub(crate) use file::Dir;

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it creates the files.
    unsafe(uninit) static CHOSEN: Mutex<KVVec<Chosen>> = KVVec::new();
}
global_lock! {
    // SAFETY: As above.
    unsafe(uninit) static HITS: Mutex<KVVec<Hit>> = KVVec::new();
}
global_lock! {
    // SAFETY: As above.
    unsafe(uninit) static MAPPED_AT: Mutex<KVVec<Place>> = KVVec::new();
}

/// Makes the answers usable.
///
/// # Safety
///
/// Must be called exactly once, before [`create`].
pub(crate) unsafe fn init() {
    // SAFETY: The caller promises that this is the only call.
    unsafe {
        CHOSEN.init();
        HITS.init();
        MAPPED_AT.init();
    }
}

/// Creates the files.
pub(crate) fn create() -> Dir {
    let dir = Dir::new(c"anon_rmap");
    dir.write_only_file(c"poison_addr", &PoisonAddr);
    dir.write_only_file(c"poison_pfn", &PoisonPfn);
    dir.write_only_file(c"poison_range", &PoisonRange);
    dir.read_write_file(c"poison_random", &Answers::<PoisonRandom>(PhantomData));
    dir.write_only_file(c"replay", &Replay);
    dir.write_only_file(c"hard_offline", &HardOffline);
    dir.write_only_file(c"soft_offline", &SoftOffline);
    dir.write_only_file(c"unpoison_pfn", &UnpoisonPfn);
    dir.read_write_file(c"dry_run", &Answers::<DryRun>(PhantomData));
    dir.read_write_file(c"rmap", &Answers::<Rmap>(PhantomData));
    dir.read_only_file(c"mappings", &Mappings);
    dir.read_only_file(c"poisoned", &Poisoned);
    dir.read_only_file(c"quarantine", &Quarantine);
    dir.read_only_file(c"stats", &Stats);
    dir.read_only_file(c"verify", &Verify);
    dir
}

/// `PID ADDRESS`: poisons the page of a process at an address.
struct PoisonAddr;

impl Reader for PoisonAddr {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pid, address] = numbers(reader)?;
        inject::poison_addr(parse::place(pid, address)?)
    }
}

/// `PFN`: poisons the page in a frame.
struct PoisonPfn;

impl Reader for PoisonPfn {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        inject::poison_pfn(pfn)
    }
}

/// `PID START END`: poisons all pages of a process in a range of addresses.
struct PoisonRange;

impl Reader for PoisonRange {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pid, start, end] = numbers(reader)?;
        let Named { pid, address } = parse::place(pid, start)?;
        inject::poison_range(pid, address, usize::try_from(end).map_err(|_| ERANGE)?)
    }
}

/// Lines as `poisoned` has them: poisons these pages.
struct Replay;

impl Reader for Replay {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        const LIMIT: usize = 1 << 20;

        let text = parse::text(reader, LIMIT)?;
        inject::replay(&parse::places(&text)?)
    }
}

/// `PFN`: takes the page in a frame away for good.
struct HardOffline;

impl Reader for HardOffline {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        inject::hard_offline_pfn(pfn)
    }
}

/// `PFN`: moves the page in a frame to another.
struct SoftOffline;

impl Reader for SoftOffline {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        soft_offline::soft_offline(pfn)
    }
}

/// `PFN`: undoes the poisoning of the page in a frame.
struct UnpoisonPfn;

impl Reader for UnpoisonPfn {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let [pfn] = numbers(reader)?;
        inject::unpoison_pfn(pfn)
    }
}

/// Something that is asked for by a write, and answered by lines.
trait Question {
    type Line: fmt::Display;

    /// The lines that answer what is written.
    fn answer(reader: &mut UserSliceReader) -> Result<KVVec<Self::Line>>;

    /// Locks the lines of the last answer.
    fn last() -> impl DerefMut<Target = KVVec<Self::Line>>;
}

/// A file to which a question is written, and which then has the answer: that to the last question of
/// all that were answered.
struct Answers<Q>(PhantomData<fn(Q)>);

impl<Q: Question> Reader for Answers<Q> {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let lines = Q::answer(reader)?;
        let old = mem::replace(&mut *Q::last(), lines);
        drop(old);
        Ok(())
    }
}

impl<Q: Question> Writer for Answers<Q> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in Q::last().iter() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// `PID COUNT SEED`: poisons pages of a process at random. One line a page that was chosen.
struct PoisonRandom;

impl Question for PoisonRandom {
    type Line = Chosen;

    fn answer(reader: &mut UserSliceReader) -> Result<KVVec<Chosen>> {
        let [pid, count, seed] = numbers(reader)?;
        inject::poison_random(parse::pid(pid)?, count, seed)
    }

    fn last() -> impl DerefMut<Target = KVVec<Chosen>> {
        CHOSEN.lock()
    }
}

/// `PID ADDRESS` or `PFN`: one line a process that would be hit if that page failed.
struct DryRun;

impl Question for DryRun {
    type Line = Hit;

    fn answer(reader: &mut UserSliceReader) -> Result<KVVec<Hit>> {
        match numbers_up_to(reader)? {
            ([pfn, _], 1) => inject::dry_run_pfn(pfn),
            ([pid, address], _) => inject::dry_run_addr(parse::place(pid, address)?),
        }
    }

    fn last() -> impl DerefMut<Target = KVVec<Hit>> {
        HITS.lock()
    }
}

/// `PFN`: one line a page table entry that maps that frame, at the index of its page; with `FIRST LAST`, at any
/// of these indices.
struct Rmap;

impl Question for Rmap {
    type Line = Place;

    fn answer(reader: &mut UserSliceReader) -> Result<KVVec<Place>> {
        let (pfn, indices) = match numbers_up_to::<3>(reader)? {
            ([pfn, ..], 1) => (pfn, None),
            ([pfn, first, last], 3) => (pfn, Some(Interval::new(first, last).ok_or(EINVAL)?)),
            _ => return Err(EINVAL),
        };
        inject::mapped_at(pfn, indices)
    }

    fn last() -> impl DerefMut<Target = KVVec<Place>> {
        MAPPED_AT.lock()
    }
}

/// One line a poisoned page.
struct Poisoned;

impl Writer for Poisoned {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        registry::show(f)
    }
}

/// One line a frame that is out of use.
struct Quarantine;

impl Writer for Quarantine {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quarantine::show(f)
    }
}

/// One line a counter.
struct Stats;

impl Writer for Stats {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        stats::show(f)
    }
}

/// The result of a check of all trees.
struct Verify;

impl Writer for Verify {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match verify::check() {
            Ok(report) => write!(f, "{report}"),
            Err(_) => writeln!(f, "no memory for the check: try again"),
        }
    }
}
