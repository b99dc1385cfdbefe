// SPDX-License-Identifier: GPL-2.0-only

//! Trees of several threads that share their structure, each written in place where it may be.

use crate::{
    driver::radix_tree::{
        NodeReservation,
        RadixTree, //
    },
    oracle::{
        parameter,
        Random, //
    },
};
use kernel::prelude::*;
use std::{
    cell::UnsafeCell,
    collections::BTreeMap,
    sync::{
        atomic::{
            AtomicUsize,
            Ordering, //
        },
        Arc,
        Mutex, //
    },
    thread, //
};

/// A page as an amap sees it: content, and the number of entries that hold it.
struct Page {
    content: UnsafeCell<u64>,
    shares: AtomicUsize,
}

// SAFETY: Who writes the content has found out that nobody else can reach it. That is under test,
// so the sanitizers must be able to see a race.
unsafe impl Sync for Page {}

struct Share(Arc<Page>);

impl Share {
    fn new(content: u64) -> Self {
        Self(Arc::new(Page {
            content: UnsafeCell::new(content),
            shares: AtomicUsize::new(1),
        }))
    }

    fn read(&self) -> u64 {
        // SAFETY: Others that hold the page only read it.
        unsafe { *self.0.content.get() }
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.0.shares.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.shares.fetch_sub(1, Ordering::Release);
    }
}

/// A process: its memory, and what the memory should hold.
#[derive(Clone, Default)]
struct Process {
    tree: RadixTree<Share>,
    model: BTreeMap<u64, u64>,
}

impl Process {
    const PAGES: u64 = 500;

    fn write(&mut self, index: u64, content: u64, reservation: &mut NodeReservation<Share>) {
        self.model.insert(index, content);
        if let Some(slot) = self.tree.get(index) {
            let page = &slot.value.0;
            if slot.unshared && page.shares.load(Ordering::Acquire) == 1 {
                // SAFETY: The page is in this tree only, of which we own the only reference.
                unsafe { *page.content.get() = content };
                return;
            }
        }
        reservation
            .reserve(self.tree.nodes_for_insert(index), GFP_KERNEL)
            .expect("memory");
        let old = self.tree.insert(index, Share::new(content), reservation);
        assert!(old.is_ok(), "the needs grew while other trees changed");
    }

    fn unmap(&mut self, first: u64, last: u64, reservation: &mut NodeReservation<Share>) {
        self.model
            .retain(|index, _| !(first..=last).contains(index));
        reservation
            .reserve(self.tree.nodes_for_remove(first, last), GFP_KERNEL)
            .expect("memory");
        let removed = self.tree.remove_range(first, last, reservation);
        assert!(removed.is_ok(), "the needs grew while other trees changed");
    }

    fn check(&self) {
        let found = self.tree.iter_range(0, u64::MAX);
        assert!(found
            .map(|(index, slot)| (index, slot.value.read()))
            .eq(self.model.iter().map(|(&index, &content)| (index, content))));
    }
}

#[test]
fn threads_never_see_each_others_writes() {
    let seed = parameter("RADIX_TREE_SEED", 1);
    let steps = parameter("RADIX_TREE_STEPS", 20_000);
    // Where threads leave forks of theirs for others to go on with.
    let forks: Mutex<[Process; 3]> = Mutex::default();
    thread::scope(|scope| {
        for number in 0..4 {
            let forks = &forks;
            scope.spawn(move || {
                let mut random = Random(seed ^ number << 32);
                let mut process = Process::default();
                let mut reservation = NodeReservation::new();
                for _ in 0..steps {
                    let index = random.below(Process::PAGES);
                    match random.below(64) {
                        0 => {
                            let place = &mut forks.lock().expect("no panic")[index as usize % 3];
                            let left = std::mem::replace(place, process.clone());
                            if random.below(2) == 0 {
                                process = left;
                            }
                            process.check();
                        }
                        1 => process.unmap(index, index + random.below(100), &mut reservation),
                        _ => process.write(index, random.next(), &mut reservation),
                    }
                }
                process.check();
            });
        }
    });
}
