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
        content::Key,
        Anon, //
    },
    anon_vma::rmap_mm::RmapMm,
    detached::{
        Detached,
        Mappings, //
    },
    index::{
        Index,
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
    }, //
};
use core::{
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
use scan::Scan;

mod scan;

/// How many pages are looked at between two sleeps.
pub(crate) static PAGES_TO_SCAN: Atomic<u32> = Atomic::new(100);

/// How long to sleep.
pub(crate) static SLEEP_MILLISECS: Atomic<u32> = Atomic::new(20);

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
}

global_lock! {
    // SAFETY: Initialised by `Merging::new`, which the module calls before the files are created.
    unsafe(uninit) static CHOSEN: SpinLock<Chosen> = Chosen {
        run: Run::Stop,
        across_families: true,
        worker: None,
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
        let is_done = this
            .scan
            .lock()
            .go_on(PAGES_TO_SCAN.load(Relaxed), across_families);
        let sleep: Msecs = match is_done {
            true => SLEEP_MILLISECS.load(Relaxed),
            false => 0,
        };
        let chosen = CHOSEN.lock();
        if chosen.run == Run::Merge {
            // It is not queued: nobody else does so while it runs.
            let _ = workqueue::system_unbound().enqueue_delayed(this, msecs_to_jiffies(sleep));
        }
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
/// For [`Run::Unmerge`], [`ENOMEM`], and [`EINTR`] if the current task is being killed: some still share frames then.
pub(crate) fn set_run(run: Run) -> Result {
    let _choosing = CHOOSING.lock();
    let (before, worker) = {
        let mut chosen = CHOSEN.lock();
        let before = mem::replace(&mut chosen.run, run);
        if run == Run::Merge && before != Run::Merge {
            if let Some(worker) = &chosen.worker {
                // It is not queued: who has stopped it has waited for that.
                let _ = workqueue::system_unbound().enqueue_delayed(worker.clone(), 0);
            }
        }
        (before, chosen.worker.clone())
    };
    let Some(worker) = worker else {
        return Ok(());
    };
    if run != Run::Merge && before == Run::Merge {
        worker.flush();
        worker.scan.lock().stop();
    }
    match run {
        Run::Unmerge => unmerge_all(),
        _ => Ok(()),
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
    if chosen.run == Run::Merge || anon::merge::first_from(Key::FIRST).is_some() {
        return Err(EBUSY);
    }
    chosen.across_families = across;
    Ok(())
}

/// Gives all a frame of their own again; errors as those of [`set_run`].
fn unmerge_all() -> Result {
    let mut from = Some(Key::FIRST);
    while let Some((key, anon)) = from.and_then(anon::merge::first_from) {
        from = match leave(&anon) {
            // Others may be left.
            Ok(()) => Some(key),
            Err(error) if error == ENOMEM || error == EINTR => return Err(error),
            // It has failed, or is moving.
            Err(_) => key.next(),
        };
    }
    Ok(())
}

/// Gives `anon`, if it shares a frame, one of its own, which is charged to somebody who holds it.
///
/// # Errors
///
/// * [`EHWPOISON`]: the page has failed.
/// * [`EBUSY`]: it is being moved.
/// * [`ENOMEM`]; [`EINTR`] if the current task is being killed.
fn leave(anon: &Anon) -> Result {
    if process::is_current_killed() {
        return Err(EINTR);
    }
    if !anon.is_merged() {
        return Ok(());
    }
    let page = {
        let holder = holder(anon);
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
    let _ = rmap::holders(anon, |mm, _, _| {
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
/// * Those of [`set_run`].
pub(crate) fn set_mergeable(range: Range<usize>, mergeable: bool) -> Result {
    let mm = process::Id::current()?.mm()?;
    let mm_state = MmState::of(&mm).ok_or(ENXIO)?;
    let mut rest = Some(Pages::of(range)?);
    let mut is_found = false;
    while let Some(pages) = rest {
        let next = {
            let vmas = mm_state.vmas().lock();
            let mut here = vmas.overlapping(pages);
            here.next().map(|(covered, state)| (covered, state.clone()))
        };
        let Some((covered, state)) = next else {
            break;
        };
        is_found = true;
        state.amap().set_mergeable(mergeable);
        if let Some(part) = covered.common(pages).filter(|_| !mergeable) {
            unmerge(&state, part)?;
        }
        rest = pages.behind(covered);
    }
    is_found.then_some(()).ok_or(ENXIO)
}

/// Gives the pages of a VMA at `pages` frames of their own; errors as those of [`set_run`].
fn unmerge(state: &VmaState, pages: Pages) -> Result {
    let mut rest = Some(state.base().indices(pages.addresses())?);
    while let Some(indices) = rest {
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
        match leave(&anon) {
            Err(error) if error == ENOMEM || error == EINTR => return Err(error),
            _ => (),
        }
        rest = indices.behind(index);
    }
    Ok(())
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
        CHOSEN.lock().worker = Some(worker);
        Ok(Self(()))
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        // Nothing is left to be unmerged.
        let _ = set_run(Run::Stop);
        let worker = CHOSEN.lock().worker.take();
        drop(worker);
    }
}
