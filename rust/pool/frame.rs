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

use crate::pool;
use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::c_void,
    prelude::*,
    sync::global_lock, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static SECRET: SpinLock<usize> = 0;
}

/// Draws the secret.
///
/// # Safety
///
/// Must be called exactly once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller promises that this is the only call.
    unsafe { SECRET.init() };
    // SAFETY: No requirements.
    *SECRET.lock() = unsafe { bindings::get_random_u64() } as usize;
}

/// The two fields of `page` that are the driver's: `(private, index)`.
///
/// # Safety
///
/// `page` must point to a `struct page`. The fields may be in use by somebody else, so the result
/// must not be turned into a reference.
unsafe fn fields(page: *mut bindings::page) -> (*mut usize, *mut usize) {
    // SAFETY: The caller promises that `page` points to a `struct page`.
    unsafe {
        let words = &raw mut (*page).__bindgen_anon_1.__bindgen_anon_1;
        (
            (&raw mut (*words).private).cast(),
            (&raw mut (*words).__bindgen_anon_2.__folio_index).cast(),
        )
    }
}

/// Writes what `page` is remembered with: the address of its owner, or 0 for nothing.
///
/// # Safety
///
/// `page` must be a page that the driver owns; `secret` is guarded by the map's lock.
unsafe fn write(page: *mut bindings::page, owner: usize, secret: &usize) {
    // SAFETY: The caller promises that this is a page.
    let (private, index) = unsafe { fields(page) };
    let check = if owner == 0 { 0 } else { owner ^ *secret };
    // SAFETY: The fields of a page that the driver owns are the driver's; the lock excludes lookups.
    unsafe {
        private.write_volatile(owner);
        index.write_volatile(check);
    }
}

/// What `page` is remembered with; 0 if it is not.
///
/// # Safety
///
/// `page` must point to a `struct page`; `secret` is guarded by the map's lock.
unsafe fn read(page: *mut bindings::page, secret: &usize) -> usize {
    // SAFETY: The caller promises that this is a page.
    let (private, index) = unsafe { fields(page) };
    // SAFETY: Both are words of a `struct page`. Its owner, if not us, may change them meanwhile;
    // then the relation does not hold.
    let (private, index) = unsafe { (private.read_volatile(), index.read_volatile()) };
    if private ^ index == *secret {
        private
    } else {
        0
    }
}

/// Makes [`with_owner`] find `owner` by the frame of `page`.
///
/// # Safety
///
/// `page` must be owned by `owner`, which must be live until [`forget`] has been called. All owners must be of one type.
pub(crate) unsafe fn remember<T>(page: *mut bindings::page, owner: *const T) {
    // SAFETY: `page` is a page that the owner owns.
    unsafe { write(page, owner as usize, &SECRET.lock()) };
}

/// Undoes [`remember`]: afterwards no lookup finds the page's owner.
///
/// # Safety
///
/// `page` must be owned by the owner that it was remembered with.
pub(crate) unsafe fn forget(page: *mut bindings::page) {
    // SAFETY: `page` is a page that the owner owns.
    unsafe { write(page, 0, &SECRET.lock()) };
}

/// What `f` makes of page frame `pfn` and of what it was [remembered](remember) with, if it was; until `f` returns, that is not
/// [forgotten](forget), and `f` may not sleep. Takes O(1).
pub(crate) fn with_owner<R>(
    pfn: u64,
    f: impl FnOnce(NonNull<bindings::page>, NonNull<c_void>) -> Option<R>,
) -> Option<R> {
    let page = pool::page(pfn)?;
    let secret = SECRET.lock();
    // SAFETY: `page` is one, and the lock is held.
    let owner = unsafe { read(page.as_ptr(), &secret) };
    f(page, NonNull::new(owner as *mut c_void)?)
}
