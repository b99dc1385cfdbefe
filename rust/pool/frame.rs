// SPDX-License-Identifier: GPL-2.0-only

//! Which page frames are in use, and whose they are.
//!
//! The kernel leaves `private` and `index` of a driver's page to the driver. `private` points to
//! the page's owner, and `index` is that pointer xor a random number drawn at load time: a page that
//! is not ours does not fulfil that relation but with a probability of 2^-64. So the map costs no
//! memory, and a lookup no search.
//!
//! The map's lock makes a lookup safe against the owner being freed: the relation is broken under
//! the lock before the owner's memory is freed, and a lookup takes its reference under the lock.

use super::frame_at;
use crate::{
    loading::Loading,
    page::{
        Frame,
        Page, //
    }, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    ffi::c_void,
    prelude::*,
    sync::{
        global_lock,
        GlobalGuard, //
    }, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static SECRET: SpinLock<usize> = 0;
}

/// Evidence of the map's lock.
type Secret = GlobalGuard<SECRET>;

/// Draws the secret. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&SECRET)?;
    // SAFETY: No requirements.
    *SECRET.lock() = unsafe { bindings::get_random_u64() } as usize;
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

/// Writes what `page` is remembered with: the address of its owner, or 0 for nothing.
fn write(page: &Page, owner: usize, secret: &Secret) {
    let (private, index) = words(page);
    let check = if owner == 0 { 0 } else { owner ^ **secret };
    // SAFETY: By the page's invariant the words are the driver's; the lock excludes lookups.
    unsafe {
        private.write_volatile(owner);
        index.write_volatile(check);
    }
}

/// The page in `frame` and what it is remembered with; `None` if it is not.
fn read<'a>(frame: &'a Frame, secret: &Secret) -> Option<(&'a Page, NonNull<c_void>)> {
    let (private, index) = words(frame);
    // SAFETY: Both are words of a `struct page`. Its owner, if not us, may change them meanwhile;
    // then the relation does not hold.
    let (private, index) = unsafe { (private.read_volatile(), index.read_volatile()) };
    let owner = NonNull::new(private as *mut c_void).filter(|_| private ^ index == **secret)?;
    // SAFETY: Who has remembered the page promised that it is the owner's until it is forgotten, which the lock excludes.
    Some((unsafe { Page::in_frame(frame) }, owner))
}

/// Makes [`with_owner`] find `owner` by the frame of `page`.
///
/// # Safety
///
/// `page` must be owned by `owner`, which must be live until [`forget`] has been called. All owners must be of one type.
pub(crate) unsafe fn remember<T>(page: &Page, owner: &T) {
    write(page, ptr::from_ref(owner) as usize, &SECRET.lock());
}

/// Undoes [`remember`]: afterwards no lookup finds the page's owner.
pub(crate) fn forget(page: &Page) {
    write(page, 0, &SECRET.lock());
}

/// What `f` makes of the page in frame `pfn` and of what it was [remembered](remember) with, if it was; until `f` returns, that
/// is not [forgotten](forget), and `f` may not sleep. Takes O(1).
pub(crate) fn with_owner<R>(
    pfn: u64,
    f: impl FnOnce(&Page, NonNull<c_void>) -> Option<R>,
) -> Option<R> {
    let frame = frame_at(pfn)?;
    let secret = SECRET.lock();
    let (page, owner) = read(frame, &secret)?;
    f(page, owner)
}
