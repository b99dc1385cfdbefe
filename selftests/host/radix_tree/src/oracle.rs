// SPDX-License-Identifier: GPL-2.0-only

//! Random operations on several trees that share their structure, each beside a `BTreeMap`.
//!
//! `RADIX_TREE_SEED` repeats a run, `RADIX_TREE_STEPS` makes it longer.

use crate::driver::radix_tree::{
    NodeReservation,
    RadixTree, //
};
use kernel::{
    alloc::{
        fail,
        AllocError, //
    },
    prelude::*, //
};
use std::{
    cell::Cell,
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    env,
    rc::Rc, //
};

/// A small generator of random numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

pub(crate) fn parameter(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A value that knows how many of it live, and which one it is.
struct Value {
    name: u64,
    /// The references from entries: what a page's share count is.
    shares: Rc<Cell<usize>>,
    live: Rc<Cell<usize>>,
}

impl Value {
    fn new(name: u64, live: &Rc<Cell<usize>>) -> Self {
        live.set(live.get() + 1);
        Self {
            name,
            shares: Rc::new(Cell::new(1)),
            live: live.clone(),
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.live.set(self.live.get() + 1);
        self.shares.set(self.shares.get() + 1);
        Self {
            name: self.name,
            shares: self.shares.clone(),
            live: self.live.clone(),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
        self.shares.set(self.shares.get() - 1);
    }
}

type Model = BTreeMap<u64, u64>;

/// Trees, each with its model.
struct World {
    random: Random,
    trees: Vec<(RadixTree<Value>, Model)>,
    /// The indices of each tree that were put in or used since they were settled.
    used: Vec<BTreeSet<u64>>,
    /// How many bits the indices of each tree have, so that the trees differ in height.
    bits: [u64; Self::TREES],
    live: Rc<Cell<usize>>,
    next_name: u64,
}

impl World {
    const TREES: usize = 6;

    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            trees: (0..Self::TREES).map(|_| Default::default()).collect(),
            used: vec![BTreeSet::new(); Self::TREES],
            bits: [6, 8, 12, 14, 18, 64],
            live: Rc::default(),
            next_name: 0,
        }
    }

    fn pick(&mut self) -> usize {
        self.random.below(Self::TREES as u64) as usize
    }

    /// An index for tree `at`: mostly small and close to others.
    fn index(&mut self, at: usize) -> u64 {
        let last = u64::MAX >> (64 - self.bits[at]);
        match self.random.below(16) {
            0 => self.random.next() & last,
            1 => last - self.random.below(100).min(last),
            2..6 => self.random.below(5000) & last,
            _ => self.random.below(200) & last,
        }
    }

    fn range(&mut self, at: usize) -> (u64, u64) {
        let first = self.index(at);
        match self.random.below(4) {
            0 => (first, first),
            1 => (first & !63, first | 63),
            2 => (first, first.saturating_add(self.random.below(500))),
            _ => {
                let other = self.index(at);
                (first.min(other), first.max(other))
            }
        }
    }

    /// Starts a tree afresh, with indices of any size.
    fn clear(&mut self) {
        let at = self.pick();
        self.bits[at] = 1 + self.random.below(64);
        self.trees[at] = Default::default();
        self.used[at].clear();
    }

    /// A reservation of `nodes` nodes, and for comparison one that has a node too few, if it can.
    fn pools(nodes: usize) -> (NodeReservation<Value>, Option<NodeReservation<Value>>) {
        let reservation = |nodes| {
            let mut reservation = NodeReservation::new();
            reservation.reserve(nodes, GFP_KERNEL).expect("memory");
            reservation
        };
        (reservation(nodes), nodes.checked_sub(1).map(reservation))
    }

    fn insert(&mut self) {
        let at = self.pick();
        let index = self.index(at);
        self.next_name += 1;
        let name = self.next_name;
        let mut value = Value::new(name, &self.live);
        let (tree, model) = &mut self.trees[at];
        let nodes = tree.nodes_for_insert(index);
        let (mut reservation, small) = Self::pools(nodes);
        if let Some(mut small) = small {
            value = match tree.insert(index, value, &mut small) {
                Err(value) => value,
                Ok(_) => panic!("inserted {index} with less than {nodes} nodes"),
            };
            assert_eq!(small.len(), nodes - 1);
            check(tree, model);
        }
        let old = tree.insert(index, value, &mut reservation);
        let old = old.unwrap_or_else(|_| panic!("{nodes} nodes did not do for {index}"));
        assert_eq!(reservation.len(), 0, "insert took less than it said");
        assert_eq!(old.map(|old| old.name), model.insert(index, name));
        self.used[at].insert(index);
        let slot = tree.get(index).expect("inserted just now");
        assert!(slot.unshared && slot.value.shares.get() == 1);
    }

    fn remove(&mut self) {
        let at = self.pick();
        let (first, last) = self.range(at);
        let (tree, model) = &mut self.trees[at];
        let nodes = tree.nodes_for_remove(first, last);
        let (mut reservation, small) = Self::pools(nodes);
        if let Some(mut small) = small {
            assert!(tree.remove_range(first, last, &mut small).is_err());
            assert_eq!(small.len(), nodes - 1);
            check(tree, model);
        }
        let live = self.live.get();
        let removed = tree.remove_range(first, last, &mut reservation);
        let removed = removed.unwrap_or_else(|_| panic!("{nodes} nodes did not do"));
        assert_eq!(reservation.len(), 0, "remove_range took less than it said");
        assert!(self.live.get() >= live, "a value was dropped too early");
        model.retain(|index, _| !(first..=last).contains(index));
        self.used[at].retain(|index| !(first..=last).contains(index));
        assert_eq!(tree.count_range(first, last), 0);
        drop(removed);
    }

    fn clone_whole(&mut self) {
        let (from, to) = (self.pick(), self.pick());
        let live = self.live.get();
        let clone = self.trees[from].0.clone();
        assert_eq!(self.live.get(), live, "a clone copied a value");
        assert_eq!(clone.next_unsettled(0, u64::MAX), None);
        self.trees[to] = (clone, self.trees[from].1.clone());
        self.used[to] = self.used[from].clone();
        self.bits[to] = self.bits[from];
    }

    fn share(&mut self) {
        let (from, to) = (self.pick(), self.pick());
        let (first, last) = self.range(from);
        if from == to || self.trees[to].1.range(first..=last).next().is_some() {
            return;
        }
        let (mut into, mut into_model) = std::mem::take(&mut self.trees[to]);
        let (tree, model) = &self.trees[from];
        let nodes = tree.nodes_for_share(first, last, &into);
        let (mut reservation, small) = Self::pools(nodes);
        if let Some(mut small) = small {
            assert!(tree
                .share_range(first, last, &mut into, &mut small)
                .is_err());
            assert_eq!(small.len(), nodes - 1);
            check(&into, &into_model);
        }
        tree.share_range(first, last, &mut into, &mut reservation)
            .unwrap_or_else(|_| panic!("{nodes} nodes did not do"));
        into_model.extend(model.range(first..=last));
        let used: Vec<_> = self.used[from].range(first..=last).copied().collect();
        self.used[to].extend(used);
        for (_, slot) in into.iter_range(first, last) {
            assert!(!slot.unshared || slot.value.shares.get() > 1);
        }
        check(tree, model);
        self.trees[to] = (into, into_model);
    }

    fn read(&mut self) {
        let at = self.pick();
        let (first, last) = self.range(at);
        let (tree, model) = &self.trees[at];
        let found: Vec<_> = tree
            .iter_range(first, last)
            .map(|(index, slot)| (index, slot.value.name))
            .collect();
        let expected: Vec<_> = model.range(first..=last).map(|(&i, &n)| (i, n)).collect();
        assert_eq!(found, expected);
        assert_eq!(tree.count_range(first, last), expected.len() as u64);
        let name = tree.get(first).map(|slot| slot.value.name);
        assert_eq!(name, model.get(&first).copied());
    }

    /// What is exclusive must be in one tree only, as the address of the value says.
    fn check_exclusive(&self) {
        let mut holders = BTreeMap::<_, usize>::new();
        for (tree, _) in &self.trees {
            for (_, slot) in tree.iter_range(0, u64::MAX) {
                *holders.entry(slot.value.name).or_default() += 1;
            }
        }
        for (tree, _) in &self.trees {
            for (index, slot) in tree.iter_range(0, u64::MAX) {
                let exclusive = slot.unshared && slot.value.shares.get() == 1;
                let holders = holders[&slot.value.name];
                assert_eq!(exclusive, holders == 1, "index {index}");
            }
        }
    }

    /// Settles a part of a tree, but for some entries.
    fn settle(&mut self) {
        let at = self.pick();
        let (first, last) = self.range(at);
        let (tree, model) = &self.trees[at];
        let left = self.random.below(4);
        let mut seen = Vec::new();
        tree.settle(first, last, |index, value| {
            assert_eq!(model.get(&index), Some(&value.name));
            seen.push(index);
            left == 0 || index % 7 != left
        });
        assert!(seen.is_sorted() && seen.iter().all(|index| (first..=last).contains(index)));
        let unshared = |index| tree.get(index).is_some_and(|slot| slot.unshared);
        let used = &mut self.used[at];
        let missed = used
            .range(first..=last)
            .find(|&&index| unshared(index) && !seen.contains(&index));
        assert_eq!(missed, None);
        for index in seen {
            assert!(unshared(index));
            if left == 0 || index % 7 != left {
                used.remove(&index);
            } else {
                used.insert(index);
            }
        }
        if left == 0 && (first, last) == (first & !63, first | 63) {
            assert_eq!(tree.next_unsettled(first, last), None);
        }
    }

    /// Uses an entry in a way that undoes its being settled.
    fn unsettle(&mut self) {
        let at = self.pick();
        let index = self.index(at);
        let slot = self.trees[at].0.get(index);
        if let Some(slot) = slot.filter(|slot| slot.unshared) {
            slot.unsettle();
            self.used[at].insert(index);
        }
    }

    /// The runs of unsettled entries have all that were used, and no shared one.
    fn check_runs(&mut self) {
        let at = self.pick();
        let (first, last) = self.range(at);
        let tree = &self.trees[at].0;
        let mut in_runs = Vec::new();
        let mut from = Some(first);
        while let Some((start, end)) = from.and_then(|from| tree.next_unsettled(from, last)) {
            assert!(from <= Some(start) && start <= end && end <= last);
            assert!(tree.get(start).is_some() && tree.get(end).is_some());
            in_runs.extend(tree.iter_range(start, end).map(|(index, _)| index));
            from = end.checked_add(1);
        }
        let is_unshared = |index| tree.get(index).is_some_and(|slot| slot.unshared);
        assert!(in_runs.iter().all(|&index| is_unshared(index)));
        let mut used = self.used[at].range(first..=last);
        assert!(used.all(|&index| !is_unshared(index) || in_runs.binary_search(&index).is_ok()));
    }

    fn step(&mut self) {
        match self.random.below(200) {
            0..100 => self.insert(),
            100..130 => self.remove(),
            130..140 => self.clone_whole(),
            140..170 => self.share(),
            170..180 => self.read(),
            180..185 => self.settle(),
            185..190 => self.unsettle(),
            190..199 => self.check_runs(),
            _ => self.clear(),
        }
    }
}

fn check(tree: &RadixTree<Value>, model: &Model) {
    assert!(tree.verify());
    assert_eq!(tree.node_count() == 0, model.is_empty());
    let entries = tree.iter_range(0, u64::MAX);
    assert!(entries
        .map(|(index, slot)| (index, slot.value.name))
        .eq(model.iter().map(|(&index, &name)| (index, name))));
}

#[test]
fn trees_that_share_behave_like_maps_of_their_own() {
    let seed = parameter("RADIX_TREE_SEED", rand_seed());
    let steps = parameter("RADIX_TREE_STEPS", 20_000);
    println!("RADIX_TREE_SEED={seed} RADIX_TREE_STEPS={steps} repeats this run");
    let mut world = World::new(seed);
    let live = world.live.clone();
    for step in 0..steps {
        world.step();
        if step % 16 == 0 {
            for (tree, model) in &world.trees {
                check(tree, model);
            }
            world.check_exclusive();
        }
    }
    drop(world);
    assert_eq!(live.get(), 0, "values leaked");
}

/// A seed that differs from run to run.
fn rand_seed() -> u64 {
    use std::time::{
        SystemTime,
        UNIX_EPOCH, //
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

#[test]
fn a_pool_keeps_what_it_got_before_an_allocation_failed() {
    let mut reservation = NodeReservation::<u64>::new();
    let result = fail::after(3, || reservation.reserve(5, GFP_KERNEL));
    assert_eq!((result, reservation.len()), (Err(AllocError), 3));
    assert_eq!(reservation.reserve(5, GFP_KERNEL), Ok(()));
    assert_eq!(reservation.len(), 5);
}

#[test]
fn changes_do_not_allocate() {
    let mut reservation = NodeReservation::new();
    reservation.reserve(100, GFP_KERNEL).expect("memory");
    fail::after(0, || {
        let mut tree = RadixTree::new();
        for index in [0, 63, 64, 5000, 1 << 40] {
            assert_eq!(tree.insert(index, index, &mut reservation), Ok(None));
        }
        let clone = tree.clone();
        assert!(tree.remove_range(60, 4999, &mut reservation).is_ok());
        assert!(clone
            .share_range(60, 4999, &mut tree, &mut reservation)
            .is_ok());
        assert!(tree.verify() && tree.count_range(0, u64::MAX) == 5);
    });
}

#[test]
fn a_long_pool_is_freed_without_recursion() {
    let mut reservation = NodeReservation::<u64>::new();
    reservation.reserve(200_000, GFP_KERNEL).expect("memory");
}
