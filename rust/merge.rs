// SPDX-License-Identifier: GPL-2.0-only

//! Merging: pages with the same content share a frame.
//!
//! A worker goes through the memory of those who have said that they want it, as ksmd does, and with its words: it looks at
//! [`PAGES_TO_SCAN`] pages, sleeps [`SLEEP_MILLISECS`], and goes on. Off by default. What it has found it keeps in two sets, as ksm does:
//! the frames that are shared, which [`anon::merge`] lists, and the [candidates](scan) of this scan.
//!
//! ksm looks for a page by comparing contents; here sets are ordered by a hash of the content, with a seed that is drawn when the module
//! is loaded. Two pages are compared once, when nobody can write to them any more.

use crate::{
    anon::{
        self,
        content::Rank,
        Anon, //
    },
    anon_vma::rmap_mm::RmapMm,
    detached::{
        Detached,
        Mappings, //
    },
    errno::EHWPOISON,
    index::{
        Index,
        Indices,
        Pages, //
    },
    loading::Loading,
    memory_failure::soft_offline::give_back,
    pool,
    process::{
        self,
        ChargeTo, //
    },
    rmap,
    vma::{
        mm_state::MmState,
        VmaState, //
    },
    work_queue::WorkQueue, //
};
use core::{
    iter::successors,
    mem,
    ops::Range, //
};
use kernel::{
    bindings,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        global_lock,
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta,
        Msecs, //
    },
    workqueue::{
        impl_has_delayed_work,
        new_delayed_work,
        DelayedWork,
        WorkItem, //
    }, //
};
use scan::Scan;

mod scan;

/// How many pages are looked at between two sleeps.
pub(crate) static PAGES_TO_SCAN: Atomic<u32> = Atomic::new(100);

/// How long to sleep.
static SLEEP_MILLISECS: Atomic<u32> = Atomic::new(20);

/// How many pages share a frame at most: so many walks a failure of it takes.
pub(crate) static MAX_PAGE_SHARING: Atomic<u32> = Atomic::new(256);

/// What the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Nothing; what is merged stays so.
    Stop = 0,
    /// It merges.
    Merge = 1,
    /// Nothing, and everybody has got a frame of their own again.
    Unmerge = 2,
}

/// What is chosen, under a lock by which the worker is queued: so who has changed it finds the worker queued, or it does not go on.
struct Chosen {
    run: Run,
    across_families: bool,
    worker: Option<Arc<Worker>>,
    queue: Option<WorkQueue>,
}

impl Chosen {
    /// Queues the worker, to run in so many milliseconds, if it is to merge. It must not be queued.
    fn enqueue(&self, worker: Arc<Worker>, delay: Msecs) {
        if let Some(queue) = self.queue.as_ref().filter(|_| self.run == Run::Merge) {
            let _ = queue.enqueue_delayed(worker, msecs_to_jiffies(delay));
        }
    }
}

global_lock! {
    // SAFETY: Initialised by `Merging::new`, which the module calls before the files are created.
    unsafe(uninit) static CHOSEN: SpinLock<Chosen> = Chosen {
        run: Run::Stop,
        across_families: true,
        worker: None,
        queue: None,
    };
}

global_lock! {
    // SAFETY: Initialised by `Merging::new`, which the module calls before the files are created.
    unsafe(uninit) static CHOOSING: Mutex<()> = ();
}

/// What goes through the memory.
#[pin_data]
struct Worker {
    #[pin]
    work: DelayedWork<Self>,
    #[pin]
    scan: Mutex<Scan>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Worker { self.work }
}

impl WorkItem for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let across_families = {
            let chosen = CHOSEN.lock();
            if chosen.run != Run::Merge {
                return;
            }
            chosen.across_families
        };
        let is_done = this.scan.lock().go_on(scan::Chosen {
            pages: PAGES_TO_SCAN.load(Relaxed),
            across_families,
            most: MAX_PAGE_SHARING.load(Relaxed) as usize,
        });
        let sleep: Msecs = match is_done {
            true => SLEEP_MILLISECS.load(Relaxed),
            false => 0,
        };
        // It is not queued: nobody else does so while it runs.
        CHOSEN.lock().enqueue(this, sleep);
    }
}

impl Worker {
    /// Runs the work now if it sleeps, and waits until it has run. Does nothing if it is not queued.
    fn flush(&self) {
        let work: *const DelayedWork<Self> = &raw const self.work;
        // SAFETY: `DelayedWork` is a transparent wrapper of what is flushed, and was initialised in `new`.
        unsafe { bindings::flush_delayed_work(work.cast_mut().cast()) };
    }
}

/// What the worker does now.
pub(crate) fn run() -> Run {
    CHOSEN.lock().run
}

/// Has the worker do so. Returns when it does nothing else any more, and for [`Run::Unmerge`], when all have left the frames that they
/// shared, but for those that have failed.
///
/// # Errors
///
/// For [`Run::Unmerge`], those of [`leave`] but for [`EHWPOISON`], and [`EBUSY`] if somebody chooses something else meanwhile: some still share
/// frames then.
pub(crate) fn set_run(run: Run) -> Result {
    {
        let _choosing = CHOOSING.lock();
        let (before, worker) = {
            let mut chosen = CHOSEN.lock();
            (mem::replace(&mut chosen.run, run), chosen.worker.clone())
        };
        match worker {
            // It is not queued: who has stopped it has waited for that.
            Some(worker) if run == Run::Merge && before != Run::Merge => {
                CHOSEN.lock().enqueue(worker, 0);
            }
            Some(worker) if run != Run::Merge && before == Run::Merge => {
                worker.flush();
                while !worker.scan.lock().forget_some() {}
                worker.scan.lock().stop();
            }
            _ => (),
        }
    }
    match run {
        Run::Unmerge => unmerge_all(),
        _ => Ok(()),
    }
}

/// How long the worker sleeps, in milliseconds.
pub(crate) fn sleep_millisecs() -> u32 {
    SLEEP_MILLISECS.load(Relaxed)
}

/// Says how long, and wakes it if it sleeps.
pub(crate) fn set_sleep_millisecs(milliseconds: u32) {
    let _choosing = CHOOSING.lock();
    SLEEP_MILLISECS.store(milliseconds, Relaxed);
    let worker = CHOSEN.lock().worker.clone();
    if let Some(worker) = worker {
        worker.flush();
    }
}

/// Whether pages of different families may share a frame.
pub(crate) fn merges_across_families() -> bool {
    CHOSEN.lock().across_families
}

/// Says whether they may; [`EBUSY`] if any pages share one, as [`Run::Unmerge`] ends.
pub(crate) fn set_merge_across_families(across: bool) -> Result {
    let _choosing = CHOOSING.lock();
    let mut chosen = CHOSEN.lock();
    if chosen.across_families == across {
        return Ok(());
    }
    if chosen.run == Run::Merge || anon::merge::first_from(Rank::FIRST).is_some() {
        return Err(EBUSY);
    }
    chosen.across_families = across;
    Ok(())
}

/// Gives all a frame of their own again; errors as those of [`set_run`].
fn unmerge_all() -> Result {
    let mut from = Rank::FIRST;
    while let Some((rank, anon)) = anon::merge::first_from(from) {
        if run() != Run::Unmerge {
            return Err(EBUSY);
        }
        from = match leave(&anon, true) {
            // Others may be left.
            Ok(()) => rank,
            // They stay in it until it is given back.
            Err(error) if error == EHWPOISON => rank.next(),
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// Gives `anon`, if it shares a frame, one of its own; for which the current process pays, or with `holder_pays` somebody who has it. Waits
/// while it is being moved.
///
/// # Errors
///
/// * [`EHWPOISON`]: the page has failed.
/// * [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
/// * [`EINTR`] if the current task is being killed.
fn leave(anon: &Anon, holder_pays: bool) -> Result {
    loop {
        if !anon.is_merged() {
            return Ok(());
        }
        if process::is_current_killed() {
            return Err(EINTR);
        }
        match leave_now(anon, holder_pays) {
            // It is being moved, or has been.
            Err(error) if error == EBUSY || error == ENXIO => fsleep(Delta::from_millis(1)),
            result => return result,
        }
    }
}

/// As [`leave`], but does not wait: [`EBUSY`], and [`ENXIO`] if it has just been moved.
fn leave_now(anon: &Anon, holder_pays: bool) -> Result {
    let page = {
        let holder = holder_pays.then(|| holder(anon)).flatten();
        let _charged = holder.as_ref().map(|mm| ChargeTo::new(mm));
        pool::alloc(GFP_KERNEL_ACCOUNT)?
    };
    let pfn = anon.lock().pfn();
    let (detached, migration) = Detached::new(anon, pfn, Mappings::OfAnon)?;
    let left = give_back(migration.leave(page));
    detached.map_again();
    left
}

/// Somebody who holds `anon`.
fn holder(anon: &Anon) -> Option<Arc<RmapMm>> {
    let mut found = None;
    let _ = rmap::holders_of_one(anon, |mm, _| {
        found = Some(mm.clone());
        Err(EAGAIN)
    });
    found
}

/// Says of the mappings of the current process with bytes in `range` whether their pages may share frames; with `false`, those in the range
/// that do get frames of their own again.
///
/// # Errors
///
/// * [`ENXIO`]: nothing of the device is mapped in the range.
/// * Those of [`leave`] but for [`EHWPOISON`]: such a page stays where it is.
pub(crate) fn set_mergeable(range: Range<usize>, mergeable: bool) -> Result {
    let mm = process::Id::current()?.mm()?;
    let mm_state = MmState::of(&mm).ok_or(ENXIO)?;
    let pages = Pages::of(range)?;
    let in_range = || {
        successors(first_in(&mm_state, Some(pages)), |(covered, _)| {
            first_in(&mm_state, pages.behind(*covered))
        })
    };
    let mut is_found = false;
    for (_, state) in in_range() {
        is_found = true;
        state.amap().set_mergeable(mergeable);
    }
    if !mergeable {
        // What the worker is looking at it has begun to before.
        await_portion();
        let mut before: Option<Arc<VmaState>> = None;
        for (_, state) in in_range() {
            let is_same = |before: &Arc<VmaState>| Arc::ptr_eq(before.amap(), state.amap());
            if !before.as_ref().is_some_and(is_same) {
                forget_scan(&state)?;
            }
            before = Some(state);
        }
        // And what it merges, too.
        await_portion();
        for (covered, state) in in_range() {
            if let Some(part) = covered.common(pages) {
                unmerge(&state, part)?;
            }
        }
    }
    is_found.then_some(()).ok_or(ENXIO)
}

/// Waits until the worker is through with what it is doing.
fn await_portion() {
    let worker = CHOSEN.lock().worker.clone();
    if let Some(worker) = worker {
        drop(worker.scan.lock());
    }
}

/// The first VMA of the device that is known to cover some of `pages`, and what it is known to cover.
fn first_in(mm_state: &MmState, pages: Option<Pages>) -> Option<(Pages, Arc<VmaState>)> {
    let vmas = mm_state.vmas().lock();
    let mut here = vmas.overlapping(pages?);
    here.next().map(|(covered, state)| (covered, state.clone()))
}

/// Calls `f` for each anon that the amap of `state` has at `indices`, without a lock.
///
/// # Errors
///
/// What `f` returns, and [`EINTR`] if the current task is being killed.
fn for_each_anon(state: &VmaState, indices: Indices, mut f: impl FnMut(&Anon) -> Result) -> Result {
    let mut rest = Some(indices);
    while let Some(indices) = rest {
        if process::is_current_killed() {
            return Err(EINTR);
        }
        let next = {
            let slots = state.amap().lock();
            let (first, last) = (indices.first().0, indices.last().0);
            let mut pages = slots.anons.iter_range(first, last);
            pages
                .next()
                .map(|(index, slot)| (Index(index), slot.value.anon()))
        };
        let Some((index, anon)) = next else {
            break;
        };
        f(&anon)?;
        rest = indices.behind(index);
    }
    Ok(())
}

/// Has the scan that is under way take none of the pages of the amap of `state` for one that may be merged. [`EINTR`].
fn forget_scan(state: &VmaState) -> Result {
    for_each_anon(state, Indices::ALL, |anon| {
        anon.scanned.forget();
        Ok(())
    })
}

/// Gives the pages of a VMA at `pages` frames of their own. Errors as those of [`set_mergeable`].
fn unmerge(state: &VmaState, pages: Pages) -> Result {
    let indices = state.base().indices(pages.addresses())?;
    for_each_anon(state, indices, |anon| match leave(anon, false) {
        Err(error) if error == EHWPOISON => Ok(()),
        result => result,
    })
}

/// The scanner, from when the module is loaded until it is unloaded.
pub(crate) struct Merging(());

impl Merging {
    /// Makes the functions of this module usable; [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.init(&CHOSEN)?;
        loading.init(&CHOOSING)?;
        let worker = Arc::pin_init(
            pin_init!(Worker {
                work <- new_delayed_work!("anon_rmap_merge"),
                scan <- new_mutex!(Scan::new(), "anon_rmap_scan"),
            }),
            GFP_KERNEL,
        )?;
        let queue = WorkQueue::new(c"anon_rmap_merge")?;
        let mut chosen = CHOSEN.lock();
        chosen.worker = Some(worker);
        chosen.queue = Some(queue);
        Ok(Self(()))
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        // Nothing is left to be unmerged.
        let _ = set_run(Run::Stop);
        let (worker, queue) = {
            let mut chosen = CHOSEN.lock();
            (chosen.worker.take(), chosen.queue.take())
        };
        drop((worker, queue));
    }
}
