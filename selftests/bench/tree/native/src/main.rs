// SPDX-License-Identifier: GPL-2.0

//! Measures the interval tree against Linux's, interleaved, and prints one JSON object a sample:
//! nanoseconds per operation.

mod linux;
mod ours;
#[path = "../../workload.rs"]
mod workload;

#[path = "../../../../../rust"]
mod module {
    #[expect(dead_code, reason = "the benchmark needs only a part")]
    pub mod interval_tree;
}

use std::{
    hint::black_box,
    time::Instant, //
};
use workload::{
    shrunk,
    Random,
    Shape, //
};

/// Intervals in random order.
struct Workload {
    shape: Shape,
    /// How many of them are in the tree.
    n: usize,
    /// Twice as many: those in the tree, and those that may come in.
    pool: Vec<(u64, u64)>,
}

impl Workload {
    fn new(shape: Shape, n: usize) -> Self {
        let mut pool: Vec<(u64, u64)> = (0..2 * n).map(|i| shape.interval(i, n)).collect();
        Random(n as u64).gather(&mut pool, 2 * n - 1);
        Self { shape, n, pool }
    }
}

/// One side of the comparison. The operations run in batches, each a loop in that side's own language.
trait Tree {
    /// Memory for one interval, before insertion.
    type Unlinked;
    /// One linked interval.
    type Linked;
    /// One that is linked no more.
    type Removed;
    /// What is left to free after an insertion.
    type Surplus;

    const NAME: &'static str;

    fn new() -> Self;
    fn prepare(interval: (u64, u64), payload: u64) -> Self::Unlinked;
    fn insert(
        &mut self,
        unlinked: Vec<Self::Unlinked>,
        intervals: &[(u64, u64)],
        linked: &mut Vec<Self::Linked>,
    ) -> Vec<Self::Surplus>;
    fn remove(&mut self, linked: Vec<Self::Linked>) -> Vec<Self::Removed>;
    fn free(removed: Self::Removed);
    fn update(&mut self, linked: &mut [Self::Linked], starts: &[u64], lasts: &[u64]);
    /// A sum over what was found.
    fn stab(&self, points: &[u64]) -> u64;
    fn walk(&self) -> u64;
}

/// Operations timed together: enough for the clock, few enough for their memory to stay in the cache.
const BATCH: usize = 256;

/// Operations of each kind in one repetition.
const OPERATIONS: usize = 100_000;

fn sample(case: &str, shape: Shape, n: usize, tree: &str, rep: usize, operations: usize, ns: u128) {
    println!(
        "{{\"case\": \"{case}\", \"shape\": \"{}\", \"n\": {n}, \"tree\": \"{tree}\", \"rep\": {rep}, \"ns\": {:.3}}}",
        shape.name(),
        ns as f64 / operations as f64,
    );
}

/// All cases of one tree; returns a sum over all that was found, to compare and to keep the compiler honest.
fn run<T: Tree>(workload: &Workload, rep: usize) -> u64 {
    let (shape, n) = (workload.shape, workload.n);
    let mut random = Random(rep as u64);
    let mut tree = T::new();
    let mut linked: Vec<(usize, T::Linked)> = Vec::new();
    let mut absent: Vec<usize> = Vec::new();
    let mut sum = 0u64;

    // Builds with the first half of the pool, then works with random members of all of it.
    let mut ns = 0;
    for first in (0..n).step_by(BATCH) {
        let ids: Vec<usize> = (first..n.min(first + BATCH)).collect();
        ns += insert(&mut tree, workload, &ids, &mut linked);
    }
    sample("build", shape, n, T::NAME, rep, n, ns);
    absent.extend(n..workload.pool.len());

    let batch = BATCH.min(n / 4);
    let (mut inserts, mut removes, mut moves, mut updates, mut stabs) = (0, 0, 0, 0, 0);
    for _ in 0..OPERATIONS / batch {
        random.gather(&mut absent, batch);
        let ids = absent.split_off(absent.len() - batch);
        inserts += insert(&mut tree, workload, &ids, &mut linked);

        random.gather(&mut linked, batch);
        let out = linked.split_off(linked.len() - batch);
        let (ids, out): (Vec<usize>, Vec<T::Linked>) = out.into_iter().unzip();
        absent.extend(ids);
        let start = Instant::now();
        let removed = tree.remove(out);
        removes += start.elapsed().as_nanos();
        removed.into_iter().for_each(T::free);

        // A split of a VMA shrinks its interval from either side; then it is grown back.
        random.gather(&mut linked, batch);
        let some = linked.split_off(linked.len() - batch);
        let (ids, mut some): (Vec<usize>, Vec<T::Linked>) = some.into_iter().unzip();
        let (starts, lasts): (Vec<u64>, Vec<u64>) = ids
            .iter()
            .map(|id| shrunk(workload.pool[*id], random.next()))
            .unzip();
        let start = Instant::now();
        tree.update(&mut some, &starts, &lasts);
        updates += start.elapsed().as_nanos();
        let (starts, lasts): (Vec<u64>, Vec<u64>) = ids.iter().map(|id| workload.pool[*id]).unzip();
        tree.update(&mut some, &starts, &lasts);

        // To where another one is not.
        random.gather(&mut absent, batch);
        let new = absent.split_off(absent.len() - batch);
        let (starts, lasts): (Vec<u64>, Vec<u64>) = new.iter().map(|id| workload.pool[*id]).unzip();
        let start = Instant::now();
        tree.update(&mut some, &starts, &lasts);
        moves += start.elapsed().as_nanos();
        absent.extend(ids);
        linked.extend(new.into_iter().zip(some));

        let points: Vec<u64> = (0..batch).map(|_| shape.point(random.next(), n)).collect();
        let start = Instant::now();
        sum = sum.wrapping_add(black_box(tree.stab(&points)));
        stabs += start.elapsed().as_nanos();
    }
    let operations = OPERATIONS / batch * batch;
    sample("insert", shape, n, T::NAME, rep, operations, inserts);
    sample("remove", shape, n, T::NAME, rep, operations, removes);
    sample("update", shape, n, T::NAME, rep, operations, updates);
    sample("move", shape, n, T::NAME, rep, operations, moves);
    sample("stab", shape, n, T::NAME, rep, operations, stabs);

    let start = Instant::now();
    sum = sum.wrapping_add(black_box(tree.walk()));
    sample(
        "walk",
        shape,
        n,
        T::NAME,
        rep,
        n,
        start.elapsed().as_nanos(),
    );

    let (_, linked): (Vec<usize>, Vec<T::Linked>) = linked.into_iter().unzip();
    tree.remove(linked).into_iter().for_each(T::free);
    sum
}

/// Inserts members of the pool; returns the nanoseconds.
fn insert<T: Tree>(
    tree: &mut T,
    workload: &Workload,
    ids: &[usize],
    linked: &mut Vec<(usize, T::Linked)>,
) -> u128 {
    let intervals: Vec<(u64, u64)> = ids.iter().map(|id| workload.pool[*id]).collect();
    let unlinked = ids
        .iter()
        .zip(&intervals)
        .map(|(id, interval)| T::prepare(*interval, *id as u64))
        .collect();
    let mut new = Vec::with_capacity(ids.len());
    let start = Instant::now();
    let surplus = tree.insert(unlinked, &intervals, &mut new);
    let ns = start.elapsed().as_nanos();
    drop(surplus);
    linked.extend(ids.iter().copied().zip(new));
    ns
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what: &str| -> usize {
        let argument = arguments
            .next()
            .unwrap_or_else(|| panic!("usage: bench-tree REPETITIONS GREATEST_N: no {what}"));
        argument
            .parse()
            .unwrap_or_else(|_| panic!("{what}: not a number: {argument}"))
    };
    let (repetitions, greatest) = (number("REPETITIONS"), number("GREATEST_N"));
    for n in [1_000, 10_000, 100_000, 1_000_000] {
        if n > greatest {
            break;
        }
        for shape in Shape::ALL {
            let workload = Workload::new(shape, n);
            for rep in 0..repetitions {
                let ours = run::<ours::Ours>(&workload, rep);
                let in_node = run::<linux::InNode>(&workload, rep);
                let through_pointer = run::<linux::ThroughPointer>(&workload, rep);
                assert_eq!((ours, ours), (in_node, through_pointer), "the trees differ");
            }
        }
    }
}
