// SPDX-License-Identifier: GPL-2.0-only

//! The nodes of a radix tree: their entries, their reference counts and the reservation of reserved ones.

use core::{
    iter,
    mem::{
        self,
        MaybeUninit, //
    },
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    },
};

#[cfg(MODULE)]
pub(crate) use cache::NodeCache;

/// Index bits that one level decodes.
pub(super) const BITS: u32 = 6;
/// Entries of a node.
const SLOTS: usize = 1 << BITS;

/// The entries of one node, by slot.
///
/// # Invariants
///
/// Bit `i` of `present` is set exactly when `entry[i]` is initialised.
pub(super) struct Entries<E> {
    present: u64,
    entry: [MaybeUninit<E>; SLOTS],
}

impl<E> Entries<E> {
    const fn new() -> Self {
        // INVARIANT: Nothing is present.
        Self {
            present: 0,
            entry: [const { MaybeUninit::uninit() }; SLOTS],
        }
    }

    /// The occupied slots, a bit each.
    pub(super) fn present(&self) -> u64 {
        self.present
    }

    fn is_present(&self, slot: usize) -> bool {
        self.present >> slot & 1 != 0
    }

    pub(super) fn get(&self, slot: usize) -> Option<&E> {
        if !self.is_present(slot) {
            return None;
        }
        // SAFETY: By the invariant what is present is initialised.
        Some(unsafe { self.entry[slot].assume_init_ref() })
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut E> {
        if !self.is_present(slot) {
            return None;
        }
        // SAFETY: By the invariant what is present is initialised.
        Some(unsafe { self.entry[slot].assume_init_mut() })
    }

    /// Empties `slot`, and returns what was there.
    pub(super) fn take(&mut self, slot: usize) -> Option<E> {
        if !self.is_present(slot) {
            return None;
        }
        // INVARIANT: What is moved out from here on is not present.
        self.present &= !(1 << slot);
        // SAFETY: It was present, and by the invariant initialised; nobody reads it again.
        Some(unsafe { self.entry[slot].assume_init_read() })
    }

    /// Fills `slot`, which is empty.
    fn fill(&mut self, slot: usize, value: E) -> &mut E {
        // INVARIANT: It is initialised by the time that anybody else looks.
        self.present |= 1 << slot;
        self.entry[slot].write(value)
    }

    /// Fills `slot` with what `make` makes; false if it is not empty.
    pub(super) fn fill_empty(&mut self, slot: usize, make: impl FnOnce() -> E) -> bool {
        let is_empty = !self.is_present(slot);
        if is_empty {
            self.fill(slot, make());
        }
        is_empty
    }

    /// Lets `change` fill, change or empty `slot`.
    pub(super) fn update<R>(&mut self, slot: usize, change: impl FnOnce(&mut Option<E>) -> R) -> R {
        let mut entry = self.take(slot);
        let result = change(&mut entry);
        if let Some(entry) = entry {
            self.fill(slot, entry);
        }
        result
    }

    /// Returns what is in `slot`, after putting there what `make` returns if that is nothing.
    pub(super) fn get_or_try_insert(
        &mut self,
        slot: usize,
        make: impl FnOnce() -> Result<E, NotEnough>,
    ) -> Result<&mut E, NotEnough> {
        if !self.is_present(slot) {
            self.fill(slot, make()?);
        }
        self.get_mut(slot).ok_or(NotEnough) // Never: it is there.
    }

    /// Clones those of `from`'s entries whose slots are in the bit set `wanted` into the same
    /// slots.
    pub(super) fn clone_from(&mut self, from: &Self, wanted: u64)
    where
        E: Clone,
    {
        for (slot, entry) in from.iter(wanted) {
            self.update(slot, |to| *to = Some(entry.clone()));
        }
    }

    /// The entries whose slots are in the bit set `wanted`, in order.
    pub(super) fn iter(&self, wanted: u64) -> impl Iterator<Item = (usize, &E)> {
        slots(self.present & wanted).filter_map(|slot| Some((slot, self.get(slot)?)))
    }
}

impl<E> Drop for Entries<E> {
    fn drop(&mut self) {
        for slot in slots(mem::take(&mut self.present)) {
            // SAFETY: It was present, and by the invariant initialised.
            unsafe { self.entry[slot].assume_init_drop() };
        }
    }
}

/// The slots of a bit set, in order.
pub(super) fn slots(mut set: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let slot = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(slot)
    })
}

/// What a node holds: its level decides which.
pub(super) enum NodeEntries<T> {
    Inner(Entries<NodeRef<T>>),
    Leaf(Entries<T>),
}

/// A node: in trees, shared by all that hold a [`NodeRef`] to it, or reserved in a [`NodeReservation`].
pub(super) struct Node<T> {
    count: Atomic<usize>,
    /// For a leaf, see the [tree](super).
    settled: Atomic<bool>,
    /// The next node of the reservation.
    next: Option<KBox<Node<T>>>,
    pub(super) entries: NodeEntries<T>,
}

/// A counted reference to a node.
///
/// A count of one, read through the only tree that can reach the node and under that tree's lock,
/// stays one: taking another reference needs this one. Counts that others hold can go away at any
/// time.
///
/// # Invariants
///
/// The node came from a [`KBox`] and is live; this reference owns one of its counts.
pub(super) struct NodeRef<T>(NonNull<Node<T>>);

// SAFETY: The count is atomic. References in several threads share the values (`Sync`), and the
// last one to go drops them (`Send`).
unsafe impl<T: Send + Sync> Send for NodeRef<T> {}
// SAFETY: A `&NodeRef` can be cloned to a `NodeRef`, so it needs the bounds that sending one does.
unsafe impl<T: Send + Sync> Sync for NodeRef<T> {}

impl<T> NodeRef<T> {
    /// Whether nobody else refers to the node.
    ///
    /// Acquire: what others did to the node's entries before they let go of it has happened.
    pub(super) fn is_unique(&self) -> bool {
        self.count.load(Acquire) == 1
    }

    /// The node, if nobody else refers to it.
    pub(super) fn get_mut(&mut self) -> Option<&mut Node<T>> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: By the type invariant the node is live. The only count is ours, and `self` is
        // borrowed mutably, so nobody reads it nor takes a reference as long as the result lives.
        Some(unsafe { self.0.as_mut() })
    }
}

impl<T: Clone> NodeRef<T> {
    /// Returns the node, which is at `level`, for writing, and no longer settled, after replacing it by a copy if others
    /// refer to it.
    ///
    /// A copy takes one node of the reservation and O(64) time.
    pub(super) fn unshare<'a>(
        &'a mut self,
        level: u32,
        reservation: &mut NodeReservation<T>,
    ) -> Result<&'a mut Node<T>, NotEnough> {
        if !self.is_unique() {
            let mut copy = reservation.take(level)?;
            match (&self.entries, &mut copy.entries) {
                (NodeEntries::Inner(from), NodeEntries::Inner(to)) => to.clone_from(from, !0),
                (NodeEntries::Leaf(from), NodeEntries::Leaf(to)) => to.clone_from(from, !0),
                _ => {} // Never: the level decides the kind.
            }
            *self = NodeRef::from(copy);
        }
        let node = self.get_mut().ok_or(NotEnough)?; // Never: it is ours alone by now.
        node.unsettle();
        Ok(node)
    }
}

impl<T> From<KBox<Node<T>>> for NodeRef<T> {
    fn from(node: KBox<Node<T>>) -> Self {
        let node = KBox::leak(node);
        *node.count.get_mut() = 1;
        // INVARIANT: The box owned the node; its only count is this reference's.
        Self(NonNull::from(node))
    }
}

impl<T> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        // It cannot overflow: each reference takes 8 bytes of memory. Relaxed, since who gets the
        // new reference synchronises with us anyway.
        self.count.fetch_add(1, Relaxed);
        // INVARIANT: The count taken just now is the clone's.
        Self(self.0)
    }
}

impl<T> Drop for NodeRef<T> {
    // Recurses into children that nobody else refers to, so at most as deep as a tree is high.
    fn drop(&mut self) {
        // Release: our accesses come before others see the count drop. Acquire: the last one comes
        // after all others' accesses.
        if self.count.fetch_sub(1, Full) == 1 {
            // SAFETY: By the type invariant the node came from a box; nobody refers to it any more.
            drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T> Deref for NodeRef<T> {
    type Target = Node<T>;

    fn deref(&self) -> &Node<T> {
        // SAFETY: By the type invariant the node is live, and [`Self::unshare`] alone makes mutable
        // references, which exclude this one.
        unsafe { self.0.as_ref() }
    }
}

/// The reservation has too few nodes; see the tree's `nodes_for_*` methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotEnough;

/// Nodes reserved for changes of [`RadixTree`]s, so that those need not allocate.
///
/// [`RadixTree`]: super::RadixTree
pub(crate) struct NodeReservation<T> {
    head: Option<KBox<Node<T>>>,
    len: usize,
}

impl<T> NodeReservation<T> {
    /// Creates an empty reservation.
    pub(crate) const fn new() -> Self {
        Self { head: None, len: 0 }
    }

    /// The number of nodes in the reservation.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Tops the reservation up to `total` nodes.
    ///
    /// Allocates with `flags`; after an error the reservation keeps what it got so far.
    pub(crate) fn reserve(&mut self, total: usize, flags: Flags) -> Result<(), AllocError> {
        while self.len < total {
            let mut node = Node::allocate(flags)?;
            node.next = self.head.take();
            self.head = Some(node);
            self.len += 1;
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<KBox<Node<T>>> {
        let mut node = self.head.take()?;
        self.head = node.next.take();
        self.len -= 1;
        Some(node)
    }

    /// Takes a node out, to be an empty one at `level` of a tree.
    pub(super) fn take(&mut self, level: u32) -> Result<KBox<Node<T>>, NotEnough> {
        let mut node = self.pop().ok_or(NotEnough)?;
        if level > 0 {
            node.entries = NodeEntries::Inner(Entries::new());
        }
        Ok(node)
    }
}

impl<T> Drop for NodeReservation<T> {
    // One by one, since dropping the chain as a whole would recurse.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T> Node<T> {
    /// Whether a leaf is settled.
    pub(super) fn settled(&self) -> &Atomic<bool> {
        &self.settled
    }

    /// Makes a leaf one that is not settled.
    pub(super) fn unsettle(&mut self) {
        *self.settled.get_mut() = false;
    }

    /// Whether this is no settled leaf.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.settled.load(Relaxed)
    }

    /// Allocates a node for a reservation: an empty leaf.
    fn allocate(flags: Flags) -> Result<KBox<Self>, AllocError> {
        let node = Self {
            count: Atomic::<usize>::new(1),
            settled: Atomic::<bool>::new(false),
            next: None,
            entries: NodeEntries::Leaf(Entries::new()),
        };
        #[cfg(MODULE)]
        let memory = cache::allocate(flags)?;
        #[cfg(not(MODULE))]
        let memory = KBox::new_uninit(flags)?;
        Ok(KBox::write(memory, node))
    }
}

#[cfg(MODULE)]
mod cache {
    //! The slab cache of the nodes.

    use super::Node;
    use crate::{
        loading::Loading,
        slab_cache::{
            Created,
            SlabCache, //
        }, //
    };
    use core::{
        alloc::Layout,
        mem::MaybeUninit,
        ptr::NonNull, //
    };
    use kernel::{
        alloc::{
            AllocError,
            Flags, //
        },
        prelude::*, //
    };

    /// A node whose values are pointers.
    type PointerNode = Node<NonNull<()>>;

    static CACHE: SlabCache<PointerNode> = SlabCache::new();

    /// As long as this lives, nodes come from a slab cache, charged to the memory cgroup.
    pub(crate) struct NodeCache {
        _cache: Created<PointerNode>,
    }

    impl NodeCache {
        /// Creates the cache; [`ENOMEM`].
        pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
            Ok(Self {
                _cache: CACHE.create(c"anon_rmap_radix_node", loading)?,
            })
        }
    }

    /// Allocates memory for a node.
    pub(super) fn allocate<T>(flags: Flags) -> Result<KBox<MaybeUninit<Node<T>>>, AllocError> {
        if Layout::new::<Node<T>>() != Layout::new::<PointerNode>() {
            return KBox::new_uninit(flags);
        }
        let memory = KBox::into_raw(CACHE.allocate(flags)?);
        // SAFETY: The memory was the box's, and both kinds of nodes have one layout.
        Ok(unsafe { KBox::from_raw(memory.cast()) })
    }
}
