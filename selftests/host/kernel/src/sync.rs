// SPDX-License-Identifier: GPL-2.0-only

//! Synchronisation.

pub mod atomic;

use std::sync::{
    Mutex,
    MutexGuard,
    PoisonError, //
};

/// A lock under which the kernel must not sleep.
pub struct SpinLock<T>(Mutex<T>);

impl<T> SpinLock<T> {
    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
