// SPDX-License-Identifier: GPL-2.0

//! A reference-counted pointer with the kernel's `into_unique_or_drop`.

use crate::alloc::{
    self,
    AllocError,
    Flags, //
};
use std::{
    boxed::Box,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    pin::Pin,
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering, //
    },
};

struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

/// A shared pointer.
///
/// # Invariants
///
/// `0` points to a live `Inner` that holds one count for this pointer.
pub struct Arc<T>(NonNull<Inner<T>>, PhantomData<Inner<T>>);

// SAFETY: The count is atomic; sharing or sending the pointer shares and may drop the value elsewhere.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// Allocates memory and moves `value` there.
    pub fn new(value: T, _flags: Flags) -> Result<Self, AllocError> {
        let inner = Inner {
            count: AtomicUsize::new(1),
            value,
        };
        // INVARIANT: The count of one is this pointer's.
        Ok(Self(alloc::leak(inner)?, PhantomData))
    }

    /// The address of the value.
    pub fn as_ptr(this: &Self) -> *const T {
        &**this
    }

    /// Whether both point to the same value.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0 == other.0
    }

    /// Gives up this pointer; the last one to do so gets the value for itself.
    pub fn into_unique_or_drop(this: Self) -> Option<Pin<UniqueArc<T>>> {
        let this = ManuallyDrop::new(this);
        // SAFETY: By the type invariant.
        let count = unsafe { &this.0.as_ref().count };
        if count.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        count.store(1, Ordering::Relaxed);
        // SAFETY: The value is in memory of its own and stays there until it is dropped.
        Some(unsafe { Pin::new_unchecked(UniqueArc(Self(this.0, PhantomData))) })
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }
            .count
            .fetch_add(1, Ordering::Relaxed);
        // INVARIANT: The count taken just now is the clone's.
        Self(self.0, PhantomData)
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        let last = unsafe { self.0.as_ref() }
            .count
            .fetch_sub(1, Ordering::AcqRel)
            == 1;
        if last {
            // SAFETY: No pointer is left, and the memory came from a leaked box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T> From<UniqueArc<T>> for Arc<T> {
    fn from(unique: UniqueArc<T>) -> Self {
        unique.0
    }
}

impl<T> From<Pin<UniqueArc<T>>> for Arc<T> {
    fn from(unique: Pin<UniqueArc<T>>) -> Self {
        // SAFETY: An `Arc` does not move the value either.
        unsafe { Pin::into_inner_unchecked(unique) }.0
    }
}

/// A shared pointer that is not shared yet, so its value can be changed.
///
/// # Invariants
///
/// The pointer is the only one to its value.
pub struct UniqueArc<T>(Arc<T>);

impl<T> UniqueArc<T> {
    /// Allocates memory and moves `value` there.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        // INVARIANT: A new pointer is the only one.
        Ok(Self(Arc::new(value, flags)?))
    }
}

impl<T> Deref for UniqueArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for UniqueArc<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariant nobody else has the value.
        unsafe { &mut (*self.0 .0.as_ptr()).value }
    }
}
