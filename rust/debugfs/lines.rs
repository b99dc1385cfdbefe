// SPDX-License-Identifier: GPL-2.0-only

//! The lines of all files: each function writes one with its end. `debugfs.md` documents them; `parse` reads some of them.
//!
//! Processes and threads are numbered as the current task would name them.

use crate::{
    failure::Place,
    memory_failure::{
        inject::Chosen,
        journal::{
            self,
            Event, //
        },
        kill::Code,
        Notice, //
    },
    poisoned,
    pool::quarantine,
    process,
    verify::{
        Report,
        Wrong, //
    }, //
};
use core::fmt;
use kernel::{
    fmt::Adapter,
    str::CStr,
    task::Pid, //
};

/// A time since boot, in seconds.
struct Seconds {
    nanoseconds: u64,
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NSEC_PER_SEC: u64 = 1_000_000_000;

        let (seconds, rest) = (
            self.nanoseconds / NSEC_PER_SEC,
            self.nanoseconds % NSEC_PER_SEC,
        );
        write!(f, "{seconds}.{:06}", rest / 1000)
    }
}

/// The thread that is signalled at once, and how.
fn signal(signal: &Option<(process::Id, Code)>) -> (Pid, Adapter<&CStr>) {
    match signal {
        Some((thread, code)) => (thread.number(), Adapter(code.name())),
        None => (0, Adapter(c"none")),
    }
}

/// `rmap`: a place that maps the page.
pub(super) fn place(place: &Place, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{place}")
}

/// `poison_random`: a page that was chosen.
pub(super) fn chosen(chosen: &Chosen, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{} pfn={:#x}", chosen.place, chosen.pfn)
}

/// `dry_run`: a process that would be hit.
pub(super) fn dry_run(place: &Place, notice: &Notice, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (tid, signal) = signal(&notice.0);
    writeln!(f, "{place} tid={tid} signal={signal}")
}

/// What `mappings` says of one VMA.
pub(super) struct MappingLine {
    pub(super) pid: Pid,
    pub(super) comm: [u8; 16],
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) present: u64,
    pub(super) poisoned: u64,
    pub(super) avcs: usize,
}

/// `mappings`: a VMA.
pub(super) fn mapping(line: &MappingLine, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let comm = CStr::from_bytes_until_nul(&line.comm).unwrap_or(c"");
    writeln!(
        f,
        "pid={} range={:#x}-{:#x} index={}-{} present={} poisoned={} avcs={} comm={}",
        line.pid,
        line.start,
        line.end,
        line.first,
        line.last,
        line.present,
        line.poisoned,
        line.avcs,
        Adapter(comm),
    )
}

/// `poisoned`: the page in frame `pfn`.
pub(super) fn poisoned(
    pfn: u64,
    record: &poisoned::Record,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let since = Seconds {
        nanoseconds: record.since,
    };
    write!(
        f,
        "pfn={pfn:#x} index={} kind={} source={} since={since} hit={} pids=",
        record.index,
        record.failure.kind,
        Adapter(record.failure.source.name()),
        record.hit,
    )?;
    for (i, holder) in record.holders.iter().enumerate() {
        write!(f, "{}{}", if i == 0 { "" } else { "," }, holder.pid())?;
    }
    match record.place() {
        Some(place) => {
            let pid = if place.is_usable() { place.pid() } else { 0 };
            writeln!(f, " pid={pid} address={:#x}", place.address)
        }
        None => writeln!(f, " pid=0 address=0x0"),
    }
}

/// `events`: so many records were overwritten before they could be read.
pub(super) fn lost(records: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "lost={records}")
}

/// `events`: the record with this number.
pub(super) fn event(
    number: u64,
    record: &journal::Record,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let time = Seconds {
        nanoseconds: record.time,
    };
    write!(f, "number={number} time={time} pfn={:#x} ", record.pfn)?;
    match &record.event {
        Event::Page {
            index,
            action,
            source,
        } => writeln!(
            f,
            "index={index} action={} source={}",
            Adapter(action.name()),
            Adapter(source.name())
        ),
        Event::Release { source } => {
            writeln!(f, "action=release source={}", Adapter(source.name()))
        }
        Event::Hit { place, signal: how } => {
            let (tid, signal) = signal(how);
            write!(f, "{place} tid={tid} signal={signal}")?;
            // Not a name: nobody is to take it for one.
            match place.process.as_ref().filter(|_| place.pid() == 0) {
                Some(process) => writeln!(f, " was={}", process.former_number()),
                None => writeln!(f),
            }
        }
    }
}

/// `quarantine`: a frame that is out of use, and why.
pub(super) fn quarantined(
    pfn: u64,
    kind: quarantine::Kind,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    writeln!(f, "pfn={pfn:#x} kind={kind}")
}

/// `stats`: a counter.
pub(super) fn counter(name: &str, value: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{name} {value}")
}

/// `verify`: a line for each thing that is wrong, or `ok`; then what was looked at.
pub(super) fn verify(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for wrong in &report.wrong {
        match wrong {
            Wrong::Tree(violation) => writeln!(f, "wrong tree: {violation:?}"),
            Wrong::Links(place) => writeln!(f, "wrong links: {place}"),
            Wrong::Avc(place) => writeln!(f, "wrong avc: {place}"),
            Wrong::Entry(place) => writeln!(f, "wrong page table entry: {place}"),
            Wrong::Marker(place) => writeln!(f, "wrong marker: {place}"),
            Wrong::Poisoned(place) => writeln!(f, "wrong, a failed page is mapped: {place}"),
        }?;
    }
    if report.more_wrong > 0 {
        writeln!(f, "wrong, and not described: {}", report.more_wrong)?;
    }
    if report.wrong.is_empty() {
        write!(f, "ok ")?;
    }
    writeln!(
        f,
        "vmas={} trees={} avcs={} entries={}",
        report.vmas, report.trees, report.avcs, report.entries
    )
}

/// `verify`: what there is if it could not be done.
pub(super) fn no_verify(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "no memory for the check: try again")
}
