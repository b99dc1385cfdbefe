// SPDX-License-Identifier: GPL-2.0-only

//! Failures that are handled later, on the driver's own work queue.
//!
//! Who finds a failure can't always handle it: the machine-check decode chain is everybody's, and who
//! copies a page holds locks of a fault. So it is only [noted](note). There are [`PLACES`] for that, so it
//! needs no memory. Each place has a worker of its own: what waits for memory holds up no others.
//!
//! What finds no memory is tried again until it does. A machine check that finds no place is found
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
        Action,
        Door,
        Failure,
        Poison, //
    },
    loading::Loading,
    page::OwnedPage, //
};
use core::{
    mem,
    ops::{
        Deref,
        RangeInclusive, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
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
        self,
        impl_has_delayed_work,
        new_delayed_work,
        DelayedWork,
        WorkItem, //
    }, //
};

/// The failures that can be noted at a time. The array of places takes a page.
const PLACES: usize = 128;

/// How long what has found no memory waits for the next try. It is twice as long each time, but not more
/// often than [`MAX_DOUBLINGS`].
const FIRST_DELAY: Msecs = 100;
const MAX_DOUBLINGS: u32 = 7;

/// A failure that is to be handled.
struct Note {
    failed: Failed,
    /// Keeps the kernel from taking the page for free, which it has marked.
    guard: Option<OwnedPage>,
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
    door: Door,
}

impl Failed {
    /// Whether this is the same failure.
    fn is(&self, other: &Self) -> bool {
        ptr::eq::<Anon>(&*self.anon, &*other.anon) && self.pfn == other.pfn
    }

    /// Handles the failure. [`ENOMEM`]: not yet.
    fn handle(&self) -> Result {
        // What only the kernel says is a drill of its own, unless a machine check comes, too.
        let is_drill = self.door == Door::MemoryFailure && !self.anon.lock().is_failing();
        let failure = Failure {
            kind: match is_drill {
                true => Poison::Simulated,
                false => Poison::Hardware,
            },
            door: self.door,
            action: Action::Optional,
            pfn: Some(self.pfn),
            place: None,
        };
        match poison(&self.anon, failure) {
            Err(error) if error == ENOMEM => Err(error),
            // That it is poisoned already, or has left the frame, is as good.
            _ => Ok(()),
        }
    }

    /// Whether the page is marked, but good: a drill that was undone while it came again.
    fn is_left_over(&self) -> bool {
        let content = self.anon.lock();
        content.pfn() == self.pfn && content.poison().is_none() && content.has_failed()
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

struct Place {
    note: Option<Note>,
    worker: Arc<Worker>,
}

/// Guarded by a lock under which works are queued, too: so one that is to be tried again is waiting
/// before somebody sees that.
///
/// # Invariants
///
/// The work of a place that has a note is queued or runs, and takes the note away when it is done.
struct Places {
    places: KVec<Place>,
    /// What runs the works: nothing is noted without.
    queue: Option<WorkQueue>,
    /// All frames with a machine check that has found no place are in this range, but for those that a
    /// worker is about to note.
    missed: Option<RangeInclusive<u64>>,
    /// Whether nothing is tried again, since the module is being unloaded.
    closing: bool,
}

impl Places {
    const fn new() -> Self {
        // INVARIANT: There are no places.
        Self {
            places: KVec::new(),
            queue: None,
            missed: None,
            closing: false,
        }
    }

    /// Adds `frames` to those that are looked at when a place is free.
    fn miss(&mut self, frames: RangeInclusive<u64>) {
        self.missed = Some(match &self.missed {
            Some(other) => *frames.start().min(other.start())..=*frames.end().max(other.end()),
            None => frames,
        });
    }
}

global_lock! {
    // SAFETY: Initialised by `Queue::new`, which the module calls before anything is noted.
    unsafe(uninit) static NOTED: SpinLock<Places> = Places::new();
}

/// What handles the failure that is noted in a place.
#[pin_data]
struct Worker {
    place: usize,
    #[pin]
    work: DelayedWork<Self>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Worker { self.work }
}

impl Worker {
    fn new(place: usize) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                place,
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
        let place = this.place;
        let noted = {
            let mut noted = NOTED.lock();
            let note = noted.places.get_mut(place).and_then(|p| p.note.as_mut());
            note.map(|note| {
                note.again = false;
                (note.failed.clone(), note.tries)
            })
        };
        let Some((failed, tries)) = noted else {
            return;
        };
        let handled = failed.handle();
        let is_left_over = handled.is_ok() && failed.is_left_over();
        let done;
        let missed;
        {
            let mut noted = NOTED.lock();
            let Places {
                places,
                queue,
                missed: all_missed,
                closing,
            } = &mut *noted;
            let waiting = places.get_mut(place).and_then(|p| p.note.as_mut());
            let queue = queue.as_ref().filter(|_| !*closing);
            if let (Some(waiting), Some(queue)) = (waiting, queue) {
                // It is not queued already, since nobody else queues the work of a place in use.
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
                if waiting.again || is_left_over {
                    let _ = queue.enqueue(this);
                    return;
                }
            }
            // INVARIANT: The work is done, and the note is taken away.
            done = places.get_mut(place).and_then(|p| p.note.take());
            missed = all_missed.take();
        }
        match &done {
            _ if handled.is_err() => failed.give_up(),
            // Its door can be another one by now.
            Some(done) if done.failed.door == Door::MachineCheck => {
                direct_map::finish(&failed.anon, failed.pfn)
            }
            _ => (),
        }
        drop(done);
        if let Some(frames) = missed {
            note_missed(frames);
        }
    }
}

/// Notes that the page of `anon` in frame `pfn` has failed under the hardware; it is handled soon. False
/// if there is no place: a failure found by a copy is not noted then, that of a machine check is handled when there is one.
///
/// Allocates nothing and does not sleep. Nor is it noted if there is no [`Queue`].
pub(super) fn note(anon: &ARef<Anon>, pfn: u64, door: Door) -> bool {
    let missed = (door == Door::MachineCheck).then_some(pfn..=pfn);
    let failed = Failed {
        anon: anon.clone(),
        pfn,
        door,
    };
    note_or_miss(failed, None, missed)
}

/// The same for a page that the kernel has marked; `guard` is a reference to it, which is kept until it is handled, if there is a place.
pub(super) fn note_marked(anon: ARef<Anon>, pfn: u64, guard: OwnedPage) -> bool {
    let failed = Failed {
        anon,
        pfn,
        door: Door::MemoryFailure,
    };
    note_or_miss(failed, Some(guard), Some(pfn..=pfn))
}

/// [Notes](note) the failure, or that there are missed ones in the frames `missed`.
fn note_or_miss(
    failed: Failed,
    mut guard: Option<OwnedPage>,
    missed: Option<RangeInclusive<u64>>,
) -> bool {
    let mut noted = NOTED.lock();
    let mut notes = noted
        .places
        .iter_mut()
        .filter_map(|place| place.note.as_mut());
    if let Some(note) = notes.find(|note| note.failed.is(&failed)) {
        note.again = true;
        if note.guard.is_none() {
            note.guard = guard.take();
        }
        // The kernel calls its `memory_failure()` for a machine check, too, and perhaps before it tells us.
        if failed.door == Door::MachineCheck {
            note.failed.door = failed.door;
        }
        return true;
    }
    let Places { places, queue, .. } = &mut *noted;
    let Some(queue) = queue else {
        return false;
    };
    let Some(place) = places.iter_mut().find(|place| place.note.is_none()) else {
        if let Some(frames) = missed {
            noted.miss(frames);
        }
        return false;
    };
    // INVARIANT: The work is queued below, before anybody else gets the lock.
    place.note = Some(Note {
        failed,
        guard: guard.take(),
        tries: 0,
        again: false,
    });
    // It is not queued already: the place was free.
    let _ = queue.enqueue(place.worker.clone());
    true
}

/// Notes the machine checks in `frames` that have found no place. What finds none again is left to the
/// next worker that is done.
///
/// Takes the time of looking at each of the frames.
fn note_missed(frames: RangeInclusive<u64>) {
    let last = *frames.end();
    for pfn in frames {
        let Some(anon) = anon::lookup(pfn) else {
            continue;
        };
        {
            let content = anon.lock();
            // Or it is handled already, by a worker that may wait for who is stuck.
            if !content.has_failed() || content.poison() == Some(Poison::Hardware) {
                continue;
            }
        }
        let failed = Failed {
            anon,
            pfn,
            door: Door::MachineCheck,
        };
        if !note_or_miss(failed, None, Some(pfn..=last)) {
            return;
        }
    }
}

/// A work queue of our own.
///
/// # Invariants
///
/// Owns the work queue.
struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A work queue may be used and destroyed by any task.
unsafe impl Send for WorkQueue {}

impl WorkQueue {
    /// A queue whose works don't wait for each other; [`ENOMEM`].
    fn new() -> Result<Self> {
        let (name, flags) = (c"anon_rmap".as_char_ptr(), bindings::wq_flags_WQ_UNBOUND);
        // For all places, however many nodes share that.
        let most = bindings::wq_consts_WQ_MAX_ACTIVE as c_int;
        // SAFETY: The format has no conversions.
        let queue = unsafe { bindings::alloc_workqueue_noprof(name, flags, most) };
        // INVARIANT: Nobody else has it.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }
}

impl Deref for WorkQueue {
    type Target = workqueue::Queue;

    fn deref(&self) -> &workqueue::Queue {
        // SAFETY: By the invariant it is there as long as `self` is.
        unsafe { workqueue::Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for WorkQueue {
    /// Waits for what is queued.
    fn drop(&mut self) {
        // SAFETY: By the invariant the queue is ours.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// The queue of failures, from when the module is loaded until it is unloaded, which waits for it.
pub(crate) struct Queue(());

impl Queue {
    /// Lets failures be [noted](note); [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.init(&NOTED)?;
        let mut places = KVec::with_capacity(PLACES, GFP_KERNEL)?;
        for place in 0..PLACES {
            let worker = Worker::new(place)?;
            places.push(Place { note: None, worker }, GFP_KERNEL)?;
        }
        let queue = WorkQueue::new()?;
        let mut noted = NOTED.lock();
        noted.queue = Some(queue);
        // INVARIANT: No place has a note.
        noted.places = places;
        Ok(Self(()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        NOTED.lock().closing = true;
        for place in 0..PLACES {
            let worker = NOTED.lock().places.get(place).map(|p| p.worker.clone());
            if let Some(worker) = worker {
                worker.flush();
            }
        }
        let queue = NOTED.lock().queue.take();
        drop(queue);
        // INVARIANT: There are no places.
        let places = mem::take(&mut NOTED.lock().places);
        drop(places);
    }
}
