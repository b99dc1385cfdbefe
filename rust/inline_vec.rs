// SPDX-License-Identifier: GPL-2.0-only

//! A vector whose only element needs no memory of its own.

use core::{
    mem,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*,
};

/// A vector of which most have one element at most: that one is in the vector itself. It never allocates but in
/// [`with_capacity`](Self::with_capacity).
pub(crate) enum InlineVec<T> {
    /// Room for one.
    One(Option<T>),
    /// Room for more.
    Many(KVVec<T>),
}

impl<T> InlineVec<T> {
    /// An empty one, with room for one element.
    pub(crate) const fn new() -> Self {
        Self::One(None)
    }

    /// An empty one, with room for so many elements. Allocates if these are more than one.
    pub(crate) fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        if capacity <= 1 {
            return Ok(Self::new());
        }
        Ok(Self::Many(KVVec::with_capacity(capacity, flags)?))
    }

    /// For how many elements there is room.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.capacity(),
        }
    }

    /// Puts `value` behind all others, or gives it back if there is no room.
    pub(crate) fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        match self {
            Self::One(Some(_)) => Err(value),
            Self::One(one) => {
                *one = Some(value);
                Ok(())
            }
            Self::Many(many) => many.push_within_capacity(value).map_err(|error| error.0),
        }
    }

    /// Takes out the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        match self {
            Self::One(one) => one.take(),
            Self::Many(many) => many.pop(),
        }
    }

    /// Takes out all elements, in order.
    pub(crate) fn drain_all(&mut self) -> impl Iterator<Item = T> {
        let (one, many) = match mem::take(self) {
            Self::One(one) => (one, KVVec::new()),
            Self::Many(many) => (None, many),
        };
        Iterator::chain(one.into_iter(), many)
    }
}

impl<T> Default for InlineVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for InlineVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one.as_slice(),
            Self::Many(many) => many,
        }
    }
}

impl<T> DerefMut for InlineVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => one.as_mut_slice(),
            Self::Many(many) => many,
        }
    }
}

#[kunit_tests(anon_rmap_inline_vec)]
mod tests {
    use super::*;

    #[test]
    fn one_element_has_room_without_memory() {
        let mut vec = InlineVec::new();
        assert_eq!((vec.len(), vec.capacity()), (0, 1));
        assert_eq!(vec.push_within_capacity(1), Ok(()));
        assert_eq!(vec.push_within_capacity(2), Err(2));
        assert_eq!(vec[..], [1]);
        vec[0] = 3;
        assert_eq!(vec.pop(), Some(3));
        assert_eq!(vec.pop(), None);
    }

    #[test]
    fn many_have_as_much_room_as_was_asked_for() -> Result {
        let mut vec = InlineVec::with_capacity(3, GFP_KERNEL)?;
        for value in 0..3 {
            assert_eq!(vec.push_within_capacity(value), Ok(()));
        }
        assert_eq!(vec.pop(), Some(2));
        assert!(vec.drain_all().eq(0..2));
        assert_eq!((vec.len(), vec.capacity()), (0, 1));
        Ok(())
    }
}
