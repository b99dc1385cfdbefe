// SPDX-License-Identifier: GPL-2.0-only

//! Interval trees.
//!
//! Which of many intervals, that may overlap, overlap a given one?
//!
//! C header: [`include/linux/interval_tree.h`](srctree/include/linux/interval_tree.h), which this tree replaces, not wraps.
//!
//! Memory is allocated first ([`IntervalTreeNode`], which can fail), then linked ([`IntervalTree::insert`],
//! which cannot), so that insertion works under a lock that forbids to sleep. The tree has no lock
//! inside: it is the content of one, as in `Mutex<IntervalTree<T>>`, and what needs the lock for
//! writing takes `&mut self`.
//!
//! # Structure
//!
//! The tree is a B+-tree, sorted by where the intervals start and augmented with where the last of
//! a subtree ends. A node has up to 15 slots of (start, last, pointer): in a leaf for an interval,
//! above for a child. Each of the three is an array of its own.
//!
//! * An inner node has its slots in order, so that six comparisons choose the child below which
//!   something starts.
//! * In a leaf slots stay where they are; a word, the permutation that the leaves of Masstree have,
//!   says their order. An insertion or a removal changes that word and one slot. What is linked
//!   knows its leaf and slot, so it is removed or changed without a search.
//!
//! A red-black tree with such an augmentation is what Linux has in C (`interval_tree_generic.h`). A
//! walk of it reads one cache line, or two if the interval is behind a pointer as in an
//! `anon_vma_chain`, for each of log2(n) levels; here it is a few lines that do not depend on each
//! other, for each of about log10(n) levels.
//!
//! What costs most is to split a leaf, at every tenth insertion into a growing tree. A removal looks for another
//! end that is as great, and first behind what is removed, where there mostly is one: to look at all ends in the
//! order of slots has a branch that nobody can predict. A stab is limited by one such branch for
//! each level, and by two cache misses there, one after the other, for the ends and for the pointer.
//!
//! # Memory
//!
//! An [`IntervalTreeNode`] has the memory of its value and that of one node of the tree, since it does not know what
//! tree it will be linked in. The tree keeps as many as its number of intervals can ever need, one in
//! five, which is 80 bytes for each interval, and 100 with the kernel's allocator; the others come back as [`Surplus`].
//!
//! # Examples
//!
//! ```
//! # use kernel::prelude::*;
//! use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNode};
//!
//! let mut tree = IntervalTree::new();
//! let interval = Interval::from_range(10..20).ok_or(EINVAL)?;
//!
//! // Allocates; then the insertion succeeds.
//! let node = IntervalTreeNode::new("first", GFP_KERNEL)?;
//! let (link, _surplus) = tree.insert(node, interval);
//!
//! // What overlaps [15, 99]?
//! for (found, value) in tree.overlapping(15..100) {
//!     assert_eq!((found, *value), (interval, "first"));
//! }
//!
//! let removed = tree.remove(link).map_err(|_| EINVAL)?;
//! assert_eq!(removed.into_value(), "first");
//! assert!(tree.is_empty());
//! # Ok::<(), Error>(())
//! ```
//!
//! A tree under a spinlock, into which something is put without sleeping:
//!
//! ```
//! # use kernel::prelude::*;
//! use kernel::{interval_tree::{Interval, IntervalTree, IntervalTreeNode}, sync::SpinLock};
//!
//! fn insert_point(tree: &SpinLock<IntervalTree<u32>>, at: u64, value: u32) -> Result {
//!     let node = IntervalTreeNode::new(value, GFP_KERNEL)?;
//!     let inserted = tree.lock().insert(node, Interval::point(at));
//!     // What was not needed is freed here, without the lock.
//!     drop(inserted);
//!     Ok(())
//! }
//! ```

mod cursor;
mod debug;
mod entry;
mod interval;
mod kunit;
mod node;
mod order;
mod overlapping;
mod ptr;
mod raw;
mod reservation;

pub use cursor::{
    Cursor,
    CursorMut, //
};
pub use debug::Violation;
pub use interval::Interval;
pub use overlapping::{
    Overlapping,
    OverlappingMut,
    Position, //
};
pub use reservation::{
    IntervalTreeNode,
    IntervalTreeNodeReservation,
    RemovedNode,
    Surplus, //
};

use core::{
    fmt,
    iter::FusedIterator,
    marker::PhantomData,
    ops::RangeBounds,
    ptr::NonNull, //
};
use cursor::LeafSlot;
use entry::Entry;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*, //
};
use overlapping::Query;
use raw::RawTree;

/// Stands for one linked value: the right to change its interval and to remove it.
///
/// There is one of it for each value in a tree, and only the tree that made it accepts it. Without it, as
/// when it is dropped, the value stays linked until the tree is dropped.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{ForeignLink, Interval, IntervalTree};
///
/// let mut tree = IntervalTree::new();
/// let link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
///
/// let other = IntervalTree::<&str>::new();
/// assert_eq!(other.value(&link), Err(ForeignLink));
/// assert_eq!(tree.value(&link), Ok(&"one"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// If a tree with the number `tree` exists, `entry` points to an [`Entry`] linked in it, and no other
/// `IntervalTreeLink` does.
#[must_use = "without it, what is linked can no longer be removed"]
pub struct IntervalTreeLink<T> {
    entry: NonNull<Entry<T>>,
    tree: u64,
    _value: PhantomData<fn() -> T>,
}

// SAFETY: It gives no access to the value: that needs a borrow of the tree.
unsafe impl<T> Send for IntervalTreeLink<T> {}
// SAFETY: A reference to it gives out numbers only; what is at its pointer is reached by a borrow of the tree.
unsafe impl<T> Sync for IntervalTreeLink<T> {}

impl<T> fmt::Debug for IntervalTreeLink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalTreeLink").finish_non_exhaustive()
    }
}

/// The [`IntervalTreeLink`] is of another tree. (A tree that had to warn of a bug in itself may refuse its own, too.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForeignLink;

/// A tree of intervals, each with a value.
///
/// The tree owns what is linked, and drops it when it is dropped. Several intervals may be equal.
///
/// # Invariants
///
/// The hooks in `raw` are those of `Entry<T>`s, whose memory came from a `KBox` each and that belong to
/// the tree: who borrows it has borrowed their values.
#[doc(alias = "interval_tree")]
pub struct IntervalTree<T> {
    raw: RawTree,
    _entries: PhantomData<Entry<T>>,
}

// SAFETY: It owns its values, which are `Send`, and its nodes. The pointers to them that stay are links: they give access by the tree only.
unsafe impl<T: Send> Send for IntervalTree<T> {}
// SAFETY: A reference to it gives out references to values, which are `Sync`, and changes nothing.
unsafe impl<T: Sync> Sync for IntervalTree<T> {}

impl<T> IntervalTree<T> {
    /// An empty tree, without memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTree;
    ///
    /// let tree = IntervalTree::<u32>::new();
    /// assert!(tree.is_empty());
    /// ```
    pub const fn new() -> Self {
        // INVARIANT: There are no hooks.
        Self {
            raw: RawTree::new(),
            _entries: PhantomData,
        }
    }

    /// Links a value. Among equal starts it comes last.
    ///
    /// O(log n). It does not sleep, and neither allocates nor frees memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNode};
    ///
    /// let mut tree = IntervalTree::new();
    /// let node = IntervalTreeNode::new("all", GFP_KERNEL)?;
    /// let (link, _surplus) = tree.insert(node, Interval::ALL);
    /// assert_eq!(tree.value(&link), Ok(&"all"));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "interval_tree_insert")]
    pub fn insert(
        &mut self,
        node: IntervalTreeNode<T>,
        interval: Interval,
    ) -> (IntervalTreeLink<T>, Surplus) {
        let IntervalTreeNode { entry, node } = node;
        let entry = NonNull::from(KBox::leak(entry));
        // INVARIANT: The hook is that of an entry, which belongs to the tree from now on.
        // SAFETY: It has just been nobody's but ours, and in no tree.
        let (tree, surplus) = unsafe { self.raw.insert(entry.cast(), node, interval) };
        // INVARIANT: The entry has just been linked, so this is the first `IntervalTreeLink` for it.
        let link = IntervalTreeLink {
            entry,
            tree,
            _value: PhantomData,
        };
        (link, Surplus(surplus))
    }

    /// Allocates memory for a value and links it.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if there is no memory; `value` is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::point(7), "seven", GFP_KERNEL)?;
    /// assert_eq!(tree.interval(&link), Ok(Interval::point(7)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_create_and_insert(
        &mut self,
        interval: Interval,
        value: T,
        flags: Flags,
    ) -> Result<IntervalTreeLink<T>, AllocError> {
        Ok(self
            .insert(IntervalTreeNode::new(value, flags)?, interval)
            .0)
    }

    /// Unlinks a value.
    ///
    /// O(log n). It does not sleep and frees nothing.
    ///
    /// # Errors
    ///
    /// Gives `link` back if it is of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::point(7), "seven", GFP_KERNEL)?;
    /// let removed = tree.remove(link).map_err(|_| EINVAL)?;
    /// assert_eq!(*removed, "seven");
    /// assert!(tree.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "interval_tree_remove")]
    pub fn remove(
        &mut self,
        link: IntervalTreeLink<T>,
    ) -> Result<RemovedNode<T>, IntervalTreeLink<T>> {
        if self.linked(&link).is_err() {
            return Err(link);
        }
        // SAFETY: By the invariant of the link, which ends here.
        Ok(unsafe { self.take(link.entry) })
    }

    /// Takes out an entry.
    ///
    /// # Safety
    ///
    /// It is linked in this tree, and no link of it is used any more.
    unsafe fn take(&mut self, entry: NonNull<Entry<T>>) -> RemovedNode<T> {
        // SAFETY: By the precondition.
        let node = unsafe { self.raw.remove(entry.cast()) };
        // SAFETY: The entry came from a `KBox`. It is in the tree no more, and by the precondition nobody else's.
        let entry = unsafe { KBox::from_raw(entry.as_ptr()) };
        let surplus = Surplus(node);
        RemovedNode { entry, surplus }
    }

    /// Gives a value another interval. If its start changes, it then comes last among equal starts.
    ///
    /// O(log n), O(1) if what is in front and behind stays so and the end is not the greatest around. It
    /// does not allocate, does not sleep and frees nothing. In C one removes the node, changes it and inserts it again.
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{ForeignLink, Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, (), GFP_KERNEL)?;
    /// assert_eq!(tree.update(&link, Interval::point(7)), Ok(()));
    /// assert_eq!(tree.overlapping(8..).count(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update(
        &mut self,
        link: &IntervalTreeLink<T>,
        interval: Interval,
    ) -> Result<(), ForeignLink> {
        let entry = self.linked(link)?;
        // SAFETY: It is linked here.
        unsafe { self.raw.update(entry.cast(), interval) };
        Ok(())
    }

    /// The interval of a value. O(1).
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, (), GFP_KERNEL)?;
    /// assert_eq!(tree.interval(&link), Ok(Interval::ALL));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn interval(&self, link: &IntervalTreeLink<T>) -> Result<Interval, ForeignLink> {
        let entry = self.linked(link)?;
        // SAFETY: It is linked here.
        Ok(unsafe { self.raw.interval(entry.cast()) })
    }

    /// A value. O(1).
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, "all", GFP_KERNEL)?;
    /// assert_eq!(tree.value(&link), Ok(&"all"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn value(&self, link: &IntervalTreeLink<T>) -> Result<&T, ForeignLink> {
        let entry = self.linked(link)?;
        // SAFETY: It is linked here, and the tree is borrowed.
        Ok(unsafe { &entry.as_ref().value })
    }

    /// A value to change. O(1).
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, 1, GFP_KERNEL)?;
    /// if let Ok(value) = tree.value_mut(&link) {
    ///     *value += 1;
    /// }
    /// assert_eq!(tree.value(&link), Ok(&2));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn value_mut(&mut self, link: &IntervalTreeLink<T>) -> Result<&mut T, ForeignLink> {
        let entry = self.linked(link)?.as_ptr();
        // SAFETY: It is linked here, and the tree is borrowed mutably.
        Ok(unsafe { &mut (*entry).value })
    }

    /// The entry of a link, which is linked here.
    #[inline]
    fn linked(&self, link: &IntervalTreeLink<T>) -> Result<NonNull<Entry<T>>, ForeignLink> {
        // By the invariant of the link, and no two trees have one number.
        if link.tree == self.raw.number() {
            Ok(link.entry)
        } else {
            Err(ForeignLink)
        }
    }

    /// The intervals that overlap `range`, with their values; none if `range` is empty.
    ///
    /// With n intervals in the tree and k found, a query visits O(log n + k) nodes if those found lie together, as
    /// those around a point mostly do, and never more than O(log n) for each.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// for start in 0..10 {
    ///     let interval = Interval::new(start, start + 5).ok_or(EINVAL)?;
    ///     let _link = tree.try_create_and_insert(interval, start, GFP_KERNEL)?;
    /// }
    /// let values = tree.overlapping(7..=7).map(|(_, value)| *value);
    /// assert!(values.eq(2..=7));
    /// assert_eq!(tree.overlapping(..3).count(), 3);
    /// assert_eq!(tree.overlapping(7..7).count(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "interval_tree_iter_first")]
    #[doc(alias = "interval_tree_iter_next")]
    #[doc(alias = "interval_tree_subtree_search")]
    #[inline]
    pub fn overlapping(&self, range: impl RangeBounds<u64>) -> Overlapping<'_, T> {
        let query = Query::of(&self.raw, Interval::from_range(range));
        // SAFETY: By the type invariant.
        unsafe { Overlapping::new(query) }
    }

    /// The intervals that overlap `range`, with their values to change.
    ///
    /// Otherwise as [`overlapping`](Self::overlapping).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, 0, GFP_KERNEL)?;
    /// for (_, hits) in tree.overlapping_mut(7..=7) {
    ///     *hits += 1;
    /// }
    /// assert_eq!(tree.value(&link), Ok(&1));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn overlapping_mut(&mut self, range: impl RangeBounds<u64>) -> OverlappingMut<'_, T> {
        let query = Query::of(&self.raw, Interval::from_range(range));
        // SAFETY: By the type invariant; the tree is borrowed mutably.
        unsafe { OverlappingMut::new(query) }
    }

    /// Those of the intervals that overlap `range` that come behind `position` in the order of all: to go on with
    /// a query in another critical section.
    ///
    /// What was in front of the position and has got a later start since is found once more. Nothing is left out
    /// unless its start has become an earlier one.
    ///
    /// The first one takes O(log n log n), the others what they take in [`overlapping`](Self::overlapping).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let first = tree.try_create_and_insert(Interval::ALL, "first", GFP_KERNEL)?;
    /// let _second = tree.try_create_and_insert(Interval::ALL, "second", GFP_KERNEL)?;
    ///
    /// let mut found = tree.overlapping(7..=7);
    /// assert_eq!(found.next().map(|(_, value)| *value), Some("first"));
    /// let position = found.resume_position().ok_or(EINVAL)?;
    ///
    /// // It does not matter that what was found last is gone.
    /// assert!(tree.remove(first).is_ok());
    /// let mut found = tree.overlapping_after(7..=7, position);
    /// assert_eq!(found.next().map(|(_, value)| *value), Some("second"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn overlapping_after(
        &self,
        range: impl RangeBounds<u64>,
        position: Position,
    ) -> Overlapping<'_, T> {
        let query = Query::after(&self.raw, Interval::from_range(range), position);
        // SAFETY: By the type invariant.
        unsafe { Overlapping::new(query) }
    }

    /// All intervals with their values, in order of start.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// for at in [3, 1, 2] {
    ///     let _link = tree.try_create_and_insert(Interval::point(at), (), GFP_KERNEL)?;
    /// }
    /// assert!(tree.iter().map(|(interval, _)| interval.start()).eq(1..=3));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn iter(&self) -> Overlapping<'_, T> {
        self.overlapping(..)
    }

    /// All intervals with their values to change, in order of start.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::ALL, 1, GFP_KERNEL)?;
    /// for (_, value) in tree.iter_mut() {
    ///     *value *= 10;
    /// }
    /// assert_eq!(tree.first(), Some((Interval::ALL, &10)));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn iter_mut(&mut self) -> OverlappingMut<'_, T> {
        self.overlapping_mut(..)
    }

    /// The interval that starts first, and its value. O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// assert!(tree.first().is_none());
    /// let _link = tree.try_create_and_insert(Interval::point(2), "two", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// assert_eq!(tree.first(), Some((Interval::point(1), &"one")));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn first(&self) -> Option<(Interval, &T)> {
        Some(self.cursor_front()?.current())
    }

    /// The interval that starts last, and its value. O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::ALL, "long", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(1), "late", GFP_KERNEL)?;
    /// assert_eq!(tree.last(), Some((Interval::point(1), &"late")));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn last(&self) -> Option<(Interval, &T)> {
        Some(self.cursor_back()?.current())
    }

    /// A cursor on the interval that starts first; none if there is none. O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let cursor = tree.cursor_front().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_front(&self) -> Option<Cursor<'_, T>> {
        let place = LeafSlot::first(self.raw.shared())?;
        // SAFETY: By the type invariant.
        Some(unsafe { Cursor::new(place) })
    }

    /// A cursor on the interval that starts last; none if there is none. O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// assert!(tree.cursor_back().is_none());
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let cursor = tree.cursor_back().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_back(&self) -> Option<Cursor<'_, T>> {
        let place = LeafSlot::last(self.raw.shared())?;
        // SAFETY: By the type invariant.
        Some(unsafe { Cursor::new(place) })
    }

    /// A cursor on the first interval that starts at `start` or later; none if there is none. O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(3), "three", GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_lower_bound(2).ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(3), &"three"));
    /// assert_eq!(cursor.peek_prev(), Some((Interval::point(1), &"one")));
    /// assert!(tree.cursor_lower_bound(4).is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_lower_bound(&self, start: u64) -> Option<Cursor<'_, T>> {
        let place = LeafSlot::lower_bound(self.raw.shared(), start)?;
        // SAFETY: By the type invariant.
        Some(unsafe { Cursor::new(place) })
    }

    /// As [`cursor_front`](Self::cursor_front), a cursor that can change values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::point(1), 1, GFP_KERNEL)?;
    /// *tree.cursor_front_mut().ok_or(EINVAL)?.current_mut().1 = 10;
    /// assert_eq!(tree.value(&link), Ok(&10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_front_mut(&mut self) -> Option<CursorMut<'_, T>> {
        let place = LeafSlot::first(self.raw.shared())?;
        // SAFETY: By the type invariant; the tree is borrowed mutably.
        Some(unsafe { CursorMut::new(place) })
    }

    /// As [`cursor_back`](Self::cursor_back), a cursor that can change values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::point(1), 1, GFP_KERNEL)?;
    /// *tree.cursor_back_mut().ok_or(EINVAL)?.current_mut().1 = 10;
    /// assert_eq!(tree.value(&link), Ok(&10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_back_mut(&mut self) -> Option<CursorMut<'_, T>> {
        let place = LeafSlot::last(self.raw.shared())?;
        // SAFETY: By the type invariant; the tree is borrowed mutably.
        Some(unsafe { CursorMut::new(place) })
    }

    /// As [`cursor_lower_bound`](Self::cursor_lower_bound), a cursor that can change values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::point(5), 1, GFP_KERNEL)?;
    /// *tree.cursor_lower_bound_mut(3).ok_or(EINVAL)?.current_mut().1 = 10;
    /// assert_eq!(tree.value(&link), Ok(&10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cursor_lower_bound_mut(&mut self, start: u64) -> Option<CursorMut<'_, T>> {
        let place = LeafSlot::lower_bound(self.raw.shared(), start)?;
        // SAFETY: By the type invariant; the tree is borrowed mutably.
        Some(unsafe { CursorMut::new(place) })
    }

    /// How many intervals there are. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::ALL, (), GFP_KERNEL)?;
    /// assert_eq!(tree.len(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Returns whether there is no interval. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTree;
    ///
    /// assert!(IntervalTree::<u32>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For debugging: checks order, augmentation, balance, links and counts. O(n).
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found: a bug in here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::ALL, (), GFP_KERNEL)?;
    /// assert_eq!(tree.verify(), Ok(()));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn verify(&self) -> Result<(), Violation> {
        self.raw.shared().verify()
    }
}

impl<T> Default for IntervalTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for IntervalTree<T> {
    fn drop(&mut self) {
        self.raw.clear(|hook| {
            // SAFETY: By the type invariant it is the hook of an entry that came from a `KBox`, and the
            // tree that owned it is gone.
            drop(unsafe { KBox::from_raw(hook.cast::<Entry<T>>().as_ptr()) });
        });
    }
}

impl<'a, T> IntoIterator for &'a IntervalTree<T> {
    type Item = (Interval, &'a T);
    type IntoIter = Overlapping<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut IntervalTree<T> {
    type Item = (Interval, &'a mut T);
    type IntoIter = OverlappingMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T> IntoIterator for IntervalTree<T> {
    type Item = (Interval, T);
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter { tree: self }
    }
}

/// An iterator that takes a tree apart: over its intervals and values, in order of start. Each takes O(log n), and frees
/// memory.
///
/// Links of the tree are worth nothing any more: there is no tree that would accept them.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree};
///
/// let mut tree = IntervalTree::new();
/// for at in [3, 1, 2] {
///     let _link = tree.try_create_and_insert(Interval::point(at), at, GFP_KERNEL)?;
/// }
/// assert!(tree.into_iter().map(|(_, value)| value).eq(1..=3));
/// # Ok::<(), Error>(())
/// ```
pub struct IntoIter<T> {
    tree: IntervalTree<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = (Interval, T);

    fn next(&mut self) -> Option<Self::Item> {
        let place = LeafSlot::first(self.tree.raw.shared())?;
        let (interval, entry) = (place.interval(), place.hook.as_non_null().cast());
        // SAFETY: It is linked in this tree, of which links are used no more: nobody can call it with one.
        Some((interval, unsafe { self.tree.take(entry) }.into_value()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.tree.len(), Some(self.tree.len()))
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}
impl<T> FusedIterator for IntoIter<T> {}
