// SPDX-License-Identifier: GPL-2.0-only

//! A persistent radix tree: a map from indices to values whose parts several trees can share.
//!
//! A node has 64 entries and a reference count. Cloning a tree takes a reference to its root; a
//! change first copies those nodes on its path that others refer to, so each tree looks like one of
//! its own. Copying a leaf clones its values, so their own `Clone` and `Drop` count in how many
//! leaves each of them is.
//!
//! No method allocates: what a change may take comes from a [`NodeReservation`], which the caller fills
//! before it takes the lock that guards the tree. How many nodes that is, `nodes_for_*` say. That
//! holds until the tree is changed or shared again; changes of other trees can only lower it.
//!
//! A leaf can be *settled*: whoever shares trees has done with its entries what has to be done before, and need not do so again.
//! It stays so until it is changed, or an entry of it is used in a way that undoes that ([`Item::unsettle`]).
//!
//! In the costs below, h is the tree's height: 1 + log64 of the largest index, at most 11.

mod node;

#[cfg(MODULE)]
pub(crate) use node::NodeCache;
pub(crate) use node::{
    NodeReservation,
    NotEnough, //
};

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use node::{
    slots,
    Entries,
    Node,
    NodeEntries,
    NodeRef,
    BITS, //
};

/// A map from indices to values, in which clones share their unchanged parts.
///
/// # Invariants
///
/// `root`, if any, is at level `height - 1`; a node at level 0 is a leaf, an inner node's children
/// are one level lower. No node is empty.
pub(crate) struct RadixTree<T> {
    root: Option<NodeRef<T>>,
    height: u32,
}

/// An entry of a [`RadixTree`].
pub(crate) struct Item<'a, T> {
    /// The value.
    pub(crate) value: &'a T,
    /// Whether all nodes on the entry's path are this tree's alone. If they are, and the value's
    /// own count says that no other leaf has it, nobody else can reach the value through a tree
    /// until this one is shared again.
    pub(crate) unshared: bool,
    settled: &'a Atomic<bool>,
}

impl<T> Item<'_, T> {
    /// Makes [`RadixTree::settle`] look at this entry again.
    pub(crate) fn unsettle(&self) {
        if self.settled.load(Relaxed) {
            self.settled.store(false, Relaxed);
        }
    }
}

/// What [`RadixTree::remove_range`] took out of a tree.
///
/// The values keep their references until this is dropped: O(n), better done after unlocking. Until
/// then, entries beside the removed range can look shared.
pub(crate) struct RemovedRange<T> {
    _subtree: Option<NodeRef<T>>,
    _value: Option<T>,
}

/// The indices that can be below a node, and how many of their bits the levels below it decode.
#[derive(Clone, Copy)]
struct Span {
    shift: u32,
    /// The first index below the node.
    first: u64,
}

impl Span {
    /// Of a leaf, with indices from 0 on.
    const LEAF: Self = Self { shift: 0, first: 0 };

    /// Of the root of a tree with `height` levels.
    fn root(height: u32) -> Self {
        Self {
            shift: BITS * height.saturating_sub(1),
            first: 0,
        }
    }

    fn level(self) -> u32 {
        self.shift / BITS
    }

    /// Of the node in `slot`.
    fn child(self, slot: usize) -> Self {
        let shift = self.shift - BITS;
        Self {
            shift,
            first: self.first | (slot as u64) << self.shift,
        }
    }

    /// The last index below the node.
    fn last(self) -> u64 {
        // In two steps: together that can be all bits.
        self.first | !(u64::MAX << self.shift << BITS)
    }

    /// The slot of `index`.
    fn slot(self, index: u64) -> usize {
        (index >> self.shift) as usize % (1 << BITS)
    }

    /// The slots that have indices in [first, last], as a bit set.
    fn slots(self, first: u64, last: u64) -> u64 {
        if last < self.first || self.last() < first {
            return 0;
        }
        let low = self.slot(first.max(self.first));
        let high = self.slot(last.min(self.last()));
        u64::MAX << low & u64::MAX >> (63 - high)
    }

    /// Whether all the node's indices are in [first, last].
    fn is_within(self, first: u64, last: u64) -> bool {
        first <= self.first && self.last() <= last
    }
}

/// The levels that a tree needs for `index`.
fn height_for(index: u64) -> u32 {
    (u64::BITS - index.leading_zeros()).div_ceil(BITS).max(1)
}

/// A leaf with something in a range.
struct Leaf<'a, T> {
    first: u64,
    values: &'a Entries<T>,
    settled: &'a Atomic<bool>,
    /// The slots that are occupied and in the range: not empty.
    present: u64,
    unshared: bool,
}

impl<'a, T> Leaf<'a, T> {
    fn new(
        span: Span,
        node: &'a Node<T>,
        values: &'a Entries<T>,
        wanted: u64,
        unshared: bool,
    ) -> Option<Self> {
        let present = values.present() & wanted;
        (present != 0).then_some(Self {
            first: span.first,
            values,
            settled: node.settled(),
            present,
            unshared,
        })
    }

    fn first_present(&self) -> u64 {
        self.first + u64::from(self.present.trailing_zeros())
    }

    /// Whether it is this tree's alone, and not settled.
    fn is_unsettled(&self) -> bool {
        self.unshared && !self.settled.load(Relaxed)
    }

    fn last_present(&self) -> u64 {
        self.first + u64::from(63 - self.present.leading_zeros())
    }

    fn iter(self) -> impl Iterator<Item = (u64, Item<'a, T>)> {
        slots(self.present).filter_map(move |slot| {
            let entry = Item {
                value: self.values.get(slot)?,
                unshared: self.unshared,
                settled: self.settled,
            };
            Some((self.first + slot as u64, entry))
        })
    }
}

/// Finds the first leaf below `node` that has something in [first, last]; of the unshared ones that are not settled if
/// `only_unsettled`.
///
/// O(h), or if `only_unsettled`, O(64) per unshared node passed. `unshared` says whether all of
/// `node`'s ancestors are.
fn seek<T>(
    node: &NodeRef<T>,
    span: Span,
    (first, last): (u64, u64),
    unshared: bool,
    only_unsettled: bool,
) -> Option<Leaf<'_, T>> {
    let unshared = unshared && node.is_unique();
    if only_unsettled && !(unshared && node.is_unsettled()) {
        return None;
    }
    let wanted = span.slots(first, last);
    match &node.entries {
        NodeEntries::Leaf(values) => Leaf::new(span, node, values, wanted, unshared),
        NodeEntries::Inner(children) => children
            .iter(wanted)
            // Most are, after a fork: those are not worth a call.
            .filter(|(_, child)| !only_unsettled || child.is_unsettled())
            .find_map(|(slot, child)| {
                let span = span.child(slot);
                seek(child, span, (first, last), unshared, only_unsettled)
            }),
    }
}

/// See [`RadixTree::settle`].
fn settle<T>(
    node: &NodeRef<T>,
    span: Span,
    (first, last): (u64, u64),
    each: &mut impl FnMut(u64, &T) -> bool,
) {
    if !node.is_unique() {
        return;
    }
    let wanted = span.slots(first, last);
    match &node.entries {
        NodeEntries::Leaf(values) => {
            if !node.is_unsettled() {
                return;
            }
            let mut settled = values.present() & !wanted == 0;
            for (slot, value) in values.iter(wanted) {
                settled &= each(span.first + slot as u64, value);
            }
            node.settled().store(settled, Relaxed);
        }
        NodeEntries::Inner(children) => {
            for (slot, child) in children.iter(wanted) {
                settle(child, span.child(slot), (first, last), each);
            }
        }
    }
}

/// Whether something below `node` is in [first, last]: O(h).
fn any_in<T>(node: &NodeRef<T>, span: Span, first: u64, last: u64) -> bool {
    seek(node, span, (first, last), true, false).is_some()
}

/// Whether everything below `node` is in [first, last]: O(h).
fn all_in<T>(node: &NodeRef<T>, span: Span, first: u64, last: u64) -> bool {
    let wanted = span.slots(first, last);
    match &node.entries {
        NodeEntries::Leaf(values) => values.present() & !wanted == 0,
        NodeEntries::Inner(children) => {
            // What is between the first and the last slot of these is in the range.
            let is_child_in = |slot: u32| {
                let span = span.child(slot as usize);
                children.get(slot as usize).is_none_or(|child| {
                    span.is_within(first, last) || all_in(child, span, first, last)
                })
            };
            children.present() & !wanted == 0
                && (wanted == 0
                    || is_child_in(wanted.trailing_zeros())
                        && is_child_in(63 - wanted.leading_zeros()))
        }
    }
}

impl<T> RadixTree<T> {
    /// Creates an empty tree.
    pub(crate) const fn new() -> Self {
        // INVARIANT: There is no node.
        Self {
            root: None,
            height: 0,
        }
    }

    /// Whether there is no entry.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Looks `index` up: O(h).
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<Item<'_, T>> {
        self.get_below(self.root.as_ref()?, index)
    }

    fn get_below<'a>(&'a self, root: &'a NodeRef<T>, index: u64) -> Option<Item<'a, T>> {
        let mut node = root;
        let mut span = Span::root(self.height);
        if index > span.last() {
            return None;
        }
        let mut unshared = true;
        loop {
            unshared &= node.is_unique();
            let slot = span.slot(index);
            match &node.entries {
                NodeEntries::Leaf(values) => {
                    return Some(Item {
                        value: values.get(slot)?,
                        unshared,
                        settled: node.settled(),
                    })
                }
                NodeEntries::Inner(children) => node = children.get(slot)?,
            }
            span = span.child(slot);
        }
    }

    /// Goes through the entries in [first, last] in order: O(h) per leaf that has some.
    pub(crate) fn iter_range(
        &self,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = (u64, Item<'_, T>)> {
        self.leaves(first, last).flat_map(Leaf::iter)
    }

    /// The number of entries in [first, last]: O(h) per leaf that has some.
    pub(crate) fn count_range(&self, first: u64, last: u64) -> u64 {
        self.leaves(first, last)
            .map(|leaf| u64::from(leaf.present.count_ones()))
            .sum()
    }

    /// Finds the first run of unshared entries in [first, last] that are not settled: its first and its last index.
    ///
    /// Both have entries. Between them, no entry is shared or settled, but some indices may have none: a run
    /// ends only where a whole leaf is missing, shared or settled. O(64) per unshared node that is passed
    /// (shared subtrees are not descended into) and O(h) per leaf of the run.
    pub(crate) fn next_unsettled(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let root = self.root.as_ref()?;
        let mut leaf = seek(root, Span::root(self.height), (first, last), true, true)?;
        let start = leaf.first_present();
        let mut end = leaf.last_present();
        while let Some(next) = leaf.first.checked_add(1 << BITS) {
            match self.leaf_at(next, last) {
                Some(next) if next.is_unsettled() => leaf = next,
                _ => break,
            }
            end = leaf.last_present();
        }
        Some((start, end))
    }

    /// Calls `each` with the index and the value of each entry in [first, last] that is unshared and not settled. A leaf is settled
    /// afterwards if all its entries are in the range, and `each` has returned true for them. O(64) per unshared node.
    pub(crate) fn settle(&self, first: u64, last: u64, mut each: impl FnMut(u64, &T) -> bool) {
        if let Some(root) = &self.root {
            settle(root, Span::root(self.height), (first, last), &mut each);
        }
    }

    /// The number of nodes, shared ones included: O(nodes).
    #[cfg(any(test, CONFIG_KUNIT))]
    pub(crate) fn node_count(&self) -> usize {
        fn count<T>(node: &NodeRef<T>) -> usize {
            match &node.entries {
                NodeEntries::Leaf(_) => 1,
                NodeEntries::Inner(children) => {
                    1 + children
                        .iter(!0)
                        .map(|(_, node)| count(node))
                        .sum::<usize>()
                }
            }
        }
        self.root.as_ref().map_or(0, count)
    }

    /// Checks the invariants: O(64 nodes).
    #[cfg(any(test, CONFIG_KUNIT))]
    pub(crate) fn verify(&self) -> bool {
        fn verify<T>(node: &NodeRef<T>, level: u32) -> bool {
            match &node.entries {
                NodeEntries::Leaf(values) => level == 0 && values.present() != 0,
                NodeEntries::Inner(children) => {
                    level > 0
                        && children.present() != 0
                        && children.iter(!0).all(|(_, node)| verify(node, level - 1))
                }
            }
        }
        let level = Span::root(self.height).level();
        self.root.as_ref().is_none_or(|root| verify(root, level))
    }

    /// Whether there is an entry in [first, last]: O(h).
    pub(crate) fn any_in(&self, first: u64, last: u64) -> bool {
        self.first_leaf(first, last).is_some()
    }

    /// The leaf of `first`, if it has something in [first, last]: O(h).
    fn leaf_at(&self, first: u64, last: u64) -> Option<Leaf<'_, T>> {
        let mut node = self.root.as_ref()?;
        let mut span = Span::root(self.height);
        if first > span.last() {
            return None;
        }
        let mut unshared = true;
        loop {
            unshared &= node.is_unique();
            match &node.entries {
                NodeEntries::Leaf(values) => {
                    return Leaf::new(span, node, values, span.slots(first, last), unshared)
                }
                NodeEntries::Inner(children) => {
                    let slot = span.slot(first);
                    node = children.get(slot)?;
                    span = span.child(slot);
                }
            }
        }
    }

    /// The first leaf that has something in [first, last]: O(h).
    fn first_leaf(&self, first: u64, last: u64) -> Option<Leaf<'_, T>> {
        // Most often that of `first`.
        let leaf = self.leaf_at(first, last);
        if leaf.is_some() || first >> BITS == last >> BITS {
            return leaf;
        }
        let root = self.root.as_ref()?;
        seek(root, Span::root(self.height), (first, last), true, false)
    }

    /// The leaves that have something in [first, last], in order.
    fn leaves(&self, first: u64, last: u64) -> impl Iterator<Item = Leaf<'_, T>> {
        let mut from = Some(first);
        core::iter::from_fn(move || {
            let leaf = self.first_leaf(from.filter(|from| *from <= last)?, last)?;
            from = leaf.first.checked_add(1 << BITS);
            Some(leaf)
        })
    }
}

impl<T> Default for RadixTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shares the whole tree: O(1).
impl<T> Clone for RadixTree<T> {
    fn clone(&self) -> Self {
        // INVARIANT: As in `self`.
        Self {
            root: self.root.clone(),
            height: self.height,
        }
    }
}

impl<T: Clone> RadixTree<T> {
    /// The number of nodes that [`RadixTree::insert`] at `index` takes: O(h).
    pub(crate) fn nodes_for_insert(&self, index: u64) -> usize {
        let height = height_for(index);
        let Some(mut node) = self.root.as_ref() else {
            return height as usize;
        };
        if height > self.height {
            // New roots above the old one, and from the topmost down a new path.
            return (height - self.height + height - 1) as usize;
        }
        let mut span = Span::root(self.height);
        let mut shared = false;
        let mut nodes = 0;
        loop {
            shared |= !node.is_unique();
            nodes += usize::from(shared);
            let NodeEntries::Inner(children) = &node.entries else {
                return nodes;
            };
            let slot = span.slot(index);
            let Some(child) = children.get(slot) else {
                return nodes + span.level() as usize;
            };
            node = child;
            span = span.child(slot);
        }
    }

    /// Puts `value` at `index` and returns what was there.
    ///
    /// Gives `value` back, and changes nothing, when `reservation` has less than
    /// [`RadixTree::nodes_for_insert`] nodes. O(h), and O(64) per node copied.
    pub(crate) fn insert(
        &mut self,
        index: u64,
        value: T,
        reservation: &mut NodeReservation<T>,
    ) -> Result<Option<T>, T> {
        // Most have neighbours that are this tree's alone, too.
        if let Some(leaf) = self.own_leaf(index) {
            leaf.unsettle();
            if let NodeEntries::Leaf(values) = &mut leaf.entries {
                return Ok(values.update(Span::LEAF.slot(index), |entry| entry.replace(value)));
            }
        }
        if reservation.len() < self.nodes_for_insert(index) {
            return Err(value);
        }
        match self.leaf_for(index, reservation) {
            Ok((leaf, slot)) => Ok(leaf.update(slot, |entry| entry.replace(value))),
            Err(NotEnough) => Err(value),
        }
    }

    /// Puts what `make` makes at `index`, if nothing is there and that takes no node: its leaf is this tree's alone. O(h).
    pub(crate) fn fill(&mut self, index: u64, make: impl FnOnce() -> T) -> bool {
        let Some(leaf) = self.own_leaf(index) else {
            return false;
        };
        let is_filled = match &mut leaf.entries {
            NodeEntries::Leaf(values) => values.fill_empty(Span::LEAF.slot(index), make),
            NodeEntries::Inner(_) => false, // Never: it is a leaf.
        };
        if is_filled {
            leaf.unsettle();
        }
        is_filled
    }

    /// The number of nodes that [`RadixTree::remove_range`] of [first, last] takes: O(64 h).
    ///
    /// At most 2 h - 1; none if the range holds everything or nothing.
    pub(crate) fn nodes_for_remove(&self, first: u64, last: u64) -> usize {
        fn count<T>(
            node: &NodeRef<T>,
            span: Span,
            (first, last): (u64, u64),
            shared: bool,
            is_known: bool,
        ) -> usize {
            if span.is_within(first, last)
                || !(is_known || any_in(node, span, first, last))
                || all_in(node, span, first, last)
            {
                return 0;
            }
            let shared = shared || !node.is_unique();
            let wanted = span.slots(first, last);
            match &node.entries {
                NodeEntries::Leaf(_) => 1,
                NodeEntries::Inner(children) => {
                    let splits = (children.present() & wanted).count_ones() > 1;
                    let below = children.iter(wanted).map(|(slot, child)| {
                        count(child, span.child(slot), (first, last), shared, !splits)
                    });
                    usize::from(shared || splits) + below.sum::<usize>()
                }
            }
        }
        if first == last && self.is_one_of_several(first) {
            return 0;
        }
        let span = Span::root(self.height);
        self.root
            .as_ref()
            .map_or(0, |root| count(root, span, (first, last), false, false))
    }

    /// Whether the entry at `index` can go without a node: its path is this tree's alone, and its leaf has others. O(h).
    fn is_one_of_several(&self, index: u64) -> bool {
        let leaf = self.leaf_at(index, index);
        leaf.is_some_and(|leaf| leaf.unshared && leaf.values.present().count_ones() > 1)
    }

    /// Takes the entry at `index` out, if it is [one of several](Self::is_one_of_several). O(h).
    fn take_one(&mut self, index: u64) -> Option<T> {
        match &mut self.own_leaf(index)?.entries {
            NodeEntries::Leaf(values) if values.present().count_ones() > 1 => {
                values.take(Span::LEAF.slot(index))
            }
            _ => None,
        }
    }

    /// The leaf for `index`, if its path is there and this tree's alone. O(h).
    fn own_leaf(&mut self, index: u64) -> Option<&mut Node<T>> {
        let mut span = Span::root(self.height);
        if index > span.last() {
            return None;
        }
        let mut node = self.root.as_mut()?.get_mut()?;
        while span.shift > 0 {
            let NodeEntries::Inner(children) = &mut node.entries else {
                return None; // Never: leaves are at level 0.
            };
            let slot = span.slot(index);
            span = span.child(slot);
            node = children.get_mut(slot)?.get_mut()?;
        }
        Some(node)
    }

    /// Takes everything in [first, last] out.
    ///
    /// Fails, and changes nothing, when `reservation` has less than [`RadixTree::nodes_for_remove`] nodes.
    /// Subtrees inside the range are unlinked as they are: O(64 h).
    pub(crate) fn remove_range(
        &mut self,
        first: u64,
        last: u64,
        reservation: &mut NodeReservation<T>,
    ) -> Result<RemovedRange<T>, NotEnough> {
        // Most have neighbours that are this tree's alone, too.
        if first == last {
            if let Some(value) = self.take_one(first) {
                return Ok(RemovedRange {
                    _subtree: None,
                    _value: Some(value),
                });
            }
        }
        if reservation.len() < self.nodes_for_remove(first, last) {
            return Err(NotEnough);
        }
        let span = Span::root(self.height);
        let subtree = remove(&mut self.root, span, (first, last), false, reservation)?;
        Ok(RemovedRange {
            _subtree: subtree,
            _value: None,
        })
    }

    /// The number of nodes that [`RadixTree::share_range`] takes at most: O(64 h).
    ///
    /// At most 2 h - 1, with the height of the higher tree.
    pub(crate) fn nodes_for_share(&self, first: u64, last: u64, into: &Self) -> usize {
        fn count<T>(
            node: &NodeRef<T>,
            span: Span,
            (first, last): (u64, u64),
            entry: Option<&NodeRef<T>>,
            shared: bool,
            is_known: bool,
        ) -> usize {
            if !is_known && !any_in(node, span, first, last)
                || entry.is_none() && all_in(node, span, first, last)
            {
                return 0;
            }
            let shared = shared || entry.is_some_and(|entry| !entry.is_unique());
            let nodes = usize::from(shared || entry.is_none());
            let NodeEntries::Inner(children) = &node.entries else {
                return nodes;
            };
            let wanted = span.slots(first, last);
            let is_one = (children.present() & wanted).is_power_of_two();
            let below = children.iter(wanted).map(|(slot, child)| {
                let entry = match entry.map(|entry| &entry.entries) {
                    Some(NodeEntries::Inner(children)) => children.get(slot),
                    _ => None,
                };
                count(
                    child,
                    span.child(slot),
                    (first, last),
                    entry,
                    shared,
                    is_one,
                )
            });
            nodes + below.sum::<usize>()
        }
        let Some(root) = self.root.as_ref().filter(|_| self.any_in(first, last)) else {
            return 0;
        };
        if into.root.is_some() && into.height != self.height {
            // At each level, only the nodes of the first and of the last index can be new or copied.
            return 2 * self.height.max(into.height) as usize - 1;
        }
        let span = Span::root(self.height);
        count(root, span, (first, last), into.root.as_ref(), false, true)
    }

    /// Puts all entries in [first, last] into another tree, too, at the same indices.
    ///
    /// `into` must have none in that range. Subtrees inside the range become shared, the values in
    /// leaves at its borders are cloned. Fails, and changes nothing, when `reservation` has less than
    /// [`RadixTree::nodes_for_share`] nodes. O(64 h).
    pub(crate) fn share_range(
        &self,
        first: u64,
        last: u64,
        into: &mut Self,
        reservation: &mut NodeReservation<T>,
    ) -> Result<(), NotEnough> {
        if reservation.len() < self.nodes_for_share(first, last, into) {
            return Err(NotEnough);
        }
        let Some(root) = self.root.as_ref().filter(|_| self.any_in(first, last)) else {
            return Ok(());
        };
        let span = Span::root(self.height);
        into.grow(self.height, reservation)?;
        if into.height == self.height {
            return share(root, span, (first, last), &mut into.root, true, reservation);
        }
        match &mut into.descend(self.height, 0, reservation)?.entries {
            NodeEntries::Inner(children) => children.update(0, |entry| {
                share(root, span, (first, last), entry, true, reservation)
            }),
            NodeEntries::Leaf(_) => Err(NotEnough), // Never: leaves are at level 0.
        }
    }

    /// Makes the tree at least `height` levels high: O(h).
    fn grow(&mut self, height: u32, reservation: &mut NodeReservation<T>) -> Result<(), NotEnough> {
        if self.root.is_none() {
            self.height = height;
        }
        while self.height < height {
            let mut top = reservation.take(self.height)?;
            if let NodeEntries::Inner(children) = &mut top.entries {
                children.update(0, |entry| *entry = self.root.take());
            }
            // INVARIANT: The old root is now the only child of the new one, a level higher.
            self.root = Some(top.into());
            self.height += 1;
        }
        Ok(())
    }

    /// Makes the node at `level` on the path of `index` exist and unshared.
    ///
    /// The tree is high enough. The caller fills a node that is new, to keep the invariant.
    fn descend(
        &mut self,
        level: u32,
        index: u64,
        reservation: &mut NodeReservation<T>,
    ) -> Result<&mut Node<T>, NotEnough> {
        let mut span = Span::root(self.height);
        let mut node = occupy(&mut self.root, span, reservation)?;
        loop {
            if span.level() == level {
                return Ok(node);
            }
            let NodeEntries::Inner(children) = &mut node.entries else {
                return Err(NotEnough); // Never: leaves are at level 0.
            };
            let slot = span.slot(index);
            span = span.child(slot);
            node = children
                .get_or_try_insert(slot, || Ok(reservation.take(span.level())?.into()))?
                .unshare(span.level(), reservation)?;
        }
    }

    /// The unshared leaf for `index`, and the slot there.
    fn leaf_for(
        &mut self,
        index: u64,
        reservation: &mut NodeReservation<T>,
    ) -> Result<(&mut Entries<T>, usize), NotEnough> {
        self.grow(height_for(index), reservation)?;
        match &mut self.descend(0, index, reservation)?.entries {
            NodeEntries::Leaf(values) => Ok((values, Span::LEAF.slot(index))),
            NodeEntries::Inner(_) => Err(NotEnough), // Never: at level 0 are leaves only.
        }
    }
}

/// Makes the node in `entry` exist and unshared; the caller fills it if it is new.
fn occupy<'a, T: Clone>(
    entry: &'a mut Option<NodeRef<T>>,
    span: Span,
    reservation: &mut NodeReservation<T>,
) -> Result<&'a mut Node<T>, NotEnough> {
    match entry {
        Some(node) => node,
        None => entry.insert(reservation.take(span.level())?.into()),
    }
    .unshare(span.level(), reservation)
}

/// Takes everything in [first, last] out from below `entry`, and returns it below one node. With `is_known`, there is something.
///
/// That node is fit for dropping only: it can hold more than what was taken out, and its parts need
/// not be where they were.
fn remove<T: Clone>(
    entry: &mut Option<NodeRef<T>>,
    span: Span,
    (first, last): (u64, u64),
    is_known: bool,
    reservation: &mut NodeReservation<T>,
) -> Result<Option<NodeRef<T>>, NotEnough> {
    if span.is_within(first, last) {
        return Ok(entry.take());
    }
    let Some(node) = entry else {
        return Ok(None);
    };
    if !is_known && !any_in(node, span, first, last) {
        return Ok(None);
    }
    if all_in(node, span, first, last) {
        return Ok(entry.take());
    }
    if node.is_unique() {
        split(node, span, (first, last), reservation)
    } else {
        let rest = copy_outside(node, span, (first, last), reservation)?;
        Ok(entry.replace(rest))
    }
}

/// Makes a copy of `node` without what is in [first, last].
fn copy_outside<T: Clone>(
    node: &NodeRef<T>,
    span: Span,
    (first, last): (u64, u64),
    reservation: &mut NodeReservation<T>,
) -> Result<NodeRef<T>, NotEnough> {
    let wanted = span.slots(first, last);
    let mut rest = reservation.take(span.level())?;
    match (&node.entries, &mut rest.entries) {
        (NodeEntries::Leaf(from), NodeEntries::Leaf(to)) => to.clone_from(from, !wanted),
        (NodeEntries::Inner(from), NodeEntries::Inner(to)) => {
            to.clone_from(from, !wanted);
            for (slot, child) in from.iter(wanted) {
                let span = span.child(slot);
                if !span.is_within(first, last) {
                    let mut child = Some(child.clone());
                    // What this returns, `node` keeps anyway.
                    remove(&mut child, span, (first, last), false, reservation)?;
                    to.update(slot, |entry| *entry = child);
                }
            }
        }
        _ => {} // Never: the level decides the kind.
    }
    Ok(rest.into())
}

/// Moves what is in [first, last] from below `node`, which is unshared, below one that is returned.
fn split<T: Clone>(
    node: &mut NodeRef<T>,
    span: Span,
    (first, last): (u64, u64),
    reservation: &mut NodeReservation<T>,
) -> Result<Option<NodeRef<T>>, NotEnough> {
    let wanted = span.slots(first, last);
    match &mut node.unshare(span.level(), reservation)?.entries {
        NodeEntries::Leaf(from) => {
            let mut removed = reservation.take(span.level())?;
            if let NodeEntries::Leaf(to) = &mut removed.entries {
                for slot in slots(from.present() & wanted) {
                    let value = from.update(slot, Option::take);
                    to.update(slot, |entry| *entry = value);
                }
            }
            Ok(Some(removed.into()))
        }
        NodeEntries::Inner(from) => {
            let wanted = from.present() & wanted;
            let is_one = wanted.is_power_of_two();
            let mut take = |slot, reservation: &mut NodeReservation<T>| {
                let span = span.child(slot);
                from.update(slot, |entry| {
                    remove(entry, span, (first, last), is_one, reservation)
                })
            };
            if is_one {
                return take(wanted.trailing_zeros() as usize, reservation);
            }
            let mut removed = reservation.take(span.level())?;
            if let NodeEntries::Inner(to) = &mut removed.entries {
                for slot in slots(wanted) {
                    let child = take(slot, reservation)?;
                    to.update(slot, |entry| *entry = child);
                }
            }
            Ok(Some(removed.into()))
        }
    }
}

/// Puts what is in [first, last] below `node` below `entry`, too, which is at the same span and
/// has nothing in that range. With `is_known`, there is something.
fn share<T: Clone>(
    node: &NodeRef<T>,
    span: Span,
    (first, last): (u64, u64),
    entry: &mut Option<NodeRef<T>>,
    is_known: bool,
    reservation: &mut NodeReservation<T>,
) -> Result<(), NotEnough> {
    if !is_known && !any_in(node, span, first, last) {
        return Ok(());
    }
    if entry.is_none() && all_in(node, span, first, last) {
        *entry = Some(node.clone());
        return Ok(());
    }
    let wanted = span.slots(first, last);
    match (
        &node.entries,
        &mut occupy(entry, span, reservation)?.entries,
    ) {
        (NodeEntries::Leaf(from), NodeEntries::Leaf(to)) => {
            for (slot, value) in from.iter(wanted) {
                to.update(slot, |entry| *entry = Some(value.clone()));
            }
        }
        (NodeEntries::Inner(from), NodeEntries::Inner(to)) => {
            let is_one = (from.present() & wanted).is_power_of_two();
            for (slot, child) in from.iter(wanted) {
                let span = span.child(slot);
                to.update(slot, |entry| {
                    share(child, span, (first, last), entry, is_one, reservation)
                })?;
            }
        }
        _ => {} // Never: the level decides the kind.
    }
    Ok(())
}

#[kernel::prelude::kunit_tests(anon_rmap_radix_tree)]
mod tests {
    use super::*;
    use kernel::{
        alloc::AllocError,
        prelude::*, //
    };

    /// A tree that has each of `indices` as its own value, and a reservation that will do for a change.
    fn tree_of(indices: &[u64]) -> Result<(RadixTree<u64>, NodeReservation<u64>), AllocError> {
        let mut tree = RadixTree::new();
        let mut reservation = NodeReservation::new();
        for &index in indices {
            reservation.reserve(tree.nodes_for_insert(index), GFP_KERNEL)?;
            let _ = tree.insert(index, index, &mut reservation);
        }
        reservation.reserve(22, GFP_KERNEL)?;
        Ok((tree, reservation))
    }

    /// Whether `tree` has just `indices`, each as its own value.
    fn holds(tree: &RadixTree<u64>, indices: &[u64]) -> bool {
        let found = tree.iter_range(0, u64::MAX);
        let found = found.map(|(index, slot)| (index, *slot.value));
        let get = |index: u64| tree.get(index).map(|slot| *slot.value);
        tree.verify()
            && tree.count_range(0, u64::MAX) == indices.len() as u64
            && found.eq(indices.iter().map(|&index| (index, index)))
            && indices.iter().all(|&index| get(index) == Some(index))
    }

    #[test]
    fn grows_with_the_largest_index() -> Result<(), AllocError> {
        let indices = [0, 63, 64, 4095, 4096, 1 << 40, u64::MAX];
        let (mut tree, mut reservation) = tree_of(&indices)?;
        assert!(holds(&tree, &indices));
        assert!(tree.get(1).is_none() && tree.get(1 << 50).is_none());
        assert_eq!(tree.insert(63, 5, &mut reservation), Ok(Some(63)));
        assert_eq!(tree.nodes_for_insert(62), 0);
        Ok(())
    }

    #[test]
    fn only_what_is_empty_and_unshared_is_filled() -> Result<(), AllocError> {
        let (mut tree, _) = tree_of(&[0, 64])?;
        tree.settle(0, 64, |_, _| true);
        assert!(!tree.fill(64, || 1) && !tree.fill(128, || 1));
        assert_eq!(tree.next_unsettled(0, u64::MAX), None);
        assert!(tree.fill(65, || 65));
        assert_eq!(tree.next_unsettled(0, u64::MAX), Some((64, 65)));
        let clone = tree.clone();
        assert!(!tree.fill(1, || 1));
        drop(clone);
        assert!(holds(&tree, &[0, 64, 65]));
        Ok(())
    }

    #[test]
    fn a_write_to_a_clone_copies_only_its_path() -> Result<(), AllocError> {
        let indices = [0, 64, 128, 4096];
        let (tree, mut reservation) = tree_of(&indices)?;
        let mut clone = tree.clone();
        assert!(clone.get(64).is_some_and(|slot| !slot.unshared));
        assert_eq!(clone.nodes_for_insert(64), 3);
        assert_eq!(clone.insert(64, 1, &mut reservation), Ok(Some(64)));
        assert_eq!(clone.next_unsettled(0, u64::MAX), Some((64, 64)));
        assert_eq!(clone.next_unsettled(65, u64::MAX), None);
        // The other tree's leaf is its own now, too.
        assert!(tree.get(64).is_some_and(|slot| slot.unshared));
        assert!(tree.get(0).is_some_and(|slot| !slot.unshared));
        assert!(holds(&tree, &indices));
        Ok(())
    }

    #[test]
    fn settled_is_what_nobody_has_changed_or_used() -> Result<(), AllocError> {
        let (mut tree, mut reservation) = tree_of(&[0, 1, 64, 128])?;
        // All of the first leaf, the second but for what has to be looked at again, and a part of the third.
        let mut seen = 0;
        tree.settle(0, 128, |index, _| {
            seen += 1;
            index != 64
        });
        assert_eq!(seen, 4);
        assert_eq!(tree.next_unsettled(0, u64::MAX), Some((64, 64)));
        assert_eq!(tree.next_unsettled(65, u64::MAX), None);
        assert!(tree.get(1).is_some_and(|slot| {
            slot.unsettle();
            true
        }));
        assert_eq!(tree.next_unsettled(0, u64::MAX), Some((0, 64)));
        assert!(tree.insert(129, 129, &mut reservation).is_ok());
        assert_eq!(tree.next_unsettled(65, u64::MAX), Some((128, 129)));
        tree.settle(128, 128, |_, _| true);
        assert_eq!(tree.next_unsettled(65, u64::MAX), Some((128, 129)));
        Ok(())
    }

    #[test]
    fn removal_from_a_clone_leaves_the_original() -> Result<(), AllocError> {
        let indices = [0, 60, 70, 130, 200, 4100];
        let (tree, mut reservation) = tree_of(&indices)?;
        let mut clone = tree.clone();
        let removed = clone.remove_range(60, 150, &mut reservation);
        assert!(removed.is_ok());
        assert!(holds(&clone, &[0, 200, 4100]));
        assert!(holds(&tree, &indices));
        assert!(clone.remove_range(0, u64::MAX, &mut reservation).is_ok());
        assert!(holds(&clone, &[]));
        Ok(())
    }

    #[test]
    fn what_was_removed_keeps_its_references_until_dropped() -> Result<(), AllocError> {
        let (mut tree, mut reservation) = tree_of(&[1, 2, 3, 64, 65])?;
        let clone = tree.clone();
        let removed = tree.remove_range(2, 65, &mut reservation);
        assert!(clone.get(64).is_some_and(|slot| !slot.unshared));
        drop(removed);
        assert!(clone.get(64).is_some_and(|slot| slot.unshared));
        assert!(holds(&tree, &[1]));
        assert!(holds(&clone, &[1, 2, 3, 64, 65]));
        Ok(())
    }

    #[test]
    fn a_range_shared_with_a_tree_of_another_height_is_shared_by_reference(
    ) -> Result<(), AllocError> {
        let (tree, mut reservation) = tree_of(&[10, 64, 65, 127, 128, 140])?;
        let (mut into, _) = tree_of(&[5, 1 << 30])?;
        let nodes = into.node_count();
        assert_eq!(
            tree.share_range(10, 130, &mut into, &mut reservation),
            Ok(())
        );
        assert!(holds(&into, &[5, 10, 64, 65, 127, 128, 1 << 30]));
        // One leaf is shared, one was there, one is new.
        assert_eq!(into.node_count(), nodes + 2);
        assert!(into.get(64).is_some_and(|slot| !slot.unshared));
        assert!(into.get(128).is_some_and(|slot| slot.unshared));
        assert!(holds(&tree, &[10, 64, 65, 127, 128, 140]));
        Ok(())
    }

    #[test]
    fn without_enough_nodes_nothing_changes() -> Result<(), AllocError> {
        let indices = [0, 1, 64];
        let (tree, _) = tree_of(&indices)?;
        let mut clone = tree.clone();
        let mut reservation = NodeReservation::new();
        reservation.reserve(1, GFP_KERNEL)?;
        assert_eq!(clone.insert(1, 7, &mut reservation), Err(7));
        assert!(clone.remove_range(1, 1, &mut reservation).is_err());
        assert_eq!(
            tree.share_range(0, 0, &mut RadixTree::new(), &mut reservation),
            Err(NotEnough)
        );
        assert_eq!(reservation.len(), 1);
        assert!(holds(&clone, &indices));
        Ok(())
    }
}
