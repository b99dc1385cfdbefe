// SPDX-License-Identifier: GPL-2.0-only

//! Runs operations on a tree and, beside it, on a plain vector, and compares.

use crate::interval_tree::{
    Interval,
    IntervalTree,
    Linked,
    Reserved, //
};
use kernel::prelude::*;

/// What an entry looks like from outside: its interval and its value.
type Seen = (Interval, u64);

/// A tree and the vector that says what it should hold.
#[derive(Default)]
pub struct Oracle {
    tree: IntervalTree<u64>,
    /// In the tree's order.
    model: Vec<Seen>,
    links: Vec<(Linked<u64>, u64)>,
    values: u64,
}

/// One operation; `which` chooses among the links.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Insert(Interval),
    Remove { which: usize },
    Update { which: usize, interval: Interval },
    Query(Interval),
    Ends,
}

impl Operation {
    /// Bytes that one operation is decoded from.
    pub const BYTES: usize = 4;

    /// Makes an operation of any bytes. Few distinct starts and lengths, so that many are equal.
    pub fn decode([kind, which, start, length]: [u8; Self::BYTES]) -> Self {
        let length = match length {
            0..=63 => 0,
            64..=191 => u64::from(length) % 8,
            192..=254 => u64::from(length),
            255 => u64::MAX,
        };
        let start = match start {
            255 => u64::MAX,
            _ => u64::from(start) << (u32::from(kind) / 64),
        };
        let interval = Interval::new(start, start.saturating_add(length))
            .expect("the last is not before the start");
        let which = usize::from(which);
        match kind % 16 {
            0..=6 => Self::Insert(interval),
            7..=9 => Self::Remove { which },
            10..=12 => Self::Update { which, interval },
            13..=14 => Self::Query(interval),
            _ => Self::Ends,
        }
    }
}

impl Oracle {
    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.model.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.model.is_empty()
    }

    /// Runs one operation on both sides and compares what it returns.
    pub fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Insert(interval) => self.insert(interval),
            Operation::Remove { which } => self.remove(which),
            Operation::Update { which, interval } => self.update(which, interval),
            Operation::Query(range) => self.query(range),
            Operation::Ends => self.ends(),
        }
        assert_eq!(self.tree.len(), self.model.len());
    }

    /// Compares all of both sides, and lets the tree check itself.
    pub fn check(&self) {
        self.verify();
        self.compare();
    }

    /// Lets the tree check itself.
    pub fn verify(&self) {
        assert_eq!(self.tree.verify(), Ok(()), "verify");
    }

    /// Compares all of both sides.
    pub fn compare(&self) {
        let all: Vec<Seen> = self.tree.iter().map(|(i, v)| (i, *v)).collect();
        assert_eq!(all, self.model, "oracle");
        for (link, value) in &self.links {
            let (interval, _) = self.model[self.position(*value)];
            assert_eq!(self.tree.interval(link), Ok(interval), "oracle");
            assert_eq!(self.tree.value(link), Ok(value), "oracle");
        }
    }

    fn position(&self, value: u64) -> usize {
        self.model
            .iter()
            .position(|(_, v)| *v == value)
            .expect("a linked value is in the model")
    }

    fn insert_into_model(&mut self, interval: Interval, value: u64) {
        let at = self
            .model
            .partition_point(|(i, _)| i.start() <= interval.start());
        self.model.insert(at, (interval, value));
    }

    fn insert(&mut self, interval: Interval) {
        let value = self.values;
        self.values += 1;
        let reserved = Reserved::new(value, GFP_KERNEL).expect("the host has memory");
        let (link, _) = self.tree.insert(reserved, interval);
        self.links.push((link, value));
        self.insert_into_model(interval, value);
    }

    fn remove(&mut self, which: usize) {
        if self.links.is_empty() {
            return;
        }
        let (link, value) = self.links.swap_remove(which % self.links.len());
        let removed = self.tree.remove(link).expect("the link is of this tree");
        assert_eq!(*removed, value, "oracle");
        self.model.remove(self.position(value));
    }

    fn update(&mut self, which: usize, interval: Interval) {
        if self.links.is_empty() {
            return;
        }
        let (link, value) = &self.links[which % self.links.len()];
        let value = *value;
        assert_eq!(self.tree.update(link, interval), Ok(()));
        let at = self.position(value);
        if self.model[at].0.start() == interval.start() {
            self.model[at].0 = interval;
        } else {
            self.model.remove(at);
            self.insert_into_model(interval, value);
        }
    }

    fn query(&self, range: Interval) {
        let mut expected = self.model.iter().filter(|(i, _)| i.overlaps(range));
        let mut overlapping = self.tree.overlapping(range);
        for (interval, value) in overlapping.by_ref() {
            assert_eq!(Some(&(interval, *value)), expected.next(), "oracle");
        }
        assert_eq!(expected.next(), None, "oracle");
        assert!(overlapping.next().is_none(), "oracle");
    }

    fn ends(&self) {
        let seen = |found: Option<(Interval, &u64)>| found.map(|(i, v)| (i, *v));
        assert_eq!(
            seen(self.tree.first()),
            self.model.first().copied(),
            "oracle"
        );
        assert_eq!(seen(self.tree.last()), self.model.last().copied(), "oracle");
    }
}
