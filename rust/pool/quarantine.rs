// SPDX-License-Identifier: GPL-2.0-only

//! Frames that are out of use: those from which a soft offline has moved the page, and those that have failed.
//!
//! Each has the kernel's mark for bad pages (`HWPOISON`), and in system RAM all that goes with it: `memory_failure()` marks the
//! frame, counts it (`HardwareCorrupted`, the counters of its node), traces and logs it, and keeps a reference;
//! `unpoison_memory()` undoes just that. `memory_failure()` handles pages of files, not those of a driver. So a frame that
//! nobody maps any more is put into the page cache of a file for as long as that takes, as guest_memfd's are all the time.
//!
//! A frame of device memory is only marked: the kernel counts what its own `memory_failure()` asks the driver for, and no
//! function is exported that would take that back.
//!
//! What is out of use stays so when the module is unloaded, in system RAM: the kernel has the frame, and a signature in
//! `private` tells the next module to be loaded that it was one of ours.

use crate::{
    errno::EOPNOTSUPP,
    helpers,
    loading::Loading,
    page::{
        OwnedPage,
        Page, //
    },
    pool::{
        device_memory::DeviceMemory,
        frame,
        reported, //
    }, //
};
use core::{
    fmt,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*,
    sync::{
        global_lock,
        GlobalGuard, //
    }, //
};

global_lock! {
    // SAFETY: Initialised by `Quarantine::new`, before there are pages.
    unsafe(uninit) static MARKING: Mutex<()> = ();
}

/// Why a frame is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A soft offline has moved its page, or it has failed in a drill of the kernel's own.
    Software = helpers::ANON_RMAP_SOFTWARE as isize,
    /// The hardware has failed, or was said to have.
    Hardware = helpers::ANON_RMAP_HARDWARE as isize,
}

impl Kind {
    fn from_raw(kind: c_int) -> Option<Self> {
        [Self::Software, Self::Hardware]
            .into_iter()
            .find(|known| *known as c_int == kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Software => "software",
            Self::Hardware => "hardware",
        })
    }
}

/// Who says that a frame has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A drill, or somebody who wants the frame out of use: the kernel can undo it.
    Software,
    /// The hardware.
    Hardware,
}

/// The frames, from when the module is loaded until it is unloaded.
///
/// # Invariants
///
/// Is dropped when there are no pages any more.
pub(crate) struct Quarantine(());

impl Quarantine {
    /// Makes the functions of this module usable. Looks at all frames of system RAM for those that are out of use already.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        loading.init(&MARKING)?;
        // SAFETY: This is the only call, or `MARKING` would have been initialised before.
        to_result(unsafe {
            helpers::anon_rmap_quarantine_init(
                Some(IS_OWNED),
                Some(BEGIN_OFFLINE),
                Some(END_OFFLINE),
                Some(KEEP_MARKED),
            )
        })?;
        // INVARIANT: By that of `loading`.
        let this = Self(());
        if DeviceMemory::get().is_none() {
            // SAFETY: No requirements.
            unsafe { helpers::anon_rmap_quarantine_add_signed() };
        }
        Ok(this)
    }
}

/// What the C side asks, for any frame, also under its lock.
static IS_OWNED: extern "C" fn(c_ulong) -> bool = is_owned;

extern "C" fn is_owned(pfn: c_ulong) -> bool {
    frame::is_owned(pfn as u64)
}

/// What the C side calls before it lets go of memory, and when that is over.
static BEGIN_OFFLINE: extern "C" fn(c_ulong, c_ulong) -> bool = begin_offline;
static END_OFFLINE: extern "C" fn() = end_offline;

extern "C" fn begin_offline(first: c_ulong, end: c_ulong) -> bool {
    frame::begin_offline(first as u64..end as u64)
}

extern "C" fn end_offline() {
    frame::end_offline();
}

/// What the C side calls for a new page with two references that was marked before it had any.
static KEEP_MARKED: unsafe extern "C" fn(*mut bindings::page) = keep_marked;

/// # Safety
///
/// There must be two references to `page`, which are the callee's.
unsafe extern "C" fn keep_marked(page: *mut bindings::page) {
    // SAFETY: The caller promises that.
    let reference = || unsafe { OwnedPage::from_raw(NonNull::new_unchecked(page.cast())) };
    let (page, _guard) = (reference(), reference());
    // Unless that was undone.
    if page.is_marked() {
        keep(page, Kind::Software, false);
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // SAFETY: `new` has made what is undone here, and by the invariant nobody marks a page any more.
        unsafe { helpers::anon_rmap_quarantine_exit() };
    }
}

/// The right to mark frames and to undo that, one at a time. Comes before all locks.
pub(crate) struct Marking(#[expect(dead_code, reason = "held")] MarkingGuard);

type MarkingGuard = GlobalGuard<MARKING>;

/// Waits until it is the caller's turn. Sleeps.
pub(crate) fn marking() -> Marking {
    Marking(MARKING.lock())
}

/// Marks the frame of `page`, which nobody maps, as bad, with all that the kernel does about such a frame; if it is marked
/// already, only the reference that belongs to the mark is taken. In system RAM, afterwards there is that reference beside the
/// owner's, and no lookup finds its owner before the caller has [remembered](frame::remember) it, or has [given it up](keep): one of which
/// has to follow.
///
/// Sleeps; the caller must hold no lock, and [adds](add) the frame to those out of use.
pub(crate) fn mark(page: &Page, cause: Cause, _marking: &Marking) {
    if DeviceMemory::get().is_some() {
        page.set_mark();
        return;
    }
    let is_simulated = !frame::begin_marking(page) && cause == Cause::Software;
    if !page.is_marked() {
        // SAFETY: The page is the driver's, and no lock is held.
        unsafe { helpers::anon_rmap_mark_bad(page.as_ptr(), is_simulated) };
    } else if !frame::take_claim(page) {
        OwnedPage::into_raw(page.into());
    }
}

/// As [`mark`], but does not wait, and the kernel does not count it.
pub(crate) fn mark_at_once(page: &Page) {
    if DeviceMemory::get().is_none() {
        OwnedPage::into_raw(page.into());
        OwnedPage::into_raw(page.into());
        page.set_uncounted();
    }
    page.set_mark();
}

/// As [`add`], but does not wait for memory: what finds none is counted when the module is loaded again.
/// `value` is the kind, and what is added to it.
fn try_add(pfn: u64, value: u32) {
    // SAFETY: No requirements.
    unsafe { helpers::anon_rmap_quarantine_try_add(pfn as usize, value as c_int) };
}

/// Counts the frame `pfn`, which is marked, among those that are out of use, for as long as its page is an anon's. Sleeps.
pub(crate) fn add(pfn: u64, kind: Kind) {
    // SAFETY: The caller may sleep.
    unsafe { helpers::anon_rmap_quarantine_add(pfn as usize, kind as c_int) };
}

/// Takes the frame of `page`, which is nobody's, out of use. Returns why: for a reason that can be undone, unless the hardware is known to
/// have failed. Sleeps; the caller must hold no lock.
pub(crate) fn quarantine(page: OwnedPage) -> Kind {
    let marking = marking();
    mark(&page, Cause::Software, &marking);
    // So there is room for it, as a rule.
    add(page.pfn(), Kind::Software);
    keep(page, Kind::Software, true)
}

/// Whether the hardware is known to have failed under `page`, which is nobody's.
pub(crate) fn has_failed(page: &Page) -> bool {
    DeviceMemory::get().is_none() && frame::has_failed(page)
}

/// Gives up `page`, whose frame is out of use, in favour of its mark, with `has_reference` if that has its reference already. The kind
/// is the hardware's in any case if that is known to have failed; it is returned.
///
/// Does not reclaim memory.
pub(crate) fn keep(page: OwnedPage, kind: Kind, has_reference: bool) -> Kind {
    if DeviceMemory::get().is_some() {
        // Marked as it is, it is not handed out again.
        try_add(page.pfn(), kind as u32);
        return kind;
    }
    // SAFETY: The page is ours.
    unsafe { helpers::anon_rmap_quarantine_uncharge(page.as_ptr()) };
    let is_uncounted = page.is_uncounted();
    let mut known = kind;
    let new_sign = |has_failed| {
        if has_failed || reported::has(page.pfn()) {
            known = Kind::Hardware;
        }
        sign(value(known, is_uncounted))
    };
    frame::sign(&page, has_reference, new_sign, |value| {
        try_add(page.pfn(), value as u32)
    });
    // The mark has its reference.
    drop(page.take_guard());
    known
}

/// What is known of a frame that is given up.
fn value(kind: Kind, is_uncounted: bool) -> u32 {
    let uncounted = match is_uncounted {
        false => 0,
        true => helpers::ANON_RMAP_UNCOUNTED,
    };
    kind as u32 | uncounted | helpers::ANON_RMAP_GIVEN_UP
}

/// What is in `private` then.
fn sign(value: u32) -> usize {
    helpers::ANON_RMAP_SIGN as usize | value as usize
}

/// The kernel has marked frame `pfn`, in which there is no anon: if its page is of the driver, and still somebody's or about to be an
/// anon's, the mark gets a reference, and the frame is out of use. Does not sleep. To be called by who keeps the kernel from undoing that.
pub(crate) fn claim(pfn: u64) {
    let new_sign = |known: usize| {
        let kind = match known & helpers::ANON_RMAP_HARDWARE as usize {
            0 => Kind::Software,
            _ => Kind::Hardware,
        };
        sign(value(kind, false))
    };
    if let Some(frame) = frame::claim(pfn, new_sign, |value| try_add(pfn, value as u32)) {
        // SAFETY: The page is ours, and the mark, which is not undone now, has a reference.
        unsafe { helpers::anon_rmap_quarantine_uncharge(frame.as_ptr()) };
    }
}

/// Whether nobody has a reference to what is in the frame `pfn`, which is out of use, but its mark.
pub(crate) fn is_unused(pfn: u64) -> bool {
    // SAFETY: Any number is allowed.
    unsafe { helpers::anon_rmap_quarantine_is_unused(pfn as usize) }
}

/// Why the frame `pfn`, which holds no anon, is out of use; `None` if it is in use.
pub(crate) fn kind(pfn: u64) -> Option<Kind> {
    next(pfn)
        .filter(|frame| frame.0 == pfn)
        .map(|frame| frame.1)
}

/// The first frame from `pfn` on that is out of use. Forgets those that the kernel's own `unpoison-pfn` has taken back.
pub(crate) fn next(pfn: u64) -> Option<(u64, Kind)> {
    let mut pfn = pfn as usize;
    // SAFETY: The number is valid for reads and writes.
    let kind = Kind::from_raw(unsafe { helpers::anon_rmap_quarantine_find(&mut pfn) })?;
    Some((pfn as u64, kind))
}

/// How many frames are out of use. Takes the time of looking at each.
pub(crate) fn count() -> u64 {
    let mut count = 0;
    let mut from = Some(0);
    while let Some((pfn, _)) = from.and_then(next) {
        count += 1;
        from = pfn.checked_add(1);
    }
    count
}

/// Takes the frame `pfn`, which holds no anon, into use again.
///
/// # Errors
///
/// * [`ENXIO`]: it is not out of use.
/// * [`EPERM`]: the hardware has failed; or that of any frame of the system has, whereupon the kernel undoes nothing.
/// * [`EBUSY`]: somebody still has a reference.
pub(crate) fn release(pfn: u64) -> Result {
    let _marking = marking();
    let Some(pool) = DeviceMemory::get() else {
        // SAFETY: Any number is allowed, and `_marking` excludes other callers.
        let result = unsafe { helpers::anon_rmap_quarantine_release(pfn as usize) };
        return to_result(result).map_err(why);
    };
    match kind(pfn).ok_or(ENXIO)? {
        Kind::Hardware => Err(EPERM),
        Kind::Software => pool.release(pfn),
    }
}

/// Undoes [`mark`], or what the kernel has done on its own, for the page `page` in system RAM, with its content: there are its
/// owner's reference and that of the mark.
///
/// Sleeps; the caller must hold no lock.
///
/// # Errors
///
/// As for [`release`].
pub(crate) fn unmark(page: &Page, _marking: &Marking) -> Result {
    // SAFETY: The page is valid, and no lock is held.
    to_result(unsafe { helpers::anon_rmap_unmark_bad(page.as_ptr()) }).map_err(why)
}

/// Tells the kernel that the hardware has failed under frame `pfn`, which is marked already: it undoes nothing from then on.
pub(crate) fn tell_hardware_failed(pfn: u64) {
    // SAFETY: Any number is allowed, and the caller may sleep.
    unsafe { bindings::memory_failure(pfn as usize, 0) };
}

/// What an error of `unpoison_memory()` means.
fn why(error: Error) -> Error {
    // It undoes nothing once any hardware has failed.
    if error == EOPNOTSUPP {
        EPERM
    } else {
        error
    }
}

/// Makes it final that the frame `pfn`, which holds no anon, is out of use: its hardware has failed. A page in system RAM that is nobody's,
/// as one that only a pipe has, or that is being marked, remembers it for when it is put out of use. False if the frame is in use otherwise.
pub(crate) fn set_hardware(pfn: u64) -> bool {
    // SAFETY: Any number is allowed.
    let set_if_listed = || unsafe { helpers::anon_rmap_quarantine_set_hardware(pfn as usize) };
    // Not before: what is nobody's can be put out of use right then.
    frame::note_hardware(pfn) || frame::undisturbed(set_if_listed)
}
