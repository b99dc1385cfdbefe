// SPDX-License-Identifier: GPL-2.0

//! Which page frames hold an [`Anon`].
//!
//! The kernel leaves `private` and `index` of a driver's page to the driver. `private` points to
//! the page's anon, and `index` is that pointer xor a random number drawn at load time: a page that
//! is not ours does not fulfil that relation but with a probability of 2^-64. So the map costs no
//! memory, and a lookup no search.
//!
//! The map's lock makes a lookup safe against the anon being freed: the relation is broken under
//! the lock before the anon's memory is freed, and a lookup takes its reference under the lock.

use crate::anon::Anon;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        aref::ARef,
        global_lock, //
    }, //
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

/// Makes [`lookup`] find `anon` by the frame of `page`.
///
/// # Safety
///
/// `page` must be owned by `anon`, which must be live until [`forget`] has been called.
pub(crate) unsafe fn remember(page: *mut bindings::page, anon: *const Anon) {
    let secret = SECRET.lock();
    // SAFETY: `page` is a page that the anon owns.
    let (private, index) = unsafe { fields(page) };
    // SAFETY: The fields of a page that the driver owns are the driver's; the lock excludes lookups.
    unsafe {
        private.write_volatile(anon as usize);
        index.write_volatile(anon as usize ^ *secret);
    }
}

/// Undoes [`remember`]: afterwards no lookup finds the page's anon.
///
/// # Safety
///
/// `page` must be owned by the anon that it was remembered with.
pub(crate) unsafe fn forget(page: *mut bindings::page) {
    let _secret = SECRET.lock();
    // SAFETY: `page` is a page that the anon owns.
    let (private, index) = unsafe { fields(page) };
    // SAFETY: As in `remember`.
    unsafe {
        private.write_volatile(0);
        index.write_volatile(0);
    }
}

/// The anon in page frame `pfn`, if there is one. Takes O(1), does not sleep.
pub(crate) fn lookup(pfn: u64) -> Option<ARef<Anon>> {
    // SAFETY: Any number is allowed.
    let page = unsafe { bindings::pfn_to_online_page(pfn as usize) };
    if page.is_null() {
        return None;
    }

    let secret = SECRET.lock();
    // SAFETY: `pfn_to_online_page` returned a `struct page`.
    let (private, index) = unsafe { fields(page) };
    // SAFETY: Both are words of a `struct page`. Its owner, if not us, may change them meanwhile;
    // then the relation does not hold.
    let (private, index) = unsafe { (private.read_volatile(), index.read_volatile()) };
    if private == 0 || private ^ index != *secret {
        return None;
    }
    // SAFETY: The relation holds, so the page is remembered with this anon, whose memory is not
    // freed before `forget` has got the lock.
    unsafe { Anon::get_not_zero(private as *const Anon) }
}
