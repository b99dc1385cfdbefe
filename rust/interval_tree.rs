// SPDX-License-Identifier: GPL-2.0-only

//! An interval tree: which of many intervals, that may overlap, overlap a given one?
//!
//! Memory is reserved first ([`Reserved`], which can fail), then linked ([`IntervalTree::insert`],
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
//! Measured beside Linux's template on one machine (a Xeon with 2 MiB of second-level cache for each core, gcc 14,
//! rustc 1.85), time of this tree divided by that of the template, with the interval in the node / through
//! a pointer. The range is that of disjoint, nested and shared intervals; an update shrinks an
//! interval, as a split of a VMA does:
//!
//! | intervals | stab                  | insert                | update                | remove                |
//! | --------- | --------------------- | --------------------- | --------------------- | --------------------- |
//! | 1,000     | 0.61-0.70 / 0.46-0.57 | 0.27-0.44 / 0.20-0.33 | 0.28-0.34 / 0.23-0.27 | 0.36-0.49 / 0.31-0.44 |
//! | 10,000    | 0.49-0.57 / 0.26-0.36 | 0.26-0.29 / 0.15-0.17 | 0.23-0.28 / 0.14-0.18 | 0.37-0.49 / 0.25-0.33 |
//! | 100,000   | 0.37-0.48 / 0.15-0.21 | 0.28-0.32 / 0.11-0.13 | 0.22-0.29 / 0.10-0.13 | 0.47-0.64 / 0.21-0.31 |
//! | 1,000,000 | 0.29-0.54 / 0.19-0.26 | 0.26-0.29 / 0.14-0.15 | 0.16-0.23 / 0.08-0.13 | 0.34-0.55 / 0.23-0.37 |
//!
//! Instructions in the kernel, which know nothing of caches and mispredicted branches, divided by
//! those of the kernel's `interval_tree_*`. A move is an update to a random other place:
//!
//! | intervals | stab      | insert    | update    | move      | remove    | build     |
//! | --------- | --------- | --------- | --------- | --------- | --------- | --------- |
//! | 1,024     | 0.65-0.89 | 0.79-0.87 | 0.27-0.48 | 0.86-0.93 | 0.90-0.99 | 0.87-1.00 |
//! | 4,096     | 0.64-0.89 | 0.83-0.90 | 0.25-0.46 | 0.93-0.96 | 0.89-0.91 | 0.86-0.98 |
//! | 65,536    | 0.63-0.92 | 0.80-0.87 | 0.23-0.38 | 0.86-0.90 | 0.56-0.85 | 0.82-0.92 |
//!
//! What costs most is to split a leaf: some 280 instructions for every tenth insertion into a growing
//! tree, which is why a small one takes almost as many to build as the red-black tree. A removal looks for another
//! end that is as great, and first behind what is removed, where there mostly is one: to look at all ends in the
//! order of slots has a branch that nobody can predict, and took twice as long. A stab is limited by one such branch for
//! each level, and by two cache misses there, one after the other, for the ends
//! and for the pointer. Ends and pointers in one array were measured to save a twentieth of its time
//! at a million intervals, and to take a fifth more instructions; to choose the child without a
//! branch takes a third more. `make bench-tree` measures all this.
//!
//! # Memory
//!
//! A [`Reserved`] holds the memory of its value and one node, since it does not know what tree it
//! will be linked in. The tree keeps as many nodes as its number of intervals can ever need, one in
//! four, which is 128 bytes for each interval with the kernel's allocator; the others come back as
//! [`Surplus`]. With the C library's allocator, reserving and freeing take up to 2.5 times as long
//! as for a node of the red-black tree; they are done outside of the lock.
//!
//! # Examples
//!
//! ```
//! # use interval_tree::interval_tree::{Interval, IntervalTree, Reserved};
//! # use kernel::prelude::*;
//! let mut tree = IntervalTree::new();
//! let reserved = Reserved::new("first", GFP_KERNEL)?;
//! let interval = Interval::new(10, 19).ok_or(EINVAL)?;
//! let (link, _) = tree.insert(reserved, interval);
//!
//! let (found, value) = tree.overlapping(Interval::point(15)).next().ok_or(ENOENT)?;
//! assert_eq!((found, *value), (interval, "first"));
//!
//! let removed = tree.remove(link).map_err(|_| EINVAL)?;
//! assert_eq!(removed.into_inner(), "first");
//! # Ok::<(), Error>(())
//! ```

mod node;
mod order;
mod overlapping;
mod raw;
mod tests;
mod verify;

pub use overlapping::{
    Cursor,
    Overlapping, //
};
pub use verify::Violation;

use core::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*, //
};
use node::{
    Hook,
    Node,
    Ptr, //
};
use raw::RawTree;

/// The integers from `start` to `last`, both included.
///
/// # Invariants
///
/// `start` is not greater than `last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    start: u64,
    last: u64,
}

impl Interval {
    /// All integers.
    // INVARIANT: Zero is the least.
    pub const ALL: Self = Self {
        start: 0,
        last: u64::MAX,
    };

    /// The integers from `start` to `last`, both included; none if `start` is greater than `last`.
    #[inline]
    pub const fn new(start: u64, last: u64) -> Option<Self> {
        if start > last {
            return None;
        }
        // INVARIANT: Checked just now.
        Some(Self { start, last })
    }

    /// One integer.
    #[inline]
    pub const fn point(at: u64) -> Self {
        // INVARIANT: They are equal.
        Self {
            start: at,
            last: at,
        }
    }

    /// The first integer.
    #[inline]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The last integer.
    #[inline]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Whether an integer is in both.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Whether all integers of `other` are in this one.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }
}

/// What is linked: a value, and where the tree has it.
#[repr(C)]
struct Entry<T> {
    // First, so that a pointer to it is one to the entry.
    hook: Hook,
    value: T,
}

/// A value with all the memory that its insertion into any tree needs.
pub struct Reserved<T> {
    entry: KBox<Entry<T>>,
    node: KBox<Node>,
}

impl<T> Reserved<T> {
    /// Reserves memory for `value`.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if there is no memory; `value` is dropped.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        let hook = Hook {
            leaf: Ptr::dangling(),
            slot: 0,
            serial: 0,
        };
        Ok(Self {
            entry: KBox::new(Entry { hook, value }, flags)?,
            node: KBox::new(Node::EMPTY, flags)?,
        })
    }
}

impl<T> Deref for Reserved<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.entry.value
    }
}

/// Reserved memory that an insertion turned out not to need. Best dropped after the tree's lock.
pub struct Surplus(#[expect(dead_code, reason = "it is for its drop")] Option<KBox<Node>>);

/// A value that was in a tree, with its memory and what the tree had to spare. It can be dropped after
/// the tree's lock.
pub struct Removed<T> {
    entry: KBox<Entry<T>>,
    _node: Option<KBox<Node>>,
}

impl<T> Removed<T> {
    /// Takes the value out and frees the memory.
    pub fn into_inner(self) -> T {
        KBox::into_inner(self.entry).value
    }
}

impl<T> Deref for Removed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.entry.value
    }
}

/// Stands for one linked value: the right to change its interval and to remove it.
///
/// There is one of it for each value in a tree, and only the tree that made it accepts it. Without it, as
/// when it is dropped, the value stays linked until the tree is dropped.
///
/// # Invariants
///
/// If the tree whose number is `tree` exists, `entry` points to an [`Entry`] linked in it, and no other
/// `Linked` does.
#[must_use = "without it, what is linked can no longer be removed"]
pub struct Linked<T> {
    entry: Ptr<Entry<T>>,
    tree: u64,
    _value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Linked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linked").finish_non_exhaustive()
    }
}

/// The [`Linked`] is of another tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForeignLink;

/// A tree of intervals, each with a value.
///
/// The tree owns what is linked, and drops it when it is dropped.
///
/// # Invariants
///
/// The hooks in `raw` are those of `Entry<T>`s, whose memory came from a `KBox` each and that belong to
/// the tree.
pub struct IntervalTree<T> {
    raw: RawTree,
    _entries: PhantomData<Entry<T>>,
}

impl<T> IntervalTree<T> {
    /// An empty tree, without memory.
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
    pub fn insert(&mut self, reserved: Reserved<T>, interval: Interval) -> (Linked<T>, Surplus) {
        let Reserved { entry, node } = reserved;
        let entry = Ptr::new(NonNull::from(KBox::leak(entry)));
        // INVARIANT: The hook is that of an entry, which belongs to the tree from now on.
        let surplus = self.raw.insert(entry.cast(), node, interval);
        // INVARIANT: The entry has just been linked, so this is the first `Linked` for it.
        let link = Linked {
            entry,
            tree: self.raw.number(),
            _value: PhantomData,
        };
        (link, Surplus(surplus))
    }

    /// Unlinks a value.
    ///
    /// O(log n). It does not sleep and frees nothing.
    ///
    /// # Errors
    ///
    /// Gives `link` back if it is of another tree.
    pub fn remove(&mut self, link: Linked<T>) -> Result<Removed<T>, Linked<T>> {
        if self.entry(&link).is_err() {
            return Err(link);
        }
        let _node = self.raw.remove(link.entry.cast());
        // SAFETY: The entry came from a `KBox`, and is neither in the tree any more nor, as `link` ends
        // here, anybody's.
        let entry = unsafe { KBox::from_raw(link.entry.as_ptr()) };
        Ok(Removed { entry, _node })
    }

    /// Gives a value another interval. If its start changes, it then comes last among equal starts.
    ///
    /// O(log n), O(1) if what is in front and behind stays so and the end is not the greatest around. It
    /// does not allocate, does not sleep and frees nothing.
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    pub fn update(&mut self, link: &Linked<T>, interval: Interval) -> Result<(), ForeignLink> {
        self.entry(link)?;
        self.raw.update(link.entry.cast(), interval);
        Ok(())
    }

    /// The interval of a value. O(1).
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    pub fn interval(&self, link: &Linked<T>) -> Result<Interval, ForeignLink> {
        self.entry(link)?;
        Ok(self.raw.interval(link.entry.cast()))
    }

    /// A value. O(1).
    ///
    /// # Errors
    ///
    /// [`ForeignLink`] if `link` is of another tree.
    pub fn value(&self, link: &Linked<T>) -> Result<&T, ForeignLink> {
        Ok(&self.entry(link)?.value)
    }

    #[inline]
    fn entry(&self, link: &Linked<T>) -> Result<&Entry<T>, ForeignLink> {
        if link.tree != self.raw.number() {
            return Err(ForeignLink);
        }
        // SAFETY: By the invariant of `Linked`, and no two trees have one number.
        Ok(unsafe { &*link.entry.as_ptr() })
    }

    /// The intervals that overlap `range`.
    ///
    /// With n intervals in the tree and k found, a query visits O(log n + k) nodes if those found lie together, as
    /// those around a point mostly do, and never more than O(log n) for each.
    #[inline]
    pub fn overlapping(&self, range: Interval) -> Overlapping<'_, T> {
        Overlapping::new(&self.raw, range)
    }

    /// Those of the intervals that overlap `range` that come behind `cursor` in the order of all: to go on with
    /// a query in another critical section.
    ///
    /// What was in front of the cursor and has got a later start since is found once more. Nothing is left out
    /// unless its start has become an earlier one.
    ///
    /// The first one takes O(log n log n), the others what they take in [`overlapping`](Self::overlapping).
    pub fn overlapping_behind(&self, range: Interval, cursor: Cursor) -> Overlapping<'_, T> {
        Overlapping::behind(&self.raw, range, cursor)
    }

    /// All intervals.
    #[inline]
    pub fn iter(&self) -> Overlapping<'_, T> {
        self.overlapping(Interval::ALL)
    }

    /// The interval that starts first. O(log n).
    pub fn first(&self) -> Option<(Interval, &T)> {
        self.iter().next()
    }

    /// The interval that starts last. O(log n).
    pub fn last(&self) -> Option<(Interval, &T)> {
        let slot = self.raw.last()?;
        // SAFETY: By the type invariant the hook is an entry's, which lives as long as it is linked.
        let entry: &Entry<T> = unsafe { &*slot.hook().cast().as_ptr() };
        Some((slot.interval(), &entry.value))
    }

    /// How many intervals there are. O(1).
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there is none. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks order, augmentation, balance, links and counts. O(n).
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found.
    pub fn verify(&self) -> Result<(), Violation> {
        self.raw.verify()
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
