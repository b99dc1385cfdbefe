// SPDX-License-Identifier: GPL-2.0-only

//! What the operations of an amap's tree cost: `cargo bench -p radix_tree`.
//!
//! Each figure is the median of several runs, in nanoseconds per operation.

// The benchmark does not use everything.
#![allow(dead_code)]

#[path = "../../../../rust"]
mod driver {
    pub(crate) mod radix_tree;
}

use driver::radix_tree::{
    NodeReservation,
    RadixTree, //
};
use kernel::prelude::*;
use std::{
    hint::black_box,
    sync::Arc,
    time::Instant, //
};

const RUNS: usize = 9;

type Tree = RadixTree<Arc<u64>>;

fn insert(tree: &mut Tree, index: u64, reservation: &mut NodeReservation<Arc<u64>>) {
    reservation
        .reserve(tree.nodes_for_insert(index), GFP_KERNEL)
        .expect("memory");
    assert!(tree.insert(index, Arc::new(index), reservation).is_ok());
}

fn remove(tree: &mut Tree, first: u64, last: u64, reservation: &mut NodeReservation<Arc<u64>>) {
    reservation
        .reserve(tree.nodes_for_remove(first, last), GFP_KERNEL)
        .expect("memory");
    assert!(tree.remove_range(first, last, reservation).is_ok());
}

/// The indices below `pages`, each once, in an order without pattern.
fn shuffled(pages: u64) -> impl Iterator<Item = u64> {
    // An odd factor permutes the numbers below a power of two.
    (0..pages).map(move |i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (pages - 1))
}

/// Prints what `operations` operations take that `run` does on what `prepare` made.
fn measure<T>(
    name: &str,
    pages: u64,
    operations: u64,
    mut prepare: impl FnMut() -> T,
    mut run: impl FnMut(&mut T),
) {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let mut state = prepare();
            let start = Instant::now();
            run(&mut state);
            start.elapsed()
        })
        .collect();
    times.sort();
    let nanoseconds = times[RUNS / 2].as_nanos() as f64 / operations as f64;
    println!("{pages:>8} pages  {name:<44} {nanoseconds:>12.1}");
}

fn main() {
    for pages in [64, 4096, 262_144] {
        let empty = || (Tree::new(), NodeReservation::new());
        let own = || {
            let (mut tree, mut reservation) = empty();
            (0..pages).for_each(|index| insert(&mut tree, index, &mut reservation));
            (tree, reservation)
        };
        let full = own().0;
        let fork = || (full.clone(), NodeReservation::new());
        let all = (0, u64::MAX);

        measure(
            "insert, in order",
            pages,
            pages,
            empty,
            |(tree, reservation)| {
                (0..pages).for_each(|index| insert(tree, index, reservation));
            },
        );
        measure(
            "get, at random",
            pages,
            pages,
            || (),
            |()| {
                for index in shuffled(pages) {
                    black_box(full.get(index).is_some_and(|slot| slot.unshared));
                }
            },
        );
        measure(
            "iterate, per entry",
            pages,
            pages,
            || (),
            |()| {
                black_box(full.iter_range(all.0, all.1).count());
            },
        );
        measure(
            "count all",
            pages,
            1,
            || (),
            |()| {
                black_box(full.count_range(all.0, all.1));
            },
        );
        measure(
            "clone and drop the clone (fork)",
            pages,
            1000,
            || (),
            |()| {
                (0..1000).for_each(|_| drop(black_box(full.clone())));
            },
        );
        measure(
            "first write to a clone",
            pages,
            1,
            fork,
            |(tree, reservation)| {
                insert(tree, pages / 2, reservation);
            },
        );
        measure(
            "write all of a clone, per page",
            pages,
            pages,
            fork,
            |(tree, reservation)| {
                shuffled(pages).for_each(|index| insert(tree, index, reservation));
            },
        );
        let prepare = || {
            let (mut tree, mut reservation) = fork();
            insert(&mut tree, pages / 2, &mut reservation);
            tree
        };
        measure(
            "find the only page written in a clone",
            pages,
            1,
            prepare,
            |tree| {
                let written = tree.next_unsettled(all.0, all.1);
                assert!(
                    written.is_some_and(|(_, last)| tree.next_unsettled(last + 1, all.1).is_none())
                );
            },
        );
        measure(
            "remove one by one, at random",
            pages,
            pages,
            own,
            |(tree, reservation)| {
                shuffled(pages).for_each(|index| remove(tree, index, index, reservation));
            },
        );
        measure(
            "remove half of a clone, and drop it",
            pages,
            1,
            fork,
            |(tree, reservation)| {
                remove(tree, pages / 4, pages * 3 / 4, reservation);
            },
        );
        measure(
            "remove all, and drop it, per page",
            pages,
            pages,
            own,
            |(tree, reservation)| {
                remove(tree, all.0, all.1, reservation);
            },
        );
    }
}
