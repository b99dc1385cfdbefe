// SPDX-License-Identifier: GPL-2.0-only

//! Pointers into a tree, and the borrow of it by which they may be followed.
//!
//! A node points to its parent, what is linked points to its leaf: references cannot say that. A [`Ptr`] is as good as
//! one. Its type names the borrow, safe code can neither make one up nor keep it for longer, and a
//! [`Tree`](super::raw::Tree) follows only those of its own borrow.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Nobody has borrowed the tree: its pointers are kept, not followed.
pub(super) enum Stored {}

/// The tree is borrowed for `'a`, to read.
pub(super) enum Shared<'a> {
    #[expect(dead_code, reason = "the type only stands for the lifetime")]
    Never(PhantomData<&'a ()>, Stored),
}

/// The tree is borrowed to change it.
///
/// `'t` stands for that one borrow of that one tree: [`RawTree::exclusive`](super::raw::RawTree::exclusive) calls a
/// closure that must be content with any lifetime, so no other tree, and nothing outside, has this one.
pub(super) enum Exclusive<'t> {
    #[expect(dead_code, reason = "the type only stands for the lifetime")]
    Never(PhantomData<fn(&'t ()) -> &'t ()>, Stored),
}

/// A borrow by which pointers can be followed, at least to read.
///
/// # Safety
///
/// By the invariant of [`Ptr`], who has a reference to the tree borrowed so may read what its pointers point to.
pub(super) unsafe trait Borrow {}

/// A borrow by which pointers can be followed to write.
///
/// # Safety
///
/// By the invariant of [`Ptr`], who has a mutable reference to the tree borrowed so may write what its pointers point to.
pub(super) unsafe trait BorrowMut: Borrow {}

// SAFETY: Nothing is written meanwhile.
unsafe impl Borrow for Shared<'_> {}
// SAFETY: All accesses are through the tree, so nothing is written while a reference to it exists.
unsafe impl Borrow for Exclusive<'_> {}
// SAFETY: All accesses are through the tree, so a mutable reference to it is the only one.
unsafe impl BorrowMut for Exclusive<'_> {}

/// A pointer that the borrow `B` of a tree allows to follow.
///
/// # Invariants
///
/// What it points to is
///
/// - for [`Shared<'a>`](Shared): valid, and not written to, for `'a`;
/// - for [`Exclusive<'t>`](Exclusive): valid until that borrow ends, and accessed only through the tree borrowed so.
pub(super) struct Ptr<B, X> {
    raw: NonNull<X>,
    _borrow: PhantomData<B>,
}

impl<B, X> Ptr<B, X> {
    /// Says that `raw` may be followed by `B`.
    ///
    /// # Safety
    ///
    /// The invariant of [`Ptr`] holds.
    #[inline]
    pub(super) unsafe fn new(raw: NonNull<X>) -> Self {
        // INVARIANT: By the precondition.
        Self {
            raw,
            _borrow: PhantomData,
        }
    }

    /// The address.
    #[inline]
    pub(super) fn as_non_null(self) -> NonNull<X> {
        self.raw
    }
}

impl<B, X> Clone for Ptr<B, X> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, X> Copy for Ptr<B, X> {}

impl<B, X> PartialEq for Ptr<B, X> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
