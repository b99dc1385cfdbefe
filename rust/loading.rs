// SPDX-License-Identifier: GPL-2.0-only

//! What is set up when the module is loaded, and stays until it is unloaded.

use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        GlobalLock,
        GlobalLockBackend, //
    }, //
};

/// The right to set up what is there once.
///
/// # Invariants
///
/// * There is no other, and was none before.
/// * What is set up by a function that is given it is used by nobody before that, nor after what the function returns was dropped.
/// * `done` names what was set up [once](Self::once).
pub(crate) struct Loading {
    done: KVec<*const ()>,
}

impl Loading {
    /// Loading begins.
    ///
    /// # Safety
    ///
    /// To be called once. What a function sets up with the result must not be used before that function is called, nor after what it
    /// returns was dropped: whatever leads to a use must be registered later and unregistered earlier.
    pub(crate) const unsafe fn begin() -> Self {
        // INVARIANT: The caller promises the first two; nothing was set up yet.
        Self { done: KVec::new() }
    }

    /// Notes that what `place` stands for is set up.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it was already; [`ENOMEM`].
    pub(crate) fn once<T>(&mut self, place: &'static T) -> Result {
        const { assert!(size_of::<T>() > 0, "it must have an address of its own") };
        let place = ptr::from_ref(place).cast();
        if self.done.contains(&place) {
            return Err(EBUSY);
        }
        Ok(self.done.push(place, GFP_KERNEL)?)
    }

    /// Makes `lock` usable. Errors as those of [`Self::once`].
    pub(crate) fn init<B: GlobalLockBackend>(&mut self, lock: &'static GlobalLock<B>) -> Result {
        self.once(lock)?;
        // SAFETY: This is the only function that initialises locks, and by the invariant of `done` it has not initialised this one.
        unsafe { lock.init() };
        Ok(())
    }
}
