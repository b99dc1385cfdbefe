// SPDX-License-Identifier: GPL-2.0-only

//! Which page frames hold an [`Anon`].
//!
//! The kernel leaves `private` and `index` of a driver's page to the driver. `private` points to
//! the page's anon, and `index` is that pointer xor a random number drawn at load time: a page that
//! is not ours does not fulfil that relation but with a probability of 2^-64. So the map costs no
//! memory, and a lookup no search.
//!
//! The map's lock makes a lookup safe against the anon being freed: the relation is broken under
//! the lock before the anon's memory is freed, and a lookup takes its reference under the lock.

use crate::{
    anon::Anon,
    helpers,
    pool::{
        self,
        OwnedPage, //
    }, //
};
use core::ptr::NonNull;
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

/// Writes what `page` is remembered with: the address of an anon, or 0 for nothing.
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

/// Makes [`lookup`] find `anon` by the frame of `page`.
///
/// # Safety
///
/// `page` must be owned by `anon`, which must be live until [`forget`] has been called.
pub(crate) unsafe fn remember(page: *mut bindings::page, anon: *const Anon) {
    // SAFETY: `page` is a page that the anon owns.
    unsafe { write(page, anon as usize, &SECRET.lock()) };
}

/// Undoes [`remember`]: afterwards no lookup finds the page's anon.
///
/// # Safety
///
/// `page` must be owned by the anon that it was remembered with.
pub(crate) unsafe fn forget(page: *mut bindings::page) {
    // SAFETY: `page` is a page that the anon owns.
    unsafe { write(page, 0, &SECRET.lock()) };
}

/// The anon in page frame `pfn`, if there is one. Takes O(1), does not sleep.
pub(crate) fn lookup(pfn: u64) -> Option<ARef<Anon>> {
    let page = pool::page(pfn)?;
    let secret = SECRET.lock();
    // SAFETY: `page` is one, and the lock is held.
    unsafe { owner(page, &secret) }
}

/// The same, with a reference to the page.
pub(crate) fn lookup_page(pfn: u64) -> Option<(ARef<Anon>, OwnedPage)> {
    let page = pool::page(pfn)?;
    let secret = SECRET.lock();
    // SAFETY: As above.
    let anon = unsafe { owner(page, &secret) }?;
    // SAFETY: The anon owns the page, and does not give it up before `forget` has got the lock.
    unsafe { helpers::anon_rmap_get_page(page.as_ptr()) };
    // SAFETY: The reference is ours.
    Some((anon, unsafe { OwnedPage::from_raw(page) }))
}

/// # Safety
///
/// `page` must point to a `struct page`; `secret` is guarded by the map's lock.
unsafe fn owner(page: NonNull<bindings::page>, secret: &usize) -> Option<ARef<Anon>> {
    // SAFETY: The caller promises that this is a page.
    match unsafe { read(page.as_ptr(), secret) } {
        0 => None,
        // SAFETY: The page is remembered with this anon, whose memory is not freed before `forget` has got the lock.
        anon => unsafe { Anon::get_not_zero(anon as *const Anon) },
    }
}
