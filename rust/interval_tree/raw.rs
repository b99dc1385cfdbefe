// SPDX-License-Identifier: GPL-2.0-only

//! The tree proper. It links [`Hook`]s and knows nothing of what they are part of.

use super::{
    interval::Interval,
    node::{
        Hook,
        HookPtr,
        Link,
        Node,
        NodePtr,
        Slot,
        HALF,
        MIN_INNER,
        MIN_LEAF,
        MOST_MERGED,
        UNUSED_START, //
    },
    ptr::{
        Borrow,
        BorrowMut,
        Exclusive,
        Ptr,
        Shared,
        Stored, //
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    warn_on, //
};

/// More than the nodes but the root that an interval can need, in 256ths.
///
/// A leaf has [`MIN_LEAF`] slots or more, an inner node [`MIN_INNER`]. So there are at most `len / MIN_LEAF` leaves, a `MIN_INNER`th of
/// that right above them, and so on.
const SHARE: u8 = 50;

const _: () = assert!(SHARE as usize * MIN_LEAF * (MIN_INNER - 1) > 256 * MIN_INNER);

/// An upper bound of the nodes that `len` intervals can need.
///
/// It grows by at most one with each interval, which is why a reservation with one node suffices: the tree keeps nodes up to this
/// bound and gives back the others.
pub(super) fn most_nodes(len: usize) -> usize {
    (len * usize::from(SHARE)).div_ceil(256)
}

/// What is left over of the last node of [`most_nodes`], in 256ths less one: it wraps around when that changes.
const fn shares(len: usize) -> u8 {
    (len as u8).wrapping_mul(SHARE).wrapping_sub(1)
}

/// The number of a tree that has had no interval yet. No other has it.
const NO_NUMBER: u64 = u64::MAX;

/// The number that no tree has.
const NO_TREE: u64 = 0;

/// A number that no tree has had.
fn new_number() -> u64 {
    static NEXT: Atomic<u64> = Atomic::<u64>::new(NO_TREE + 1);

    // 64 bits do not wrap.
    NEXT.fetch_add(1, Relaxed)
}

/// Points `link` back to `slot` of `node`, which links it.
///
/// # Safety
///
/// The tree is borrowed mutably, and no reference to what is linked exists.
#[inline]
unsafe fn point_back<B: BorrowMut>(link: Link<B>, node: NodePtr<B>, slot: usize) {
    match link {
        Link::Hook(hook) => {
            // SAFETY: By the precondition.
            let hook = unsafe { hook.as_non_null().as_mut() };
            hook.leaf = Some(node);
            hook.slot = slot;
        }
        // SAFETY: By the precondition.
        Link::Child(child) => unsafe { child.as_non_null().as_mut() }.parent = Some(node),
    }
}

/// A B+-tree of hooks, borrowed by `B`.
///
/// # Invariants
///
/// - `B` allows to follow its pointers, those in its nodes, spare ones included, and those in linked hooks. All point to
///   nodes of this tree and to hooks that are linked in it.
/// - Spare nodes use no slot, and nothing but their chain points to them.
/// - Each node came from a `KBox`. There are [`most_nodes`]`(len)` of them, spare ones included; `shares` is [`shares`]`(len)`.
/// - What is below a slot of an inner node starts where the slot does, or later, and not behind where the next slot
///   starts. The slot's `last` is the greatest one in the child.
/// - No other tree, of now or of the past, has the same `number`, unless that is [`NO_NUMBER`].
/// - Whoever has got that number at an insertion finds that hook linked, unless it was removed.
/// - Hooks are in the order of (start, serial), and no serial is greater than that of the tree.
#[repr(C)]
pub(super) struct Tree<B> {
    root: Option<NodePtr<B>>,
    /// Unused nodes, chained by `parent`.
    spare: Option<NodePtr<B>>,
    len: usize,
    /// The [`shares`] of `len`, so that an insertion knows whether its node is needed.
    shares: u8,
    number: u64,
    serial: u64,
}

/// A tree to be borrowed.
///
/// # Invariants
///
/// Whoever borrows it has borrowed its nodes and the hooks linked in it: nobody else accesses these. Apart from that, the
/// invariants of [`Tree`].
pub(super) struct RawTree(Tree<Stored>);

impl RawTree {
    pub(super) const fn new() -> Self {
        // INVARIANT: No pointers, no nodes, no intervals.
        Self(Tree {
            root: None,
            spare: None,
            len: 0,
            shares: shares(0),
            number: NO_NUMBER,
            serial: 0,
        })
    }

    /// The tree, to read.
    #[inline]
    pub(super) fn shared(&self) -> &Tree<Shared<'_>> {
        // SAFETY: The types differ only in the borrow, which by the type invariant is one of all that pointers lead to.
        unsafe { NonNull::from(&self.0).cast().as_ref() }
    }

    /// Calls `change` with the tree.
    #[inline]
    fn exclusive<R>(&mut self, change: impl for<'t> FnOnce(&mut Tree<Exclusive<'t>>) -> R) -> R {
        // SAFETY: The types differ only in the borrow, which by the type invariant is one of all that pointers lead to; `change` knows
        // of no other pointers with its lifetime.
        change(unsafe { NonNull::from(&mut self.0).cast().as_mut() })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len
    }

    /// A number that no other tree has, unless it has had no interval yet.
    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    /// Links `hook`. Returns the tree's number, and the memory that the tree does not need.
    ///
    /// As long as this is the tree's number, the hook is linked in it, unless it is removed.
    ///
    /// # Safety
    ///
    /// The hook is valid and in no tree. Until it is removed, only who borrows this tree accesses it.
    #[inline]
    pub(super) unsafe fn insert(
        &mut self,
        hook: NonNull<Hook<Stored>>,
        node: KBox<Node<Stored>>,
        interval: Interval,
    ) -> (u64, Option<KBox<Node<Stored>>>) {
        self.exclusive(|tree| {
            let needs_node;
            (tree.shares, needs_node) = tree.shares.overflowing_add(SHARE);
            tree.len = tree.len.wrapping_add(1);
            let surplus = if needs_node {
                tree.keep(node);
                None
            } else {
                Some(node)
            };
            // SAFETY: By the precondition.
            let number = tree.link(unsafe { Ptr::new(hook.cast()) }, interval);
            (number, surplus)
        })
    }

    /// Unlinks `hook`, and returns the memory that the tree needs no more.
    ///
    /// # Safety
    ///
    /// The hook is linked here.
    #[inline]
    pub(super) unsafe fn remove(
        &mut self,
        hook: NonNull<Hook<Stored>>,
    ) -> Option<KBox<Node<Stored>>> {
        let frees_node = self.exclusive(|tree| {
            // SAFETY: By the precondition, the tree accesses it alone.
            let hook = tree.hook(unsafe { Ptr::new(hook.cast()) });
            // SAFETY: By the precondition.
            let leaf = unsafe { hook.leaf.unwrap_unchecked() };
            tree.unlink(leaf, hook.slot);
            tree.uncount()
        });
        if frees_node {
            self.give_back()
        } else {
            None
        }
    }

    /// Gives up a spare node.
    #[inline]
    fn give_back(&mut self) -> Option<KBox<Node<Stored>>> {
        let spare = self.exclusive(|tree| Some(tree.pop_spare()?.as_non_null().cast()))?;
        // SAFETY: It came from a `KBox`. Nothing in the tree points to it: it was spare, and is in that chain no more. Other
        // pointers to it have ended with the borrow.
        Some(unsafe { KBox::from_raw(spare.as_ptr()) })
    }

    /// Gives `hook` another interval.
    ///
    /// # Safety
    ///
    /// The hook is linked here.
    pub(super) unsafe fn update(&mut self, hook: NonNull<Hook<Stored>>, interval: Interval) {
        // SAFETY: By the precondition, the tree accesses it alone.
        self.exclusive(|tree| unsafe { tree.update(Ptr::new(hook.cast()), interval) })
    }

    /// The interval of `hook`.
    ///
    /// # Safety
    ///
    /// The hook is linked here.
    #[inline]
    pub(super) unsafe fn interval(&self, hook: NonNull<Hook<Stored>>) -> Interval {
        let tree = self.shared();
        // SAFETY: By the precondition, who borrows the tree has borrowed the hook.
        let hook = tree.hook(unsafe { Ptr::new(hook.cast()) });
        // SAFETY: By the precondition.
        let leaf = unsafe { hook.leaf.unwrap_unchecked() };
        tree.node(leaf).interval(hook.slot)
    }

    /// Takes all spare nodes away, which breaks the tree: for a test.
    #[cfg(test)]
    pub(super) fn lose_spare_nodes(&mut self) {
        while self.0.spare.is_some() {
            self.give_back();
        }
    }

    /// Empties the tree: hands each hook over, and frees the nodes.
    pub(super) fn clear(&mut self, mut each: impl FnMut(NonNull<Hook<Stored>>)) {
        let tree = core::mem::replace(self, Self::new()).0;
        if let Some(root) = tree.root {
            // SAFETY: The tree that owned the nodes is gone, and nobody else knows of them.
            unsafe { Self::free(root.as_non_null(), &mut each) };
        }
        let mut spare = tree.spare;
        while let Some(node) = spare {
            // SAFETY: The tree that owned the spare nodes is gone, and none of them was linked below the root.
            let node = unsafe { KBox::from_raw(node.as_non_null().as_ptr()) };
            spare = node.parent;
        }
    }

    /// Frees `node` and what is below. The recursion is as deep as the tree is high.
    ///
    /// # Safety
    ///
    /// These nodes came from a `KBox` each, and nobody else follows pointers to them.
    unsafe fn free(node: NonNull<Node<Stored>>, each: &mut impl FnMut(NonNull<Hook<Stored>>)) {
        // SAFETY: By the precondition.
        let node = unsafe { KBox::from_raw(node.as_ptr()) };
        for link in node.links() {
            if node.is_leaf() {
                each(link.cast());
            } else {
                // SAFETY: By the precondition; an inner node links nodes.
                unsafe { Self::free(link.cast(), each) };
            }
        }
    }
}

impl<B: Borrow> Tree<B> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn root(&self) -> Option<NodePtr<B>> {
        self.root
    }

    /// Reads a node.
    #[inline]
    pub(super) fn node(&self, ptr: NodePtr<B>) -> &Node<B> {
        // SAFETY: By the invariant of `Ptr`: nodes are written to only with the tree borrowed mutably.
        unsafe { ptr.as_non_null().as_ref() }
    }

    /// Reads a hook.
    #[inline]
    pub(super) fn hook(&self, ptr: HookPtr<B>) -> &Hook<B> {
        // SAFETY: By the invariant of `Ptr`: hooks are written to only with the tree borrowed mutably.
        unsafe { ptr.as_non_null().as_ref() }
    }

    /// The parent of `node` and its slot there; none for the root.
    #[inline]
    pub(super) fn place(&self, node: NodePtr<B>) -> Option<(NodePtr<B>, usize)> {
        let parent = self.node(node).parent?;
        let slot = self.node(parent).slot_of(node);
        warn_on!(slot.is_none());
        Some((parent, slot?))
    }

    pub(super) fn spare_nodes(&self) -> usize {
        core::iter::successors(self.spare, |node| self.node(*node).parent).count()
    }

    /// Whether an interval can start at `start`, where it does not yet, without leaving its place.
    #[inline]
    fn fits(&self, leaf: NodePtr<B>, slot: usize, start: u64) -> bool {
        let node = self.node(leaf);
        if start < node.start(slot) {
            // The first of a leaf is bounded by the nodes above, which must not start later.
            let previous = node.order().previous(slot);
            return previous.is_some_and(|previous| node.start(previous) <= start);
        }
        match node.order().next(slot) {
            Some(next) => start < node.start(next),
            None => self.start_behind(leaf).is_none_or(|next| start < next),
        }
    }

    /// Where what is behind `node` may start.
    fn start_behind(&self, mut node: NodePtr<B>) -> Option<u64> {
        loop {
            let (parent, slot) = self.place(node)?;
            let above = self.node(parent);
            if slot + 1 < above.len() {
                return Some(above.start(slot + 1));
            }
            node = parent;
        }
    }

    /// Whether there are spare nodes enough to split `node`, which is full: one for each full one from there up, and one for
    /// a root if all are full.
    fn can_split(&self, node: NodePtr<B>) -> bool {
        let mut spare = self.spare;
        let mut full = Some(node);
        while let Some(node) = full.filter(|node| self.node(*node).is_full()) {
            let Some(taken) = spare else {
                return false;
            };
            spare = self.node(taken).parent;
            full = self.node(node).parent;
        }
        full.is_some() || spare.is_some()
    }

    /// The slot by which an inner node links `node`.
    fn slot_for(&self, node: NodePtr<B>) -> Slot<B> {
        let this = self.node(node);
        Slot::for_child(node, this.start(this.nth(0)), this.greatest_last())
    }
}

impl<B: BorrowMut> Tree<B> {
    #[inline]
    fn node_mut(&mut self, ptr: NodePtr<B>) -> &mut Node<B> {
        // SAFETY: By the invariant of `Ptr`.
        unsafe { ptr.as_non_null().as_mut() }
    }

    /// Two nodes at once; none if they are the same.
    #[inline]
    fn two_nodes_mut(&mut self, one: NodePtr<B>, other: NodePtr<B>) -> Option<[&mut Node<B>; 2]> {
        if warn_on!(one == other) {
            return None;
        }
        // SAFETY: By the invariant of `Ptr`; they are distinct, so their borrows do not overlap.
        Some(unsafe { [one.as_non_null().as_mut(), other.as_non_null().as_mut()] })
    }

    #[inline]
    fn hook_mut(&mut self, ptr: HookPtr<B>) -> &mut Hook<B> {
        // SAFETY: By the invariant of `Ptr`.
        unsafe { ptr.as_non_null().as_mut() }
    }

    /// Takes a node into the tree, which uses no slot.
    fn keep(&mut self, node: KBox<Node<Stored>>) {
        let node = NonNull::from(KBox::leak(node)).cast();
        // SAFETY: Nobody else knows of it.
        self.put_spare(unsafe { Ptr::new(node) });
    }

    /// Keeps a node that uses no slot, and to which nothing points any more.
    fn put_spare(&mut self, node: NodePtr<B>) {
        let next = self.spare.replace(node);
        self.node_mut(node).parent = next;
    }

    fn pop_spare(&mut self) -> Option<NodePtr<B>> {
        warn_on!(self.spare.is_none());
        let node = self.spare?;
        self.spare = self.node(node).parent;
        Some(node)
    }

    /// Takes a spare node.
    ///
    /// There is one: with it, the tree uses no more nodes than it has by its invariant.
    fn take_spare(&mut self, level: usize) -> Option<NodePtr<B>> {
        let node = self.pop_spare()?;
        self.node_mut(node).make_fresh(level);
        Some(node)
    }

    /// Gives `hook` another interval.
    ///
    /// # Safety
    ///
    /// The hook is linked here.
    #[inline]
    unsafe fn update(&mut self, hook: HookPtr<B>, interval: Interval) {
        let this = self.hook(hook);
        // SAFETY: By the precondition.
        let (leaf, slot) = (unsafe { this.leaf.unwrap_unchecked() }, this.slot);
        if self.node(leaf).start(slot) != interval.start() {
            if !self.fits(leaf, slot, interval.start()) {
                self.unlink(leaf, slot);
                self.link(hook, interval);
                return;
            }
            // INVARIANT: It now comes last among equal starts, as in `link`.
            self.serial = self.serial.wrapping_add(1);
            self.hook_mut(hook).serial = self.serial;
        }
        let node = self.node_mut(leaf);
        let before = node.last(slot);
        node.set_interval(slot, interval);
        if interval.last() > before {
            self.raise_last(leaf, interval.last());
        } else {
            self.lower_last(leaf, before);
        }
    }

    /// Puts a slot for `hook` where `interval` belongs; returns the tree's number.
    #[inline]
    fn link(&mut self, hook: HookPtr<B>, interval: Interval) -> u64 {
        // INVARIANT: 64 bits do not wrap.
        self.serial = self.serial.wrapping_add(1);
        if interval.start() == UNUSED_START {
            return self.link_greatest(hook, interval);
        }
        // SAFETY: As it does not start there, it belongs below a slot in use.
        unsafe { self.link_below(hook, interval, Node::child_for, Node::rank_behind) }
    }

    /// [Links](Self::link) an interval that starts as late as can be.
    #[cold]
    fn link_greatest(&mut self, hook: HookPtr<B>, interval: Interval) -> u64 {
        let last = |node: &Node<B>, _| node.last_slot();
        // SAFETY: An inner node uses a slot.
        unsafe { self.link_below(hook, interval, last, |leaf, _| leaf.len()) }
    }

    /// [Links](Self::link) `hook`; `child` says below which slot of an inner node what starts somewhere belongs, and `rank`, at which
    /// rank of a leaf.
    ///
    /// # Safety
    ///
    /// An inner node uses the slot that `child` says.
    #[inline]
    unsafe fn link_below(
        &mut self,
        hook: HookPtr<B>,
        interval: Interval,
        child: impl Fn(&Node<B>, u64) -> usize,
        rank: impl Fn(&Node<B>, u64) -> usize,
    ) -> u64 {
        let Some(mut at) = self.root else {
            return self.link_first(hook, interval);
        };
        let mut node = self.node_mut(at);
        while !node.is_leaf() {
            let slot = child(node, interval.start());
            if node.last(slot) < interval.last() {
                node.set_last(slot, interval.last());
            }
            // SAFETY: This is an inner node, and uses the slot by the precondition.
            at = unsafe { node.child_unchecked(slot) };
            node = self.node_mut(at);
        }
        let rank = rank(node, interval.start());
        if node.is_full() {
            return self.split(at, rank, hook, interval);
        }
        let slot = node.put(rank, hook, interval);
        let serial = self.serial;
        // INVARIANT: It comes last among equal starts, and has the greatest serial.
        *self.hook_mut(hook) = Hook {
            leaf: Some(at),
            slot,
            serial,
        };
        self.number
    }

    /// [Links](Self::link) the first interval of a tree without nodes.
    #[cold]
    fn link_first(&mut self, hook: HookPtr<B>, interval: Interval) -> u64 {
        if self.number == NO_NUMBER {
            self.number = new_number();
        }
        self.root = self.take_spare(0);
        if self.root.is_none() {
            return self.leave_out(hook);
        }
        self.link(hook, interval)
    }

    /// Counts an interval less; says whether [`most_nodes`] is less, too.
    #[inline]
    fn uncount(&mut self) -> bool {
        let is_less;
        self.len = self.len.wrapping_sub(1);
        (self.shares, is_less) = self.shares.overflowing_sub(SHARE);
        is_less
    }

    /// Does without `hook`, since there are fewer nodes than by the invariants. All other intervals stay where they are.
    #[cold]
    fn leave_out(&mut self, hook: HookPtr<B>) -> u64 {
        warn_on!(true);
        self.uncount();
        if self.hook_mut(hook).leaf.take().is_some() {
            // INVARIANT: The number that came with this hook at its insertion is not the tree's any more.
            self.number = new_number();
        }
        NO_TREE
    }

    /// Puts a slot for `hook` at `rank` in the leaf `left`, which is full and so has to be split; and so on with
    /// those above.
    #[cold]
    fn split(
        &mut self,
        mut left: NodePtr<B>,
        mut rank: usize,
        hook: HookPtr<B>,
        interval: Interval,
    ) -> u64 {
        if !self.can_split(left) {
            return self.leave_out(hook);
        }
        let mut content = Slot::for_hook(hook, interval);
        // INVARIANT: As in `link_below`.
        self.hook_mut(hook).serial = self.serial;
        loop {
            let level = self.node(left).level();
            let Some(right) = self.take_spare(level) else {
                return self.leave_out(hook);
            };
            let Some([from, to]) = self.two_nodes_mut(left, right) else {
                return self.leave_out(hook);
            };
            let mut last = from.split_off(to, |link, slot| {
                // SAFETY: What they link is below them, and neither of the two.
                unsafe { point_back(link, right, slot) }
            });
            if rank <= HALF {
                self.put_slot(left, rank, content);
            } else {
                last = last.max(content.last);
                self.put_slot(right, rank - HALF, content);
            }
            let this = self.node(right);
            content = Slot::for_child(right, this.start(this.nth(0)), last);
            if level > 0 {
                self.node_mut(right).set_first_start(0);
            }

            let Some((parent, slot)) = self.place(left) else {
                let Some(root) = self.take_spare(level + 1) else {
                    return self.leave_out(hook);
                };
                let mut first = self.slot_for(left);
                first.start = 0;
                self.put_slot(root, 0, first);
                self.put_slot(root, 1, content);
                self.root = Some(root);
                break;
            };
            if content.last == self.node(parent).last(slot) {
                // Or else the greatest end has stayed on the left.
                self.refresh(parent, slot, left);
            }
            left = parent;
            rank = slot + 1;
            if !self.node(left).is_full() {
                self.put_slot(left, rank, content);
                break;
            }
        }
        self.number
    }

    /// Puts `content` at `rank` in `node`, which is not full.
    fn put_slot(&mut self, node: NodePtr<B>, rank: usize, content: Slot<B>) {
        let link = content.link;
        let slot = self.node_mut(node).insert(rank, content);
        // SAFETY: All references to what is in the tree borrow it.
        unsafe { point_back(link, node, slot) };
    }

    /// Brings the `last` of `node`'s slot in `parent` up to date.
    fn refresh(&mut self, parent: NodePtr<B>, slot: usize, node: NodePtr<B>) {
        let last = self.node(node).greatest_last();
        self.node_mut(parent).set_last(slot, last);
    }

    /// Tells the nodes above that `node` got an interval that ends at `last`.
    fn raise_last(&mut self, mut node: NodePtr<B>, last: u64) {
        while let Some((parent, slot)) = self.place(node) {
            let above = self.node_mut(parent);
            if above.last(slot) >= last {
                return;
            }
            above.set_last(slot, last);
            node = parent;
        }
    }

    /// Tells the nodes above that `leaf` lost an interval that ended at `last`.
    #[inline]
    fn lower_last(&mut self, leaf: NodePtr<B>, last: u64) {
        if !self.node(leaf).leaf_reaches(last) {
            self.lower_greatest(leaf, last);
        }
    }

    /// [Lowers](Self::lower_last) the end of any node, if that was the greatest below it.
    #[inline(never)]
    fn lower_greatest(&mut self, mut node: NodePtr<B>, last: u64) {
        while let Some((parent, slot)) = self.place(node) {
            self.refresh(parent, slot, node);
            if self.node(parent).reaches(last) {
                return;
            }
            node = parent;
        }
    }

    /// Empties a slot of a leaf.
    #[inline(always)] // so that an update looks for the slot in the leaf's order once
    fn unlink(&mut self, leaf: NodePtr<B>, slot: usize) {
        let node = self.node_mut(leaf);
        let last = node.last(slot);
        let next = node.take(slot);
        if node.len() < MIN_LEAF {
            self.refill(leaf, last);
        } else if node.last(next) < last {
            // What is behind mostly ends later, so that the processor can foresee that there is no more to do.
            self.lower_last(leaf, last);
        }
    }

    /// Gives `node`, which has too few slots, some of a neighbour, or the neighbour its own; and so on with
    /// those above. It has lost an interval that ended at `last`.
    #[cold]
    fn refill(&mut self, mut node: NodePtr<B>, last: u64) {
        loop {
            let Some((parent, slot)) = self.place(node) else {
                return self.shrink_root(node);
            };
            let above = self.node(parent);
            let left_slot = slot.saturating_sub(1);
            let right_slot = left_slot + 1;
            let (Some(left), Some(right)) = (above.child(left_slot), above.child(right_slot))
            else {
                // An inner node has two children.
                warn_on!(true);
                return;
            };
            let start = above.start(right_slot);
            let inner = above.level() > 1;
            let other_slot = left_slot + right_slot - slot;
            let (own, others) = (above.last(slot), above.last(other_slot));
            // What has gone was the greatest end of the node at most, and matters only if the neighbour has none as great.
            let greatest = if own > last || others >= last {
                own.max(others)
            } else {
                self.node(node).greatest_last().max(others)
            };
            if inner {
                self.node_mut(right).set_first_start(start);
            }
            if self.merge(left, right) {
                self.node_mut(parent).remove(right_slot);
                self.node_mut(parent).set_last(left_slot, greatest);
            } else {
                let moved = self.balance(left, right);
                let this = self.node(right);
                let start = this.start(this.nth(0));
                if inner {
                    self.node_mut(right).set_first_start(0);
                }
                let other = if slot == left_slot { right } else { left };
                self.node_mut(parent).set_start(right_slot, start);
                // The ends that are known need not be looked for.
                match moved {
                    moved if moved >= own => self.node_mut(parent).set_last(slot, moved),
                    _ if own > last => (),
                    _ => self.refresh(parent, slot, node),
                }
                if moved == others {
                    self.refresh(parent, other_slot, other);
                }
            }
            let above = self.node(parent);
            if !above.is_short() {
                if greatest < last && !above.reaches(last) {
                    self.lower_greatest(parent, last);
                }
                return;
            }
            node = parent;
        }
    }

    /// Takes a root that is of no use out of the tree.
    fn shrink_root(&mut self, root: NodePtr<B>) {
        if warn_on!(self.root != Some(root)) {
            return;
        }
        let node = self.node(root);
        match (node.child(0), node.len()) {
            (None, 0) => self.root = None,
            (Some(child), 1) => {
                self.node_mut(root).remove(0);
                self.node_mut(child).parent = None;
                self.root = Some(child);
            }
            _ => return,
        }
        self.put_spare(root);
    }

    /// Moves all of `right` to `left`, if that has room to spare. Then `right` is spare.
    fn merge(&mut self, left: NodePtr<B>, right: NodePtr<B>) -> bool {
        let Some([to, from]) = self.two_nodes_mut(left, right) else {
            return false;
        };
        let count = from.len();
        if to.len() + count > MOST_MERGED {
            return false;
        }
        // SAFETY: What they link is below them, and neither of the two.
        from.move_first(count, to, |link, slot| unsafe {
            point_back(link, left, slot)
        });
        self.put_spare(right);
        true
    }

    /// Makes neighbours equally long. Returns the greatest end that has moved.
    fn balance(&mut self, left: NodePtr<B>, right: NodePtr<B>) -> u64 {
        let Some([front, behind]) = self.two_nodes_mut(left, right) else {
            return 0;
        };
        let half = (front.len() + behind.len()) / 2;
        match front.len() {
            len if len > half => {
                // SAFETY: What `front` links is below it, and neither of the two.
                front.move_last(len - half, behind, |link, slot| unsafe {
                    point_back(link, right, slot)
                })
            }
            len => {
                // SAFETY: What `behind` links is below it, and neither of the two.
                behind.move_first(half - len, front, |link, slot| unsafe {
                    point_back(link, left, slot)
                })
            }
        }
    }
}
