// SPDX-License-Identifier: GPL-2.0-only

//! Fallible allocation, and a switch that makes it fail.

use std::{
    boxed::Box,
    cell::Cell,
    fmt,
    ops::{
        Deref,
        DerefMut, //
    },
    vec::Vec, //
};

/// An allocation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocError;

/// How an allocation may behave. The host ignores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u32);

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Allocation flags.
pub mod flags {
    use super::Flags;

    /// May sleep and reclaim.
    pub const GFP_KERNEL: Flags = Flags(1);
    /// [`GFP_KERNEL`], charged to the memory cgroup.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags(3);
    /// Must not sleep.
    pub const GFP_ATOMIC: Flags = Flags(4);
    /// Must not sleep nor use reserves.
    pub const GFP_NOWAIT: Flags = Flags(8);
    /// Says nothing when it fails.
    pub const __GFP_NOWARN: Flags = Flags(16);
    /// Returns zeroed memory.
    pub const __GFP_ZERO: Flags = Flags(32);
}

/// Makes allocations of the calling thread fail.
pub mod fail {
    use super::*;

    thread_local! {
        static SUCCEED: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `f` with each allocation of this thread failing once `nth` have succeeded.
    pub fn after<R>(nth: usize, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<usize>);
        impl Drop for Restore {
            fn drop(&mut self) {
                SUCCEED.set(self.0);
            }
        }

        let _restore = Restore(SUCCEED.replace(Some(nth)));
        f()
    }

    pub(crate) fn check() -> Result<(), AllocError> {
        match SUCCEED.get() {
            None => Ok(()),
            Some(0) => Err(AllocError),
            Some(n) => {
                SUCCEED.set(Some(n - 1));
                Ok(())
            }
        }
    }
}

/// An owned allocation of one value.
pub struct KBox<T: ?Sized>(Box<T>);

impl<T> KBox<T> {
    /// Allocates memory and moves `value` there.
    pub fn new(value: T, _flags: Flags) -> Result<Self, AllocError> {
        fail::check()?;
        Ok(Self(Box::new(value)))
    }

    /// Allocates memory for a value to be written later.
    pub fn new_uninit(_flags: Flags) -> Result<KBox<std::mem::MaybeUninit<T>>, AllocError> {
        fail::check()?;
        Ok(KBox(Box::new_uninit()))
    }

    /// Frees the memory and returns the value.
    pub fn into_inner(this: Self) -> T {
        *this.0
    }
}

impl<T: ?Sized> KBox<T> {
    /// Gives up ownership.
    pub fn into_raw(this: Self) -> *mut T {
        Box::into_raw(this.0)
    }

    /// Takes ownership back.
    ///
    /// # Safety
    ///
    /// `raw` came from [`KBox::into_raw`] and nobody else owns it.
    pub unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: By the precondition.
        Self(unsafe { Box::from_raw(raw) })
    }

    /// Gives up ownership for good.
    pub fn leak<'a>(this: Self) -> &'a mut T {
        Box::leak(this.0)
    }
}

impl<T> KBox<std::mem::MaybeUninit<T>> {
    /// Says that the value has been written.
    ///
    /// # Safety
    ///
    /// It has been.
    pub unsafe fn assume_init(self) -> KBox<T> {
        let raw = Box::into_raw(self.0);
        // SAFETY: The memory comes from a box, and by the precondition has a value.
        KBox(unsafe { Box::from_raw(raw.cast()) })
    }

    /// Writes `value` into the memory.
    pub fn write(mut self, value: T) -> KBox<T> {
        self.0.write(value);
        let raw = Box::into_raw(self.0);
        // SAFETY: It was written just now, and a `MaybeUninit<T>` has the layout of `T`.
        KBox(unsafe { Box::from_raw(raw.cast()) })
    }
}

impl<T: ?Sized> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for KBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// There is no such element to remove.
#[derive(Debug)]
pub struct RemoveError;

/// A vector whose growth can fail.
pub struct KVec<T>(Vec<T>);

impl<T> KVec<T> {
    /// An empty vector, without memory.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::new();
        vec.reserve(capacity, flags)?;
        Ok(vec)
    }

    /// Makes room for `additional` more elements.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() < additional {
            fail::check()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    /// Appends `value`.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Removes the element at `i`, and moves those behind.
    pub fn remove(&mut self, i: usize) -> Result<T, RemoveError> {
        if i >= self.0.len() {
            return Err(RemoveError);
        }
        Ok(self.0.remove(i))
    }

    /// Drops all elements, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many elements fit in the memory.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for KVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
