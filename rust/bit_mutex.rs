// SPDX-License-Identifier: GPL-2.0-only

//! A mutex of one word.
//!
//! There is one for each page, where those 24 bytes count that a mutex of the kernel has besides. As that of a folio it is a
//! bit, and who waits for it does so in one of the kernel's hashed queues (`wait_on_bit_lock()`): whoever waits sleeps, and
//! nobody spins. Lockdep knows it as any other lock.

use crate::helpers;
use core::ptr;
use kernel::{
    bindings,
    ffi::{
        c_char,
        c_ulong, //
    },
    sync::lock::{
        Backend,
        Guard,
        Lock, //
    }, //
};

/// A mutex whose lock is one word; `Lock` has its methods.
pub(crate) type BitMutex<T> = Lock<T, BitMutexBackend>;

/// Evidence of a lock of a [`BitMutex`].
pub(crate) type BitMutexGuard<'a, T> = Guard<'a, T, BitMutexBackend>;

/// What [`BitMutex`] locks by.
pub(crate) struct BitMutexBackend;

/// The lock: the word whose lowest bit it is, and what lockdep knows of it.
#[repr(C)]
pub(crate) struct State {
    word: c_ulong,
    map: bindings::lockdep_map,
}

impl State {
    /// The fields of the lock at `this`.
    ///
    /// # Safety
    ///
    /// `this` must point to memory for a lock.
    unsafe fn fields(this: *mut Self) -> (*mut c_ulong, *mut bindings::lockdep_map) {
        // SAFETY: The caller promises that the fields are within an allocation.
        unsafe { (&raw mut (*this).word, &raw mut (*this).map) }
    }
}

// SAFETY: The bit is set by one task at a time, with acquire semantics, and cleared with release semantics.
unsafe impl Backend for BitMutexBackend {
    type State = State;
    type GuardState = ();

    unsafe fn init(state: *mut State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller promises that the memory can be written.
        let (word, map) = unsafe { State::fields(state) };
        // SAFETY: As it does for the word, for the map, and that name and key stay for ever.
        unsafe {
            ptr::write(word, 0);
            helpers::anon_rmap_bit_mutex_init(map, name, key);
        }
    }

    #[inline]
    unsafe fn lock(state: *mut State) {
        // SAFETY: The caller promises that the lock was initialised and is there.
        let (word, map) = unsafe { State::fields(state) };
        // SAFETY: So its fields are.
        unsafe { helpers::anon_rmap_bit_mutex_lock(word, map) };
    }

    #[inline]
    unsafe fn try_lock(state: *mut State) -> Option<()> {
        // SAFETY: The caller promises that the lock was initialised and is there.
        let (word, map) = unsafe { State::fields(state) };
        // SAFETY: So its fields are.
        unsafe { helpers::anon_rmap_bit_mutex_trylock(word, map) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(state: *mut State, (): &()) {
        // SAFETY: The caller promises that the lock was initialised and is there.
        let (word, map) = unsafe { State::fields(state) };
        // SAFETY: So its fields are; the caller has locked it.
        unsafe { helpers::anon_rmap_bit_mutex_unlock(word, map) };
    }

    #[inline]
    unsafe fn assert_is_held(state: *mut State) {
        // SAFETY: The caller promises that the lock was initialised and is there.
        let (word, map) = unsafe { State::fields(state) };
        // SAFETY: So its fields are.
        unsafe { helpers::anon_rmap_bit_mutex_assert_held(word, map) };
    }
}
