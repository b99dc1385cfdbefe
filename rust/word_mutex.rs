// SPDX-License-Identifier: GPL-2.0-only

//! A mutex of one word.
//!
//! There is one for each page, where those 24 bytes count that a mutex of the kernel has besides. Who waits for it does so in one
//! of the kernel's hashed queues (`wait_var_event()`): whoever waits sleeps, and nobody spins. Who unlocks it looks there only if
//! the word says that somebody may wait. Lockdep knows it as any other lock.

use crate::helpers;
use kernel::{
    bindings::lock_class_key,
    ffi::c_char,
    sync::lock::{
        Backend,
        Guard,
        Lock, //
    }, //
};

/// A mutex whose lock is one word; `Lock` has its methods.
pub(crate) type WordMutex<T> = Lock<T, WordMutexBackend>;

/// Evidence of a lock of a [`WordMutex`].
pub(crate) type WordMutexGuard<'a, T> = Guard<'a, T, WordMutexBackend>;

/// What [`WordMutex`] locks by.
pub(crate) struct WordMutexBackend;

// SAFETY: The word is made other than free by one task at a time that finds it so, with acquire semantics, and free with release
// semantics.
unsafe impl Backend for WordMutexBackend {
    type State = helpers::anon_rmap_word_mutex;
    type GuardState = ();

    unsafe fn init(state: *mut Self::State, name: *const c_char, key: *mut lock_class_key) {
        // SAFETY: The caller promises that there is memory for a lock, and that name and key stay for ever.
        unsafe { helpers::anon_rmap_word_mutex_init(state, name, key) };
    }

    #[inline]
    unsafe fn lock(state: *mut Self::State) {
        // SAFETY: The caller promises that the lock was initialised and is there.
        unsafe { helpers::anon_rmap_word_mutex_lock(state) };
    }

    #[inline]
    unsafe fn try_lock(state: *mut Self::State) -> Option<()> {
        // SAFETY: The caller promises that the lock was initialised and is there.
        unsafe { helpers::anon_rmap_word_mutex_trylock(state) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(state: *mut Self::State, (): &()) {
        // SAFETY: The caller promises that the lock was initialised and is there, and has locked it.
        unsafe { helpers::anon_rmap_word_mutex_unlock(state) };
    }

    #[inline]
    unsafe fn assert_is_held(state: *mut Self::State) {
        // SAFETY: The caller promises that the lock was initialised and is there.
        unsafe { helpers::anon_rmap_word_mutex_assert_held(state) };
    }
}
