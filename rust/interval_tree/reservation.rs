// SPDX-License-Identifier: GPL-2.0-only

//! Memory of a tree: before an insertion, and after a removal.

use super::{
    entry::Entry,
    node::{
        Hook,
        Node, //
    },
    ptr::Stored,
};
use core::{
    mem::MaybeUninit,
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
    prelude::*, //
};

/// A value with all the memory that its insertion into any tree needs.
///
/// It is what C calls a node of an interval tree: one interval and what belongs to it. The nodes that the tree is made of
/// are others, and nobody outside sees them.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNode};
///
/// let mut tree = IntervalTree::new();
/// let node = IntervalTreeNode::new("value", GFP_KERNEL)?;
/// let _link = tree.insert(node, Interval::ALL);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "interval_tree_node")]
pub struct IntervalTreeNode<T> {
    pub(super) entry: KBox<Entry<T>>,
    pub(super) node: KBox<Node<Stored>>,
}

// SAFETY: It owns the value, which is `Send`, and memory that nothing else points to.
unsafe impl<T: Send> Send for IntervalTreeNode<T> {}
// SAFETY: A reference to it gives out references to the value, which is `Sync`, and to nothing else.
unsafe impl<T: Sync> Sync for IntervalTreeNode<T> {}

impl<T> IntervalTreeNode<T> {
    /// Allocates memory for `value`.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if there is no memory; `value` is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTreeNode;
    ///
    /// let node = IntervalTreeNode::new("value", GFP_KERNEL)?;
    /// assert_eq!(*node, "value");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        Self::with_surplus(value, Surplus::NONE, flags)
    }

    /// As [`Self::new`], with memory that another insertion has not needed, into whatever tree that was.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`]; `surplus` is dropped, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNode, Surplus};
    ///
    /// let mut tree = IntervalTree::new();
    /// let mut surplus = Surplus::NONE;
    /// for at in 0..10 {
    ///     let node = IntervalTreeNode::with_surplus(at, surplus, GFP_KERNEL)?;
    ///     (_, surplus) = tree.insert(node, Interval::point(at));
    /// }
    /// assert_eq!(tree.len(), 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn with_surplus(value: T, surplus: Surplus, flags: Flags) -> Result<Self, AllocError> {
        let reservation = IntervalTreeNodeReservation {
            entry: KBox::new_uninit(flags)?,
            node: match surplus.0 {
                Some(node) => node,
                None => Node::new(flags)?,
            },
        };
        Ok(reservation.into_node(value))
    }

    /// Takes the value out and frees the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTreeNode;
    ///
    /// let node = IntervalTreeNode::new("value", GFP_KERNEL)?;
    /// assert_eq!(node.into_value(), "value");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn into_value(self) -> T {
        KBox::into_inner(self.entry).value
    }
}

impl<T> Deref for IntervalTreeNode<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.entry.value
    }
}

impl<T> DerefMut for IntervalTreeNode<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.entry.value
    }
}

/// Memory for an [`IntervalTreeNode`] whose value is not known yet.
///
/// # Examples
///
/// The value is known only under the lock:
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNodeReservation};
///
/// let mut tree = IntervalTree::new();
/// let reservation = IntervalTreeNodeReservation::new(GFP_KERNEL)?;
/// let node = reservation.into_node(tree.len());
/// let _link = tree.insert(node, Interval::ALL);
/// # Ok::<(), Error>(())
/// ```
pub struct IntervalTreeNodeReservation<T> {
    entry: KBox<MaybeUninit<Entry<T>>>,
    node: KBox<Node<Stored>>,
}

// SAFETY: There is no value in it, only memory that nothing else points to.
unsafe impl<T> Send for IntervalTreeNodeReservation<T> {}
// SAFETY: A reference to it gives out nothing of what is in it.
unsafe impl<T> Sync for IntervalTreeNodeReservation<T> {}

impl<T> IntervalTreeNodeReservation<T> {
    /// Allocates memory.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTreeNodeReservation;
    ///
    /// let reservation = IntervalTreeNodeReservation::<u64>::new(GFP_KERNEL)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(flags: Flags) -> Result<Self, AllocError> {
        Ok(Self {
            entry: KBox::new_uninit(flags)?,
            node: Node::new(flags)?,
        })
    }

    /// Puts the value into the memory. It cannot fail.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::IntervalTreeNodeReservation;
    ///
    /// let node = IntervalTreeNodeReservation::new(GFP_KERNEL)?.into_node(7);
    /// assert_eq!(*node, 7);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn into_node(self, value: T) -> IntervalTreeNode<T> {
        let hook = Hook::UNLINKED;
        IntervalTreeNode {
            entry: KBox::write(self.entry, Entry { hook, value }),
            node: self.node,
        }
    }
}

/// Memory that an insertion turned out not to need, or that a removal has left. Best dropped after the tree's lock, or kept for
/// [another node](IntervalTreeNode::with_surplus): who keeps all of it allocates memory for the tree's own nodes only while
/// trees grow.
pub struct Surplus(pub(super) Option<KBox<Node<Stored>>>);

impl Surplus {
    /// No memory.
    pub const NONE: Self = Self(None);

    /// Whether it is no memory.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

// SAFETY: It is memory that nothing else points to.
unsafe impl Send for Surplus {}
// SAFETY: A reference to it gives out nothing of what is in it.
unsafe impl Sync for Surplus {}

/// A value that was in a tree, with its memory and what the tree had to spare. It can be dropped after
/// the tree's lock.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::interval_tree::{Interval, IntervalTree};
///
/// let mut tree = IntervalTree::new();
/// let link = tree.try_create_and_insert(Interval::ALL, "value", GFP_KERNEL)?;
/// let mut removed = tree.remove(link).map_err(|_| EINVAL)?;
/// *removed = "changed";
/// assert_eq!(removed.into_value(), "changed");
/// # Ok::<(), Error>(())
/// ```
pub struct RemovedNode<T> {
    pub(super) entry: KBox<Entry<T>>,
    pub(super) surplus: Surplus,
}

// SAFETY: It owns the value, which is `Send`, and memory that nothing else points to.
unsafe impl<T: Send> Send for RemovedNode<T> {}
// SAFETY: A reference to it gives out references to the value, which is `Sync`, and to nothing else.
unsafe impl<T: Sync> Sync for RemovedNode<T> {}

impl<T> RemovedNode<T> {
    /// Takes the value out and frees the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, "value", GFP_KERNEL)?;
    /// let removed = tree.remove(link).map_err(|_| EINVAL)?;
    /// assert_eq!(removed.into_value(), "value");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn into_value(self) -> T {
        KBox::into_inner(self.entry).value
    }

    /// Takes what the tree had to spare, if it is still there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// use kernel::interval_tree::{Interval, IntervalTree, IntervalTreeNode};
    ///
    /// let mut tree = IntervalTree::new();
    /// let link = tree.try_create_and_insert(Interval::ALL, "value", GFP_KERNEL)?;
    /// let mut removed = tree.remove(link).map_err(|_| EINVAL)?;
    /// let node = IntervalTreeNode::with_surplus("other", removed.take_surplus(), GFP_KERNEL)?;
    /// let _link = tree.insert(node, Interval::ALL);
    /// assert!(removed.take_surplus().is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_surplus(&mut self) -> Surplus {
        core::mem::replace(&mut self.surplus, Surplus::NONE)
    }
}

impl<T> Deref for RemovedNode<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.entry.value
    }
}

impl<T> DerefMut for RemovedNode<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.entry.value
    }
}
