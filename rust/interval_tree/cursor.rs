// SPDX-License-Identifier: GPL-2.0-only

//! Cursors: from an interval to its neighbours in the order of starts.

use super::{
    entry::Entry,
    interval::Interval,
    node::{
        HookPtr,
        NodePtr, //
    },
    ptr::Shared,
    raw::Tree,
};
use core::marker::PhantomData;
use kernel::warn_on;

/// A bidirectional cursor over the intervals of a tree, sorted by start.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree};
///
/// let mut tree = IntervalTree::new();
/// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
/// let _link = tree.try_create_and_insert(Interval::point(2), "two", GFP_KERNEL)?;
///
/// let cursor = tree.cursor_front().ok_or(EINVAL)?;
/// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
/// assert!(cursor.move_prev().is_none());
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The place is in a tree of `Entry<T>`s, borrowed for `'a`.
pub struct Cursor<'a, T> {
    place: LeafSlot<'a>,
    _values: PhantomData<&'a T>,
}

// SAFETY: It gives out what a `&IntervalTree<T>` does, which can be sent if `T` is `Sync`.
unsafe impl<T: Sync> Send for Cursor<'_, T> {}
// SAFETY: A reference to it only copies what a `&IntervalTree<T>` gives out, which can be shared if `T` is `Sync`.
unsafe impl<T: Sync> Sync for Cursor<'_, T> {}

impl<T> Clone for Cursor<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cursor<'_, T> {}

impl<'a, T> Cursor<'a, T> {
    /// # Safety
    ///
    /// The place is in a tree of `Entry<T>`s, borrowed for `'a`.
    pub(super) unsafe fn new(place: LeafSlot<'a>) -> Self {
        // INVARIANT: By the precondition.
        Self {
            place,
            _values: PhantomData,
        }
    }

    /// The interval on which the cursor stands, and its value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_back().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn current(&self) -> (Interval, &'a T) {
        let entry = self.place.hook.as_non_null().cast::<Entry<T>>();
        // SAFETY: By the type invariant the hook is that of an entry, which the tree's borrow allows to read.
        (self.place.interval(), unsafe { &entry.as_ref().value })
    }

    /// The cursor on the next interval; none if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), "two", GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_front().ok_or(EINVAL)?;
    /// let cursor = cursor.move_next().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(2), &"two"));
    /// assert!(cursor.move_next().is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn move_next(self) -> Option<Self> {
        let place = self.place.next()?;
        // INVARIANT: It is in the same tree.
        Some(Self { place, ..self })
    }

    /// The cursor on the previous interval; none if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), "two", GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_back().ok_or(EINVAL)?;
    /// let cursor = cursor.move_prev().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn move_prev(self) -> Option<Self> {
        let place = self.place.previous()?;
        // INVARIANT: It is in the same tree.
        Some(Self { place, ..self })
    }

    /// The next interval and its value, without moving the cursor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), "two", GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_front().ok_or(EINVAL)?;
    /// assert_eq!(cursor.peek_next(), Some((Interval::point(2), &"two")));
    /// assert_eq!(cursor.current(), (Interval::point(1), &"one"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn peek_next(&self) -> Option<(Interval, &'a T)> {
        Some(self.move_next()?.current())
    }

    /// The previous interval and its value, without moving the cursor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), "one", GFP_KERNEL)?;
    ///
    /// assert_eq!(tree.cursor_front().ok_or(EINVAL)?.peek_prev(), None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn peek_prev(&self) -> Option<(Interval, &'a T)> {
        Some(self.move_prev()?.current())
    }
}

/// A bidirectional cursor over the intervals of a tree, sorted by start, that can change values.
///
/// It cannot remove an interval nor change it: that is the right of who has the
/// [`IntervalTreeLink`](super::IntervalTreeLink).
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree};
///
/// let mut tree = IntervalTree::new();
/// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
/// let _link = tree.try_create_and_insert(Interval::point(2), 20, GFP_KERNEL)?;
///
/// let mut cursor = tree.cursor_lower_bound_mut(2).ok_or(EINVAL)?;
/// *cursor.current_mut().1 += 1;
/// assert_eq!(tree.last(), Some((Interval::point(2), &21)));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The place is in a tree of `Entry<T>`s, borrowed mutably for `'a`, of whose values there are no other references than those
/// that borrow the cursor.
pub struct CursorMut<'a, T> {
    place: LeafSlot<'a>,
    _values: PhantomData<&'a mut T>,
}

// SAFETY: It gives out what a mutable reference to the tree does.
unsafe impl<T: Send> Send for CursorMut<'_, T> {}
// SAFETY: A reference to it gives out what one to the tree does.
unsafe impl<T: Sync> Sync for CursorMut<'_, T> {}

impl<'a, T> CursorMut<'a, T> {
    /// # Safety
    ///
    /// The place is in a tree of `Entry<T>`s, borrowed mutably for `'a`.
    pub(super) unsafe fn new(place: LeafSlot<'a>) -> Self {
        // INVARIANT: By the precondition.
        Self {
            place,
            _values: PhantomData,
        }
    }

    /// The cursor for reading only, while this one is borrowed.
    fn as_cursor(&self) -> Cursor<'_, T> {
        // SAFETY: By the type invariant; values can be changed only with this one borrowed mutably.
        unsafe { Cursor::new(self.place) }
    }

    /// The interval on which the cursor stands, and its value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_front_mut().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn current(&self) -> (Interval, &T) {
        self.as_cursor().current()
    }

    /// The interval on which the cursor stands, and its value to change.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    ///
    /// let mut cursor = tree.cursor_back_mut().ok_or(EINVAL)?;
    /// let (interval, value) = cursor.current_mut();
    /// *value += interval.start();
    /// assert_eq!(cursor.current().1, &11);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn current_mut(&mut self) -> (Interval, &mut T) {
        let entry = self.place.hook.as_non_null().cast::<Entry<T>>().as_ptr();
        // SAFETY: By the type invariant the hook is that of an entry, whose value nobody else accesses.
        (self.place.interval(), unsafe { &mut (*entry).value })
    }

    /// The cursor on the next interval; none if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), 20, GFP_KERNEL)?;
    ///
    /// let mut cursor = tree.cursor_front_mut();
    /// while let Some(mut at) = cursor {
    ///     *at.current_mut().1 += 1;
    ///     cursor = at.move_next();
    /// }
    /// assert!(tree.iter().map(|(_, value)| *value).eq([11, 21]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn move_next(self) -> Option<Self> {
        let place = self.place.next()?;
        // INVARIANT: It is in the same tree; this cursor ends here.
        Some(Self { place, ..self })
    }

    /// The cursor on the previous interval; none if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), 20, GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_back_mut().ok_or(EINVAL)?;
    /// let cursor = cursor.move_prev().ok_or(EINVAL)?;
    /// assert_eq!(cursor.current(), (Interval::point(1), &10));
    /// assert!(cursor.move_prev().is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn move_prev(self) -> Option<Self> {
        let place = self.place.previous()?;
        // INVARIANT: It is in the same tree; this cursor ends here.
        Some(Self { place, ..self })
    }

    /// The next interval and its value, without moving the cursor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    ///
    /// assert_eq!(tree.cursor_front_mut().ok_or(EINVAL)?.peek_next(), None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn peek_next(&self) -> Option<(Interval, &T)> {
        self.as_cursor().peek_next()
    }

    /// The previous interval and its value, without moving the cursor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let _link = tree.try_create_and_insert(Interval::point(1), 10, GFP_KERNEL)?;
    /// let _link = tree.try_create_and_insert(Interval::point(2), 20, GFP_KERNEL)?;
    ///
    /// let cursor = tree.cursor_back_mut().ok_or(EINVAL)?;
    /// assert_eq!(cursor.peek_prev(), Some((Interval::point(1), &10)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn peek_prev(&self) -> Option<(Interval, &T)> {
        self.as_cursor().peek_prev()
    }
}

/// One interval of a tree, and where that has it.
#[derive(Clone, Copy)]
pub(super) struct LeafSlot<'a> {
    tree: &'a Tree<Shared<'a>>,
    leaf: NodePtr<Shared<'a>>,
    slot: usize,
    pub(super) hook: HookPtr<Shared<'a>>,
}

impl<'a> LeafSlot<'a> {
    /// A slot of a leaf.
    fn new(tree: &'a Tree<Shared<'a>>, leaf: NodePtr<Shared<'a>>, slot: usize) -> Option<Self> {
        let Some(hook) = tree.node(leaf).hook(slot) else {
            warn_on!(true);
            return None;
        };
        Some(Self {
            tree,
            leaf,
            slot,
            hook,
        })
    }

    /// The interval that starts first.
    pub(super) fn first(tree: &'a Tree<Shared<'a>>) -> Option<Self> {
        Self::first_below(tree, tree.root()?)
    }

    /// The interval that starts last.
    pub(super) fn last(tree: &'a Tree<Shared<'a>>) -> Option<Self> {
        Self::last_below(tree, tree.root()?)
    }

    /// The first interval that starts at `start` or later.
    pub(super) fn lower_bound(tree: &'a Tree<Shared<'a>>, start: u64) -> Option<Self> {
        let mut at = tree.root()?;
        let leaf = loop {
            let node = tree.node(at);
            // What is below the slot behind starts at `start` or later, and what is below those in front starts before.
            let is_before = |slot: &usize| node.start(*slot) < start;
            let slot = (1..node.len()).rev().find(is_before).unwrap_or(0);
            match node.child(slot) {
                Some(child) => at = child,
                None => break node,
            }
        };
        match leaf.order().slots().find(|slot| leaf.start(*slot) >= start) {
            Some(slot) => Self::new(tree, at, slot),
            None => Self::last_below(tree, at)?.next(),
        }
    }

    fn first_below(tree: &'a Tree<Shared<'a>>, node: NodePtr<Shared<'a>>) -> Option<Self> {
        let leaf = tree.leftmost(node);
        Self::new(tree, leaf, tree.node(leaf).nth(0))
    }

    fn last_below(tree: &'a Tree<Shared<'a>>, mut node: NodePtr<Shared<'a>>) -> Option<Self> {
        loop {
            let this = tree.node(node);
            match this.child(this.last_slot()) {
                Some(child) => node = child,
                None => return Self::new(tree, node, this.last_slot()),
            }
        }
    }

    pub(super) fn interval(&self) -> Interval {
        self.tree.node(self.leaf).interval(self.slot)
    }

    /// The next interval.
    fn next(self) -> Option<Self> {
        if let Some(slot) = self.tree.node(self.leaf).order().next(self.slot) {
            return Self::new(self.tree, self.leaf, slot);
        }
        let mut node = self.leaf;
        loop {
            let (parent, slot) = self.tree.place(node)?;
            if let Some(child) = self.tree.node(parent).child(slot + 1) {
                return Self::first_below(self.tree, child);
            }
            node = parent;
        }
    }

    /// The previous interval.
    fn previous(self) -> Option<Self> {
        if let Some(slot) = self.tree.node(self.leaf).order().previous(self.slot) {
            return Self::new(self.tree, self.leaf, slot);
        }
        let mut node = self.leaf;
        loop {
            let (parent, slot) = self.tree.place(node)?;
            if let Some(slot) = slot.checked_sub(1) {
                let child = self.tree.node(parent).child(slot)?;
                return Self::last_below(self.tree, child);
            }
            node = parent;
        }
    }
}
