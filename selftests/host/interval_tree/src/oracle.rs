// SPDX-License-Identifier: GPL-2.0-only

//! Runs operations on a tree and, beside it, on a plain vector, and compares.

use crate::interval_tree::{
    Interval,
    IntervalTree,
    IntervalTreeLink,
    IntervalTreeNode, //
};
use kernel::prelude::*;

/// A value: which one it is, and how often it was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Value {
    id: u64,
    changes: u64,
}

/// What an entry looks like from outside: its interval and its value.
type Seen = (Interval, Value);

/// A tree and the vector that says what it should hold.
#[derive(Default)]
pub struct Oracle {
    tree: IntervalTree<Value>,
    /// In the tree's order.
    model: Vec<Seen>,
    links: Vec<(IntervalTreeLink<Value>, u64)>,
    ids: u64,
}

/// One operation; `which` chooses among the links.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Insert(Interval),
    Remove {
        which: usize,
    },
    Update {
        which: usize,
        interval: Interval,
    },
    Query(Interval),
    /// A query that goes on at a position after so many.
    Resume {
        range: Interval,
        after: usize,
    },
    /// A query that changes values.
    Change(Interval),
    /// A cursor that goes both ways from there.
    Cursor {
        start: u64,
    },
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
            13 => Self::Query(interval),
            14 => match which % 4 {
                0 => Self::Change(interval),
                1 => Self::Cursor { start },
                _ => Self::Resume {
                    range: interval,
                    after: which / 4,
                },
            },
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
            Operation::Resume { range, after } => self.resume(range, after),
            Operation::Change(range) => self.change(range),
            Operation::Cursor { start } => self.cursor(start),
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
        for (link, id) in &self.links {
            let (interval, value) = self.model[self.position(*id)];
            assert_eq!(self.tree.interval(link), Ok(interval), "oracle");
            assert_eq!(self.tree.value(link), Ok(&value), "oracle");
        }
    }

    fn position(&self, id: u64) -> usize {
        self.model
            .iter()
            .position(|(_, value)| value.id == id)
            .expect("a linked value is in the model")
    }

    fn insert_into_model(&mut self, interval: Interval, value: Value) {
        let at = self
            .model
            .partition_point(|(i, _)| i.start() <= interval.start());
        self.model.insert(at, (interval, value));
    }

    fn insert(&mut self, interval: Interval) {
        let id = self.ids;
        self.ids += 1;
        let value = Value { id, changes: 0 };
        let reserved = IntervalTreeNode::new(value, GFP_KERNEL).expect("the host has memory");
        let (link, _) = self.tree.insert(reserved, interval);
        self.links.push((link, id));
        self.insert_into_model(interval, value);
    }

    fn remove(&mut self, which: usize) {
        if self.links.is_empty() {
            return;
        }
        let (link, id) = self.links.swap_remove(which % self.links.len());
        let removed = self.tree.remove(link).expect("the link is of this tree");
        let (_, value) = self.model.remove(self.position(id));
        assert_eq!(*removed, value, "oracle");
    }

    fn update(&mut self, which: usize, interval: Interval) {
        if self.links.is_empty() {
            return;
        }
        let (link, id) = &self.links[which % self.links.len()];
        assert_eq!(self.tree.update(link, interval), Ok(()));
        let at = self.position(*id);
        if self.model[at].0.start() == interval.start() {
            self.model[at].0 = interval;
        } else {
            let (_, value) = self.model.remove(at);
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

    fn resume(&self, range: Interval, after: usize) {
        let mut expected = self.model.iter().filter(|(i, _)| i.overlaps(range));
        let mut found = self.tree.overlapping(range);
        for _ in 0..after {
            let next = found.next().map(|(i, v)| (i, *v));
            assert_eq!(next, expected.next().copied(), "oracle");
        }
        let Some(position) = found.resume_position() else {
            return;
        };
        let rest = self.tree.overlapping_after(range, position);
        let rest: Vec<Seen> = rest.map(|(i, v)| (i, *v)).collect();
        assert_eq!(rest, expected.copied().collect::<Vec<_>>(), "oracle");
    }

    fn change(&mut self, range: Interval) {
        for (_, value) in self.tree.overlapping_mut(range) {
            value.changes += 1;
        }
        for (interval, value) in &mut self.model {
            value.changes += u64::from(interval.overlaps(range));
        }
    }

    fn cursor(&mut self, start: u64) {
        let first = self.model.partition_point(|(i, _)| i.start() < start);
        let mut cursor = self.tree.cursor_lower_bound(start);
        for expected in self.model[first..].iter().take(20) {
            let at = cursor.expect("an interval starts late enough");
            let (interval, value) = at.current();
            assert_eq!((interval, *value), *expected, "oracle");
            cursor = at.move_next();
        }
        assert_eq!(cursor.is_some(), self.model.len() > first + 20, "oracle");
        let mut cursor = self.tree.cursor_lower_bound_mut(start);
        for expected in self.model[..first].iter().rev().take(20) {
            let Some(at) = cursor else {
                return;
            };
            let previous = at.peek_prev().map(|(i, v)| (i, *v));
            assert_eq!(previous, Some(*expected), "oracle");
            cursor = at.move_prev();
        }
    }

    fn ends(&self) {
        let seen = |found: Option<(Interval, &Value)>| found.map(|(i, v)| (i, *v));
        assert_eq!(
            seen(self.tree.first()),
            self.model.first().copied(),
            "oracle"
        );
        assert_eq!(seen(self.tree.last()), self.model.last().copied(), "oracle");
    }
}
