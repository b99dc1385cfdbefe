// SPDX-License-Identifier: GPL-2.0-only

//! Which page frames are in use, and whose they are.
//!
//! The kernel leaves `private` and `index` of a driver's page to the driver. `private` names
//! the page's owner, as its pointer does, and `index` is that xor a random number drawn at load time: a page that
//! is not ours does not fulfil that relation but with a probability of 2^-64. So the map costs no
//! memory, and a lookup no search.
//!
//! The map's lock makes a lookup safe against the owner being freed: the relation is broken under
//! the lock before the owner's memory is freed, and a lookup takes its reference under the lock.
//!
//! The kernel can mark a page of ours as bad at any time, takes no reference, and drops one when it undoes that. An owner sees to it
//! that the mark gets one. A page in system RAM that has none says that it is nobody's: then who hears of the mark [claims](claim) a
//! reference for it, and signs the frame as one that is out of use. The allocator clears `private` of a page that is freed, unless it is
//! marked.
//!
//! While the kernel marks a page at the driver's request, see [`begin_marking`], both words are the kernel's.

use super::device_memory::DeviceMemory;
use crate::{
    helpers,
    loading::Loading,
    page::{
        Frame,
        OwnedPage,
        Page, //
    }, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        global_lock,
        GlobalGuard, //
    }, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static MAP: SpinLock<Guarded> = Guarded { marking: None };
}

/// What the map's lock guards besides the words of the frames.
struct Guarded {
    marking: Option<BeingMarked>,
}

/// The page that the kernel marks just now.
struct BeingMarked {
    pfn: u64,
    /// Whether the hardware is known to have failed.
    has_failed: bool,
}

impl Guarded {
    /// What the kernel marks just now, if that is frame `pfn`.
    fn being_marked(&mut self, pfn: u64) -> Option<&mut BeingMarked> {
        self.marking.as_mut().filter(|marking| marking.pfn == pfn)
    }

    /// Ends [`begin_marking`] if that was for frame `pfn`; whether the hardware is known to have failed under it since.
    fn end_marking(&mut self, pfn: u64) -> bool {
        let has_failed = self.being_marked(pfn).map(|marking| marking.has_failed);
        if has_failed.is_some() {
            self.marking = None;
        }
        has_failed.unwrap_or(false)
    }
}

/// Evidence of the map's lock.
type Map = GlobalGuard<MAP>;

/// The number that is drawn at load time.
static SECRET: Atomic<usize> = Atomic::new(0);

/// The frame `pfn`, if it is one of those that the pool can own.
fn frame_at(pfn: u64) -> Option<&'static Frame> {
    if let Some(pool) = DeviceMemory::get() {
        return pool.frame(pfn);
    }
    // SAFETY: Any number is allowed.
    let page = unsafe { bindings::pfn_to_online_page(pfn as usize) };
    // SAFETY: It is null or a `struct page`. As all who look at memory by its number we rely on it that these stay when memory
    // goes offline.
    unsafe { Frame::from_raw(page) }
}

/// Draws the secret. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&MAP)?;
    // SAFETY: No requirements.
    SECRET.store(unsafe { bindings::get_random_u64() } as usize, Relaxed);
    Ok(())
}

/// The two words of a frame that are the driver's if the page in it is: `private` and `index`.
fn words(frame: &Frame) -> (*mut usize, *mut usize) {
    let page = frame.as_ptr();
    // SAFETY: The words are within the `struct page`.
    let words = unsafe { &raw mut (*page).__bindgen_anon_1.__bindgen_anon_1 };
    // SAFETY: So is this one.
    let private = unsafe { &raw mut (*words).private };
    // SAFETY: And this one.
    let index = unsafe { &raw mut (*words).__bindgen_anon_2 };
    (private.cast(), index.cast())
}

/// Writes what `page` is remembered with: the address of its owner.
fn write_owner(page: &Page, owner: usize, map: &Map) {
    write(page, owner, owner ^ SECRET.load(Relaxed), map);
}

fn write(page: &Page, private: usize, index: usize, _map: &Map) {
    let words = words(page);
    // SAFETY: By the page's invariant the words are the driver's; the lock excludes lookups.
    unsafe {
        words.0.write_volatile(private);
        words.1.write_volatile(index);
    }
}

/// What `private` of `frame` is.
fn private(frame: &Frame) -> usize {
    // SAFETY: It is a word of a `struct page`. Its owner, if not us, may change it meanwhile.
    unsafe { words(frame).0.read_volatile() }
}

const VALUE: usize = helpers::ANON_RMAP_VALUE_MASK as usize;

/// Whether `private` says that the frame is out of use.
fn is_sign(private: usize) -> bool {
    private & !VALUE == helpers::ANON_RMAP_SIGN as usize
}

/// Whether `private` says that the page is nobody's, in system RAM. What is known of it is in its low bits.
fn is_nobodys(private: usize) -> bool {
    private & !VALUE == helpers::ANON_RMAP_NOBODYS as usize
}

/// Whether `private` of a page that is nobody's says that it waits for its first reference.
fn is_waiting(private: usize) -> bool {
    private & helpers::ANON_RMAP_WAITING as usize != 0
}

/// Whether `private`, of a page that no anon has, says that the hardware has failed.
fn is_hardware(private: usize) -> bool {
    (is_sign(private) || is_nobodys(private)) && private & helpers::ANON_RMAP_HARDWARE as usize != 0
}

/// What `private` of a page is that is nobody's.
fn nobodys() -> usize {
    match DeviceMemory::get() {
        // It tells the driver itself of marks there.
        Some(_) => 0,
        None => helpers::ANON_RMAP_NOBODYS as usize,
    }
}

/// What the page in `frame` is remembered with; `None` if it is not.
fn owner(frame: &Frame) -> Option<NonNull<c_void>> {
    let (private, index) = words(frame);
    // SAFETY: Both are words of a `struct page`. Its owner, if not us, may change them meanwhile;
    // then the relation does not hold.
    let (private, index) = unsafe { (private.read_volatile(), index.read_volatile()) };
    NonNull::new(private as *mut c_void).filter(|_| private ^ index == SECRET.load(Relaxed))
}

/// Whether frame `pfn` is of the device memory, or its page is [remembered](remember). Takes no lock: it may change at once.
pub(super) fn is_owned(pfn: u64) -> bool {
    frame_at(pfn).is_some_and(|frame| DeviceMemory::get().is_some() || owner(frame).is_some())
}

/// A full memory barrier. That of [`kernel::sync`] takes an argument since Linux 7.3.
pub(crate) fn smp_mb() {
    // SAFETY: No requirements.
    unsafe { bindings::smp_mb() }
}

/// The frames that are about to go offline, from the first number to that behind the last: nobody begins to use one of these.
static LEAVING: (Atomic<u64>, Atomic<u64>) = (Atomic::new(0), Atomic::new(0));

/// Whether the driver can do without `frames` from now on, and does. One range at a time.
pub(super) fn begin_offline(mut frames: Range<u64>) -> bool {
    LEAVING.0.store(frames.start, Relaxed);
    LEAVING.1.store(frames.end, Relaxed);
    // Pairs with a new page having references before anybody asks whether it is leaving: one that is missed here is given back.
    smp_mb();
    let can_go = !frames.any(is_in_use);
    if !can_go {
        end_offline();
    }
    can_go
}

/// Ends [`begin_offline`]: the frames have gone, or stay.
pub(super) fn end_offline() {
    LEAVING.1.store(0, Relaxed);
}

/// Whether `page`, which is new, must be given back.
pub(super) fn is_leaving(page: &Page) -> bool {
    let end = LEAVING.1.load(Relaxed);
    end > 0 && (LEAVING.0.load(Relaxed)..end).contains(&page.pfn())
}

/// Whether the driver has still to do with what is in frame `pfn`: its `struct page` has to stay. What is only [signed](sign) is used when
/// there are references beside that of the mark.
fn is_in_use(pfn: u64) -> bool {
    let Some(frame) = frame_at(pfn) else {
        return false;
    };
    if DeviceMemory::get().is_some() {
        return true;
    }
    let mut map = MAP.lock();
    if map.being_marked(pfn).is_some() || owner(frame).is_some() {
        return true;
    }
    let private = private(frame);
    if is_sign(private) {
        return frame.count() > marks_references(private & VALUE);
    }
    // One that was freed when it was marked goes on to say so.
    is_nobodys(private) && (frame.count() > 0 || is_waiting(private))
}

/// Whether the page in frame `pfn` is an anon's, or may be on its way to one or from one. Takes no lock: it may change at once.
#[cfg(CONFIG_X86)]
pub(crate) fn is_ours(pfn: u64) -> bool {
    frame_at(pfn).is_some_and(|frame| {
        let private = private(frame);
        // One that was freed when it was marked goes on to say that it is nobody's.
        let is_there = || frame.count() > 0 || !frame.is_marked() || is_waiting(private);
        owner(frame).is_some() || is_nobodys(private) && is_there()
    })
}

/// The references that belong to the mark of a frame with a sign of that value.
fn marks_references(value: usize) -> c_int {
    match value & helpers::ANON_RMAP_UNCOUNTED as usize {
        0 => 1,
        _ => 2,
    }
}

/// Makes [`with_owner`] find `owner` by the frame of `page`, and ends [`begin_marking`]. Whether the hardware has failed under it when it was
/// nobody's, or was being marked.
///
/// # Safety
///
/// `page` must be owned by what `owner` names, which must be live until [`forget`] has been called, or this for another one.
pub(crate) unsafe fn remember(page: &Page, owner: NonNull<c_void>) -> bool {
    let (before, has_failed);
    {
        let mut map = MAP.lock();
        before = private(page);
        has_failed = map.end_marking(page.pfn()) || is_hardware(before);
        write_owner(page, owner.addr().get(), &map);
    }
    if is_sign(before) {
        // SAFETY: `claim` has left it to whom the page belongs.
        Page::leave_guard(unsafe { OwnedPage::from_raw(NonNull::from(page)) });
    }
    has_failed
}

/// Undoes [`remember`]: afterwards no lookup finds the page's owner.
pub(crate) fn forget(page: &Page) {
    write(page, nobodys(), 0, &MAP.lock());
}

/// The kernel is about to mark `page`, which is in system RAM: until it is [remembered](remember) or [signed](sign), no lookup finds its owner.
/// What is known of it, or [noted](note_hardware) meanwhile, is not lost, and it [is in use](is_in_use). Whether the hardware is known to have
/// failed already. One page at a time.
pub(super) fn begin_marking(page: &Page) -> bool {
    let mut map = MAP.lock();
    if owner(page).is_some() {
        write(page, nobodys(), 0, &map);
    }
    let has_failed = is_hardware(private(page));
    map.marking = Some(BeingMarked {
        pfn: page.pfn(),
        has_failed,
    });
    has_failed
}

/// Whether the hardware is known to have failed under `page`, which is nobody's.
pub(super) fn has_failed(page: &Page) -> bool {
    is_hardware(private(page))
}

/// Makes a new page one of ours that is nobody's yet. Two references to it: with the second one the kernel leaves alone what it has
/// marked while nobody had any. `None` if it is marked: it is [kept](super::quarantine::keep) a moment later.
///
/// # Safety
///
/// `page` must be new, and without a reference.
pub(super) unsafe fn begin(page: NonNull<bindings::page>) -> Option<(OwnedPage, OwnedPage)> {
    // SAFETY: It is a `struct page`.
    let frame = unsafe { Frame::from_raw(page.as_ptr()) }?;
    // SAFETY: By the requirement the word is the driver's. Nobody has been told of the page.
    unsafe { words(frame).0.write_volatile(nobodys()) };
    // SAFETY: By the requirement nobody has a reference.
    if !unsafe { helpers::anon_rmap_page_begin(page.as_ptr()) } {
        return None;
    }
    // SAFETY: It is ours, and has two references now.
    let reference = || unsafe { OwnedPage::from_raw(page.cast()) };
    Some((reference(), reference()))
}

/// Replaces what is known of the page in frame `pfn`, if that is nobody's, by what `change` makes of it: the word that `private` becomes.
/// If that says that the frame is out of use, the page gets a reference, and `list` is called under the map's lock. Does not sleep, nor may
/// these. Returns what is in the frame if it was changed.
fn change_nobodys(
    pfn: u64,
    change: impl FnOnce(usize) -> usize,
    list: impl FnOnce(usize),
) -> Option<&'static Frame> {
    let frame = frame_at(pfn).filter(|frame| is_nobodys(private(frame)))?;
    // SAFETY: It is a `struct page`.
    if !unsafe { helpers::anon_rmap_get_page_unless_zero(frame.as_ptr()) } {
        return None;
    }
    let (mut is_changed, mut is_kept) = (false, false);
    {
        let mut map = MAP.lock();
        let before = private(frame);
        // Or it has been freed, and is somebody else's.
        if is_nobodys(before) {
            let now = change(before & VALUE);
            // Not `index`: the page can be on its way into a page cache, to be marked; who takes it there does so without the lock.
            // SAFETY: It is a word of a page of ours, nothing else is marked so; who may change it meanwhile does so atomically.
            let word = unsafe { Atomic::from_ptr(words(frame).0) };
            is_changed = word.cmpxchg(before, now, Full).is_ok();
            is_kept = is_changed && is_sign(now);
            if is_kept {
                list(now & VALUE);
            }
            // Who marks the page has looked at the word already.
            if let Some(marking) = map.being_marked(pfn).filter(|_| is_hardware(now)) {
                marking.has_failed = true;
            }
        }
    }
    if !is_kept {
        // SAFETY: The reference was taken above.
        unsafe { helpers::anon_rmap_put_page(frame.as_ptr()) };
    }
    is_changed.then_some(frame)
}

/// Takes a reference for the kernel's mark of frame `pfn`, if there is a page of ours that is nobody's, and makes `private` the sign that
/// says so: that of `sign`, which is given the kind as a number if that is known already, or 0. `list` is given the sign's value then, under
/// the map's lock. Does not sleep, nor may these. Returns what is in the frame, if there is such a page.
pub(super) fn claim(
    pfn: u64,
    sign: impl FnOnce(usize) -> usize,
    list: impl FnOnce(usize),
) -> Option<&'static Frame> {
    change_nobodys(pfn, sign, list)
}

/// Has the page in frame `pfn`, if it is nobody's, remember that the hardware has failed, for who [claims](claim), [remembers](remember) or
/// [signs](sign) it; false if it is somebody's.
pub(super) fn note_hardware(pfn: u64) -> bool {
    let with_hardware = |_| nobodys() | helpers::ANON_RMAP_HARDWARE as usize;
    let note_if_marked = || match MAP.lock().being_marked(pfn) {
        Some(marking) => {
            marking.has_failed = true;
            true
        }
        None => false,
    };
    // It may be on its way from the one to the other.
    note_if_marked() || change_nobodys(pfn, with_hardware, |_| ()).is_some() || note_if_marked()
}

/// What `f` returns, while nobody [claims](claim) or [signs](sign) a frame. It may not sleep.
pub(crate) fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    let _map = MAP.lock();
    f()
}

/// Whether the mark of `page`, which is nobody's, has [claimed](claim) its reference; that is the caller's to know then. To be asked
/// while it is [marked](begin_marking), which keeps what else was known.
pub(super) fn take_claim(page: &Page) -> bool {
    let map = MAP.lock();
    let is_claimed = is_sign(private(page));
    if is_claimed {
        write(page, nobodys(), 0, &map);
    }
    is_claimed
}

/// Makes `private` of `page`, which is given up, the sign that says so, and sees to it that the kernel's mark has one reference:
/// `has_reference` if it has already, but for one that it may have [claimed](claim). Ends [`begin_marking`].
///
/// `sign` is told whether the hardware is known to have failed since, and `list` the sign's value, both under the map's lock.
pub(super) fn sign(
    page: &Page,
    has_reference: bool,
    sign: impl FnOnce(bool) -> usize,
    list: impl FnOnce(usize),
) {
    let is_claimed;
    {
        let mut map = MAP.lock();
        let before = private(page);
        is_claimed = is_sign(before);
        if !has_reference && !is_claimed {
            OwnedPage::into_raw(page.into());
        }
        let sign = sign(map.end_marking(page.pfn()) || is_hardware(before));
        write(page, sign, 0, &map);
        list(sign & VALUE);
    }
    if has_reference && is_claimed {
        // SAFETY: One is enough.
        drop(unsafe { OwnedPage::from_raw(NonNull::from(page)) });
    }
}

/// What `f` makes of the page in frame `pfn` and of what it was [remembered](remember) with, if it was; until `f` returns, that
/// is not [forgotten](forget), and `f` may not sleep. Takes O(1).
pub(crate) fn with_owner<R>(
    pfn: u64,
    f: impl FnOnce(&Page, NonNull<c_void>) -> Option<R>,
) -> Option<R> {
    let frame = frame_at(pfn)?;
    let _map = MAP.lock();
    let owner = owner(frame)?;
    // SAFETY: Who has remembered the page promised that it is the owner's until it is forgotten, which the lock excludes.
    f(unsafe { Page::in_frame(frame) }, owner)
}
