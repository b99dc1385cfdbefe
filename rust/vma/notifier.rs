// SPDX-License-Identifier: GPL-2.0-only

//! The mmu notifier: how the driver learns what core mm does to page tables.
//!
//! `MMU_NOTIFY_CLEAR`: core mm announces that it will clear page table entries of a range, clears them, and says that
//! it has: `MADV_DONTNEED`. A driver's file mapping would get the same pages back afterwards; anonymous memory is
//! gone. So faults in the range have to wait from the announcement on, and when the clearing has ended the range is
//! taken out of the amap: not before, since until then page tables map the pages, and somebody who shares them must
//! not find himself alone with them.
//!
//! What is shared memory to the user stays, as in shared anonymous memory, and so does what `mseal()` protects. Faults wait
//! there, too: core mm frees page tables that become empty, and a fault that has made sure of having one must not lose it.
//!
//! Core mm notifies likewise when it looks for a huge page to split on the border of a VMA that it changes, and clears nothing.
//! Then the VMA is locked for writing, and for `MADV_DONTNEED` only for reading.
//!
//! `MMU_NOTIFY_UNMAP`: a VMA is going to be unmapped, or moved by mremap, which so tells how much.
//!
//! `MMU_NOTIFY_SOFT_DIRTY`: `clear_refs` makes entries clean. It spares those of anonymous memory through which a device may be
//! writing, which is pinned, and takes ours for others.
//!
//! All may be called from reclaim, for memory that is not the device's. So nothing is locked before
//! the range is known to be ours, and nothing is allocated that could reclaim.

use super::{
    clearings::Clearing,
    locked::{
        MmWriteLocked,
        VmaOpen, //
    },
    mm_state::{
        MmState,
        Vmas, //
    },
    VmaState, //
};
use crate::{
    anon_vma::family::Sharing,
    helpers,
    index::Pages,
    operations::Operations, //
};
use core::{
    iter::successors,
    ops::Deref, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        from_result, //
    },
    ffi::c_int,
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

/// Our operations, by which core mm also tells our subscription from others'.
static OPS: Operations<bindings::mmu_notifier_ops> = Operations::new(bindings::mmu_notifier_ops {
    alloc_notifier: Some(alloc_notifier),
    free_notifier: Some(free_notifier),
    release: Some(release),
    invalidate_range_start: Some(invalidate_range_start),
    invalidate_range_end: Some(invalidate_range_end),
    ..pin_init::zeroed()
});

/// One VMA's part in the subscription of its address space.
///
/// # Invariants
///
/// Owns one use of the subscription, as counted by core mm.
pub(crate) struct Subscription(Arc<MmState>);

impl Subscription {
    /// Subscribes to the changes of `mm`, or uses the subscription that there is.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`EINTR`] if a signal is pending and the subscription is new.
    pub(super) fn new(mm: MmWriteLocked<'_>) -> Result<Self> {
        // SAFETY: The `mm_struct` has users, and its mmap lock is held for writing.
        let notifier = unsafe { bindings::mmu_notifier_get_locked(OPS.as_ptr(), mm.as_raw()) };
        let notifier = from_err_ptr(notifier)?;
        // SAFETY: A subscription with our operations comes from `MmState::alloc`, and as we
        // have a use of it, it has not been released.
        let mm_state = unsafe { MmState::of_notifier(notifier) };
        // INVARIANT: `mmu_notifier_get_locked` has counted this use.
        let new = Self(mm_state.into());
        // The mmap lock keeps others from doing so at this time.
        if !new.is_kept.load(Relaxed) {
            // SAFETY: The `mm_struct` has users, and its mmap lock is held for writing. The call finds the subscription that there is now.
            let another = unsafe { bindings::mmu_notifier_get_locked(OPS.as_ptr(), mm.as_raw()) };
            from_err_ptr(another)?;
            new.is_kept.store(true, Release);
        }
        Ok(new)
    }

    /// As [`Self::new`], but a pending signal is no reason to fail: for fork, which could not say
    /// so, and mmap, which does not for anonymous memory.
    pub(super) fn new_uninterruptible(mm: MmWriteLocked<'_>) -> Result<Self> {
        let mut hidden = None;
        let result = loop {
            match Self::new(mm) {
                Err(error) if error == EINTR => {
                    // SAFETY: The current task may hide its own signals from itself.
                    let notify = unsafe { helpers::anon_rmap_hide_signals() };
                    hidden = Some(notify || hidden == Some(true));
                }
                result => break result,
            }
        };
        if let Some(notify) = hidden {
            // SAFETY: They were hidden by the current task, above.
            unsafe { helpers::anon_rmap_show_signals(notify) };
        }
        result
    }
}

/// Gives up the use of its subscription that is kept for an address space, if there is one.
fn give_up(mm_state: &MmState) {
    if mm_state.is_kept.xchg(false, Full) {
        // SAFETY: `Subscription::new` has counted a use for this flag, which was taken.
        unsafe { bindings::mmu_notifier_put(mm_state.notifier()) };
    }
}

/// Ends the subscriptions to all address spaces that have mapped the device, when nothing maps it any more and nothing will. Sleeps.
pub(crate) fn end_all() {
    for mm_state in MmState::all() {
        give_up(&mm_state);
    }
    // Who is in `release` has to come to an end, and then what that has given up.
    for _ in 0..2 {
        // SAFETY: No requirements.
        unsafe { bindings::mmu_notifier_synchronize() };
    }
}

impl Deref for Subscription {
    type Target = MmState;

    fn deref(&self) -> &MmState {
        &self.0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: By the invariant one use is ours to give back.
        unsafe { bindings::mmu_notifier_put(self.0.notifier()) };
    }
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.alloc_notifier`.
unsafe extern "C" fn alloc_notifier(mm: *mut bindings::mm_struct) -> *mut bindings::mmu_notifier {
    // SAFETY: Core mm passes an `mm_struct` that is live during the call.
    let mm = unsafe { Mm::from_raw(mm) };
    MmState::alloc(mm).unwrap_or_else(|error| error.to_ptr())
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.free_notifier`.
unsafe extern "C" fn free_notifier(notifier: *mut bindings::mmu_notifier) {
    // SAFETY: Core mm passes what `alloc_notifier` returned, once, and forgets it.
    MmState::release(unsafe { MmState::from_alloc(notifier) });
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.release`.
unsafe extern "C" fn release(notifier: *mut bindings::mmu_notifier, _mm: *mut bindings::mm_struct) {
    // SAFETY: Core mm passes our subscription, which is valid during the call.
    let mm_state = unsafe { MmState::of_notifier(notifier) };
    mm_state.rmap_mm().set_exiting();
    give_up(&mm_state);
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.invalidate_range_start`.
unsafe extern "C" fn invalidate_range_start(
    notifier: *mut bindings::mmu_notifier,
    range: *const bindings::mmu_notifier_range,
) -> c_int {
    // SAFETY: Core mm passes our subscription and a range, both valid during the call.
    let (mm_state, range) = unsafe { (MmState::of_notifier(notifier), &*range) };
    from_result(|| begin(&mm_state, range).map(|()| 0))
}

/// # Errors
///
/// [`EAGAIN`] if core mm must not wait, and it is not certain at once that this is for nothing of ours.
fn begin(mm_state: &MmState, range: &bindings::mmu_notifier_range) -> Result {
    if mm_state.rmap_mm().is_zapped_by_current() {
        return Ok(());
    }
    let event = Event::of(range);
    let (Some(event), Ok(touched)) = (event, Pages::of(range.start..range.end)) else {
        return Ok(());
    };
    if !is_blockable(range) {
        // The OOM reaper, which leaves our VMAs alone.
        return match mm_state.vmas().try_lock() {
            Some(vmas) if vmas.overlapping(touched).next().is_none() => Ok(()),
            _ => Err(EAGAIN),
        };
    }
    match event {
        Event::Unmap => begin_unmapping(&mut mm_state.vmas().lock(), range, touched),
        Event::Clear => begin_clearing(mm_state, range, touched),
    }
    Ok(())
}

/// Makes faults wait in what is going to be cleared, if that is ours.
fn begin_clearing(mm_state: &MmState, range: &bindings::mmu_notifier_range, touched: Pages) {
    let (first, has_begun) = {
        let vmas = mm_state.vmas().lock();
        let Some(first) = ours(&vmas, touched) else {
            return;
        };
        let has_begun = mm_state
            .clearings()
            .try_begin(key(range), touched, first.clone());
        (first, has_begun)
    };
    if !has_begun {
        mm_state
            .clearings()
            .begin(key(range), touched, first.clone());
    }
    for cleared in cleared_from(mm_state, first, touched) {
        let (state, pages) = (cleared.state, cleared.pages);
        // Whoever looked before is through with its page table entry now; whoever looks later waits.
        drop(state.amap().lock());
        if cleared.stays && state.amap().sharing() == Sharing::Private {
            // What the entries say goes with them, and the content stays.
            state.note_soft_dirty(pages);
        }
    }
}

/// # Safety
///
/// To be called by core mm only, as `mmu_notifier_ops.invalidate_range_end`.
unsafe extern "C" fn invalidate_range_end(
    notifier: *mut bindings::mmu_notifier,
    range: *const bindings::mmu_notifier_range,
) {
    // SAFETY: Core mm passes our subscription and a range, both valid during the call.
    let (mm_state, range) = unsafe { (MmState::of_notifier(notifier), &*range) };
    if range.event == bindings::mmu_notifier_event_MMU_NOTIFY_SOFT_DIRTY {
        // SAFETY: `clear_refs_write()` holds the mmap lock for writing.
        let mm = unsafe { MmWriteLocked::from_raw(range.mm) };
        for state in mm_state.states() {
            state.keep_pinned_soft_dirty(mm);
        }
        return;
    }
    end(&mm_state, range);
}

/// Discards what was cleared, and lets faults go on there.
fn end(mm_state: &MmState, range: &bindings::mmu_notifier_range) {
    if Event::of(range) != Some(Event::Clear) || !is_blockable(range) {
        return;
    }
    // What start has noted.
    let Some((clearing, first)) = mm_state.clearings().get(key(range)) else {
        return;
    };
    if let (Clearing::All, Ok(touched)) = (clearing, Pages::of(range.start..range.end)) {
        for cleared in cleared_from(mm_state, first, touched) {
            if !cleared.stays {
                // The pages are freed here, without a lock.
                discard(&cleared.state, cleared.pages);
            }
        }
    }
    mm_state.clearings().end(key(range));
}

/// Whether core mm lets the driver wait.
fn is_blockable(range: &bindings::mmu_notifier_range) -> bool {
    // SAFETY: The range is valid.
    unsafe { helpers::anon_rmap_mmu_notifier_range_blockable(range) }
}

/// What core mm announces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Clear,
    Unmap,
}

impl Event {
    fn of(range: &bindings::mmu_notifier_range) -> Option<Self> {
        match range.event {
            bindings::mmu_notifier_event_MMU_NOTIFY_CLEAR => Some(Self::Clear),
            bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP => Some(Self::Unmap),
            _ => None,
        }
    }
}

/// What a notification is known by from start to end: core mm passes the same range.
fn key(range: &bindings::mmu_notifier_range) -> usize {
    core::ptr::from_ref(range) as usize
}

/// A VMA of the device whose entries core mm is really clearing.
#[derive(Clone)]
pub(super) struct Cleared {
    state: Arc<VmaState>,
    /// Where.
    pages: Pages,
    /// Whether the content stays.
    stays: bool,
}

impl Cleared {
    /// What is being cleared in `range` of the VMA with `state`, which is known to cover `covered`; `None` if nothing is.
    fn new(vmas: &Vmas, state: &Arc<VmaState>, covered: Pages, range: Pages) -> Option<Self> {
        let pages = covered.common(range)?;
        if state.is_write_locked(vmas) || state.is_own_zap(pages) {
            return None;
        }
        Some(Self {
            state: state.clone(),
            pages,
            stays: state.amap().sharing() == Sharing::Shared || state.is_sealed(vmas),
        })
    }

    /// The first in `range`. Core mm holds the mmap lock or the VMA's lock, so the answer stays the same until the clearing has
    /// ended, but for what the VMA is known to have grown by: nothing has been mapped there.
    fn first_in(vmas: &Vmas, range: Pages) -> Option<Self> {
        vmas.overlapping(range)
            .find_map(|(covered, state)| Self::new(vmas, state, covered, range))
    }
}

/// The first VMA of the device whose entries core mm is really clearing in `range`; within, `None` if that is only what one has grown
/// by. `None` if there is none.
fn ours(vmas: &Vmas, range: Pages) -> Option<Option<Cleared>> {
    let mut known = vmas.overlapping(range).peekable();
    if known.peek().is_none() {
        return is_growth(vmas, range).then_some(None);
    }
    known
        .find_map(|(covered, state)| Cleared::new(vmas, state, covered, range))
        .map(Some)
}

/// All in `range`, of which `first` is the first one. Takes the lock of the VMAs between them.
fn cleared_from(
    mm_state: &MmState,
    first: Option<Cleared>,
    range: Pages,
) -> impl Iterator<Item = Cleared> + '_ {
    successors(first, move |before| {
        let rest = range.behind(before.pages)?;
        Cleared::first_in(&mm_state.vmas().lock(), rest)
    })
}

/// Whether one of our VMAs has grown into `pages`, of which none is known to be ours. Core mm holds a lock that keeps a VMA
/// that is there from growing.
fn is_growth(vmas: &Vmas, pages: Pages) -> bool {
    let before = match vmas.by_page.cursor_lower_bound(pages.first()) {
        Some(behind) => behind.peek_prev(),
        None => vmas.by_page.last(),
    };
    let grown = before.and_then(|(_, state)| VmaOpen::of(state, vmas));
    grown.is_some_and(|vma| (vma.range().end >> PAGE_SHIFT) as u64 > pages.first())
}

/// Takes what core mm has cleared of a VMA out of its amap.
fn discard(state: &VmaState, pages: Pages) {
    if let Ok(indices) = state.base().indices(pages.addresses()) {
        let _removed = state.amap().discard(indices);
    }
}

/// Notes what is going to be unmapped or moved.
fn begin_unmapping(vmas: &mut Vmas, range: &bindings::mmu_notifier_range, touched: Pages) {
    for (_, state) in vmas.overlapping(touched) {
        state.rmap_vma().unsettle();
    }
    if let Some(moving) = &mut vmas.moving {
        if moving.moved.is_none() {
            // Core mm may begin before the source, to move whole page tables (`try_realign_addr()`).
            let start = range.start.max(moving.source_start);
            moving.moved = Some(start..range.end);
        }
    }
}
