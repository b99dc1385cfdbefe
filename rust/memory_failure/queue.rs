// SPDX-License-Identifier: GPL-2.0-only

//! Failures that are handled later, on the driver's own work queue.
//!
//! Who finds a failure can't always handle it: the machine-check decode chain is everybody's, and who
//! copies a page holds locks of a fault. So it is only [noted](note). There are [`ENTRIES`] for that, so it
//! needs no memory. Each entry has a worker of its own: what waits for memory holds up no others.
//!
//! What finds no memory is tried again until it does. A machine check that finds no entry is found
//! again when one is free: its frame has the kernel's flag for bad pages.

use super::{
    direct_map,
    poison, //
};
use crate::{
    anon::{
        self,
        Anon, //
    },
    failure::{
        Failure,
        MfAction,
        Poison, //
        Source,
    },
    loading::Loading,
    page::{
        OwnedPage,
        Page, //
    },
    pool::{
        quarantine,
        reported, //
    },
    work_queue::WorkQueue, //
};
use core::{
    mem,
    ops::RangeInclusive,
    ptr, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        aref::ARef,
        global_lock,
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    workqueue::{
        impl_has_delayed_work,
        new_delayed_work,
        DelayedWork,
        WorkItem, //
    }, //
};

/// The failures that can be noted at a time. The array of entries takes a page.
const ENTRIES: usize = 128;

/// How long what has found no memory waits for the next try. It is twice as long each time, but not more
/// often than [`MAX_DOUBLINGS`].
const FIRST_DELAY: Msecs = 100;
const MAX_DOUBLINGS: u32 = 7;

/// A failure that is to be handled.
struct Note {
    failed: Failed,
    /// Keeps the kernel from taking the page for free, which it has marked.
    guard: Option<OwnedPage>,
    /// Whether the kernel knows that the hardware has failed.
    is_told: bool,
    /// How often there was no memory for it.
    tries: u32,
    /// Whether it has come again since it is being handled: a drill can have been undone.
    again: bool,
}

/// What has failed, and who says so.
#[derive(Clone)]
struct Failed {
    anon: ARef<Anon>,
    pfn: u64,
    source: Source,
}

impl Failed {
    /// Whether this is the same failure.
    fn is(&self, other: &Self) -> bool {
        ptr::eq::<Anon>(&*self.anon, &*other.anon) && self.pfn == other.pfn
    }

    /// The same failure; of another anon in the frame, if this one has left the others there, with a copy, before it was noted.
    fn there(self) -> Self {
        let has_left = self.anon.lock().pfn() != self.pfn;
        let other = has_left.then(|| anon::lookup(self.pfn)).flatten();
        Self {
            anon: other.unwrap_or(self.anon),
            ..self
        }
    }

    /// Handles the failure; whether the kernel has been told of it thereby. [`ENOMEM`]: not yet.
    fn handle(&self) -> Result<bool> {
        let (is_failing, was_marked) = {
            let mut content = self.anon.lock();
            let has_left = content.pfn() != self.pfn;
            if !has_left && self.source == Source::MachineCheck {
                // Who has noted it may not have been able to lock.
                content.set_failed();
            }
            (content.is_failing(), has_left || content.is_marked())
        };
        // What only the kernel says is a drill of its own, unless a machine check comes, too.
        let is_drill = self.source == Source::MemoryFailure && !is_failing;
        if is_drill && !was_marked {
            // It was undone meanwhile.
            return Ok(false);
        }
        let failure = Failure {
            kind: match is_drill {
                true => Poison::Simulated,
                false => Poison::Hardware,
            },
            source: self.source,
            action: MfAction::Optional,
            pfn: Some(self.pfn),
            place: None,
        };
        match poison(&self.anon, failure) {
            Err(error) if error == ENOMEM => Err(error),
            // That it is poisoned already, or has left the frame, is as good.
            result => Ok(result.is_ok() && !was_marked),
        }
    }

    /// Whether the page is marked, but good: a drill that was undone while it came again.
    fn is_left_over(&self) -> bool {
        let content = self.anon.lock();
        content.pfn() == self.pfn && content.poison().is_none() && content.has_failed()
    }

    /// Gives up `guard`, unless the mark may have no reference yet: who handles a failure of the hardware comes to that last.
    fn leave(&self, guard: OwnedPage) {
        let content = self.anon.lock();
        if content.pfn() == self.pfn && content.poison() == Some(Poison::Hardware) {
            Page::leave_guard(guard);
        }
    }

    /// Keeps the frame from being used again, although there has been no memory up to now. Nobody maps the
    /// page any more.
    fn give_up(&self) {
        {
            let mut content = self.anon.lock();
            if content.pfn() == self.pfn {
                content.set_failed();
            }
        }
        pr_warn!("frame {:#x} has failed; it stays out of use\n", self.pfn);
    }
}

/// How long to wait for the next of so many tries.
fn delay(tries: u32) -> Msecs {
    FIRST_DELAY << tries.min(MAX_DOUBLINGS)
}

struct Entry {
    note: Option<Note>,
    worker: Arc<Worker>,
}

/// Guarded by a lock under which works are queued, too: so one that is to be tried again is waiting
/// before somebody sees that.
///
/// # Invariants
///
/// The work of an entry that has a note is queued or runs, and takes the note away when it is done.
struct Entries {
    entries: KVec<Entry>,
    /// What runs the works: nothing is noted without.
    queue: Option<WorkQueue>,
    /// All frames with a failure that has found no entry are in this range, but for those that a
    /// worker is about to note.
    missed: Option<RangeInclusive<u64>>,
    /// Whether nothing is tried again, since the module is being unloaded.
    closing: bool,
}

impl Entries {
    const fn new() -> Self {
        // INVARIANT: There are no entries.
        Self {
            entries: KVec::new(),
            queue: None,
            missed: None,
            closing: false,
        }
    }

    /// Adds `frames` to those that are looked at when an entry is free.
    fn miss(&mut self, frames: RangeInclusive<u64>) {
        self.missed = Some(match &self.missed {
            Some(other) => *frames.start().min(other.start())..=*frames.end().max(other.end()),
            None => frames,
        });
    }
}

global_lock! {
    // SAFETY: Initialised by `Queue::new`, which the module calls before anything is noted.
    unsafe(uninit) static NOTED: SpinLock<Entries> = Entries::new();
}

/// What handles the failure that is noted in an entry.
#[pin_data]
struct Worker {
    entry: usize,
    #[pin]
    work: DelayedWork<Self>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Worker { self.work }
}

impl Worker {
    fn new(entry: usize) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                entry,
                work <- new_delayed_work!("anon_rmap"),
            }),
            GFP_KERNEL,
        )
    }

    /// Runs the work now if it waits for the next try, and waits until it has run.
    fn flush(&self) {
        let work: *const DelayedWork<Self> = &raw const self.work;
        // SAFETY: `DelayedWork` is a transparent wrapper of what is flushed, and was initialised in `new`.
        unsafe { bindings::flush_delayed_work(work.cast_mut().cast()) };
    }
}

impl WorkItem for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let entry = this.entry;
        let noted = {
            let mut noted = NOTED.lock();
            let note = noted
                .entries
                .get_mut(entry)
                .and_then(|entry| entry.note.as_mut());
            note.map(|note| {
                note.again = false;
                (note.failed.clone(), note.tries)
            })
        };
        let Some((failed, tries)) = noted else {
            return;
        };
        let failed = failed.there();
        let handled = failed.handle();
        let is_left_over = handled.is_ok() && failed.is_left_over();
        let done;
        let missed;
        {
            let mut noted = NOTED.lock();
            let Entries {
                entries,
                queue,
                missed: all_missed,
                closing,
            } = &mut *noted;
            let waiting = entries.get_mut(entry).and_then(|entry| entry.note.as_mut());
            let queue = queue.as_ref().filter(|_| !*closing);
            if let (Some(waiting), Some(queue)) = (waiting, queue) {
                // It is not queued already, since nobody else queues the work of an entry in use.
                if handled.is_err() {
                    waiting.tries = tries.saturating_add(1);
                    let _ = queue.enqueue_delayed(this, msecs_to_jiffies(delay(tries)));
                    drop(noted);
                    if tries == 0 {
                        pr_warn!(
                            "no memory to handle the failure of frame {:#x}; trying again\n",
                            failed.pfn
                        );
                    }
                    return;
                }
                waiting.is_told |= handled == Ok(true);
                if waiting.again || is_left_over {
                    let _ = queue.enqueue(this);
                    return;
                }
            }
            // INVARIANT: The work is done, and the note is taken away.
            done = entries.get_mut(entry).and_then(|entry| entry.note.take());
            missed = all_missed.take();
        }
        match &done {
            _ if handled.is_err() => failed.give_up(),
            // Its source can be another one by now.
            Some(done) if done.failed.source == Source::MachineCheck => {
                if !done.is_told {
                    quarantine::tell_hardware_failed(failed.pfn);
                }
                direct_map::finish(&failed.anon, failed.pfn)
            }
            _ => (),
        }
        if let Some(guard) = done.and_then(|done| done.guard) {
            failed.leave(guard);
        }
        if let Some(frames) = missed {
            note_missed(frames);
        }
    }
}

/// Notes that the page of `anon` in frame `pfn` has failed under the hardware; it is handled soon. False
/// if there is no entry: a failure found by a copy is not noted then, that of a machine check is handled when there is one.
///
/// Allocates nothing and does not sleep. Nor is it noted if there is no [`Queue`].
pub(super) fn note(anon: &ARef<Anon>, pfn: u64, source: Source) -> bool {
    let missed = (source == Source::MachineCheck).then_some(pfn..=pfn);
    let failed = Failed {
        anon: anon.clone(),
        pfn,
        source,
    };
    note_or_miss(failed, None, missed)
}

/// As [`note`], for who knows only the frame, in which an anon is: what [`failure::report`](crate::failure::report) ends in. What a copy
/// has found, and there is no entry for, the next copy finds again.
pub(crate) fn note_frame(pfn: u64, source: Source) {
    if let Some(anon) = anon::lookup(pfn) {
        note(&anon, pfn, source);
    }
}

/// As [`note`], for a page that the kernel has marked; `guard` is a reference to it, which is kept until it is handled.
pub(super) fn note_marked(
    anon: ARef<Anon>,
    pfn: u64,
    source: Source,
    guard: Option<OwnedPage>,
) -> bool {
    let failed = Failed { anon, pfn, source };
    note_or_miss(failed, guard, Some(pfn..=pfn))
}

/// [Notes](note) the failure, or that there are missed ones in the frames `missed`.
fn note_or_miss(
    failed: Failed,
    mut guard: Option<OwnedPage>,
    missed: Option<RangeInclusive<u64>>,
) -> bool {
    let mut noted = NOTED.lock();
    let mut notes = noted
        .entries
        .iter_mut()
        .filter_map(|entry| entry.note.as_mut());
    if let Some(note) = notes.find(|note| note.failed.is(&failed)) {
        note.again = true;
        if note.guard.is_none() {
            note.guard = guard.take();
        }
        // The kernel calls its `memory_failure()` for a machine check, too, and perhaps before it tells us.
        if failed.source == Source::MachineCheck {
            note.failed.source = failed.source;
        }
        note.is_told |= reported::has(failed.pfn);
        return true;
    }
    let Entries { entries, queue, .. } = &mut *noted;
    let Some(queue) = queue else {
        return false;
    };
    let Some(entry) = entries.iter_mut().find(|entry| entry.note.is_none()) else {
        if let Some(frames) = missed {
            noted.miss(frames);
        }
        if let Some(guard) = guard.take() {
            Page::leave_guard(guard);
        }
        return false;
    };
    // INVARIANT: The work is queued below, before anybody else gets the lock.
    entry.note = Some(Note {
        is_told: reported::has(failed.pfn),
        failed,
        guard: guard.take(),
        tries: 0,
        again: false,
    });
    // It is not queued already: the entry was free.
    let _ = queue.enqueue(entry.worker.clone());
    true
}

/// Notes the failures in `frames` that have found no entry. What finds none again is left to the
/// next worker that is done.
///
/// Takes the time of looking at each of the frames.
fn note_missed(frames: RangeInclusive<u64>) {
    let last = *frames.end();
    for pfn in frames {
        let Some(anon) = anon::lookup(pfn) else {
            continue;
        };
        let (guard, source);
        {
            let content = anon.lock();
            guard = content.page().take_guard();
            if !content.has_failed() {
                continue;
            }
            source = match content.is_failing() || reported::has(pfn) {
                true => Source::MachineCheck,
                false => Source::MemoryFailure,
            };
            let is_handled = match source {
                Source::MachineCheck => content.poison() == Some(Poison::Hardware),
                _ => content.is_kernels_drill() || content.poison() == Some(Poison::Hardware),
            };
            // Or by a worker that may wait for who is stuck.
            if is_handled {
                continue;
            }
        }
        let failed = Failed { anon, pfn, source };
        if !note_or_miss(failed, guard, Some(pfn..=last)) {
            return;
        }
    }
}

/// The queue of failures, from when the module is loaded until it is unloaded, which waits for it.
pub(crate) struct Queue(());

impl Queue {
    /// Lets failures be [noted](note); [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.init(&NOTED)?;
        let mut entries = KVec::with_capacity(ENTRIES, GFP_KERNEL)?;
        for entry in 0..ENTRIES {
            let worker = Worker::new(entry)?;
            entries.push(Entry { note: None, worker }, GFP_KERNEL)?;
        }
        let queue = WorkQueue::new(c"anon_rmap")?;
        let mut noted = NOTED.lock();
        noted.queue = Some(queue);
        // INVARIANT: No entry has a note.
        noted.entries = entries;
        Ok(Self(()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        NOTED.lock().closing = true;
        for entry in 0..ENTRIES {
            let worker = NOTED.lock().entries.get(entry).map(|p| p.worker.clone());
            if let Some(worker) = worker {
                worker.flush();
            }
        }
        let queue = NOTED.lock().queue.take();
        drop(queue);
        // INVARIANT: There are no entries.
        let entries = mem::take(&mut NOTED.lock().entries);
        drop(entries);
    }
}
