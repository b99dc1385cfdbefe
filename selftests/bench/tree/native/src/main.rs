// SPDX-License-Identifier: GPL-2.0-only

//! Measures the interval tree against Linux's, interleaved, and prints one JSON object a sample:
//! nanoseconds per operation.

mod linux;
mod ours;
#[path = "../../queries.rs"]
mod queries;
#[path = "../../workload.rs"]
mod workload;

#[path = "../../../../../rust"]
mod module {
    #[expect(unused, reason = "the benchmark needs only a part")]
    pub mod interval_tree;
}

use std::{
    collections::BTreeMap,
    time::{
        Duration,
        Instant, //
    },
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
    /// Memory that an insertion has not needed, or a removal has left, for the next insertion.
    type Surplus;

    const NAME: &'static str;

    fn new() -> Self;
    fn prepare(
        interval: (u64, u64),
        payload: u64,
        surplus: Option<Self::Surplus>,
    ) -> Self::Unlinked;
    fn insert(
        &mut self,
        unlinked: Vec<Self::Unlinked>,
        intervals: &[(u64, u64)],
        linked: &mut Vec<Self::Linked>,
        surplus: &mut Vec<Self::Surplus>,
    );
    fn remove(&mut self, linked: Vec<Self::Linked>) -> Vec<Self::Removed>;
    fn free(removed: Self::Removed) -> Option<Self::Surplus>;
    fn update(&mut self, linked: &mut [Self::Linked], starts: &[u64], lasts: &[u64]);
    /// A sum over what was found.
    fn stab(&self, points: &[u64]) -> u64;
    fn walk(&self) -> u64;
}

/// Operations timed together: enough for the clock, few enough for their memory to stay in the cache.
const BATCH: usize = 256;

/// Operations of each kind in one repetition.
const OPERATIONS: usize = 100_000;

/// What one repetition has measured: for each case, nanoseconds per operation of each batch.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    fn add(&mut self, case: &'static str, operations: usize, time: Duration) {
        let ns = time.as_nanos() as f64 / operations as f64;
        self.0.entry(case).or_default().push(ns);
    }

    /// Prints the median of each case: a batch that another process has interrupted does not count.
    fn print(mut self, workload: &Workload, tree: &str, rep: usize) {
        let (shape, n) = (workload.shape.name(), workload.n);
        for (case, batches) in &mut self.0 {
            batches.sort_by(f64::total_cmp);
            let ns = batches[batches.len() / 2];
            println!(
                "{{\"case\": \"{case}\", \"shape\": \"{shape}\", \"n\": {n}, \"tree\": \"{tree}\", \"rep\": {rep}, \"ns\": {ns:.3}}}"
            );
        }
    }
}

/// Runs `f` and returns the time it took.
fn timed<R>(f: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = f();
    (start.elapsed(), result)
}

/// All cases of one tree; returns a sum over all that was found, to compare and to keep the compiler honest.
fn run<T: Tree>(workload: &Workload, rep: usize) -> u64 {
    let (shape, n) = (workload.shape, workload.n);
    let mut random = Random(rep as u64);
    let mut tree = T::new();
    let mut linked: Vec<(usize, T::Linked)> = Vec::new();
    let mut absent: Vec<usize> = Vec::new();
    let mut kept: Vec<T::Surplus> = Vec::with_capacity(2 * BATCH);
    let mut sum = 0u64;

    let mut samples = Samples::default();

    // Builds with the first half of the pool, then works with random members of all of it.
    for first in (0..n).step_by(BATCH) {
        let ids: Vec<usize> = (first..n.min(first + BATCH)).collect();
        let (time, _) = insert(&mut tree, workload, &ids, &mut kept, &mut linked);
        samples.add("build", ids.len(), time);
    }
    absent.extend(n..workload.pool.len());

    let batch = BATCH.min(n / 4);
    for _ in 0..OPERATIONS / batch {
        random.gather(&mut absent, batch);
        let ids = absent.split_off(absent.len() - batch);
        let (time, memory) = insert(&mut tree, workload, &ids, &mut kept, &mut linked);
        samples.add("insert", batch, time);

        let (ids, out) = take(&mut random, &mut linked, batch);
        absent.extend(ids);
        let (time, removed) = timed(|| tree.remove(out));
        samples.add("remove", batch, time);
        let (time, ()) = timed(|| kept.extend(removed.into_iter().filter_map(T::free)));
        samples.add("memory", batch, memory + time);

        // A split of a VMA shrinks its interval from either side; then it is grown back.
        let (ids, mut some) = take(&mut random, &mut linked, batch);
        let cut = |id: &usize| shrunk(workload.pool[*id], random.next());
        let (starts, lasts): (Vec<u64>, Vec<u64>) = ids.iter().map(cut).unzip();
        let (time, ()) = timed(|| tree.update(&mut some, &starts, &lasts));
        samples.add("update", batch, time);
        let whole = |id: &usize| workload.pool[*id];
        let (starts, lasts): (Vec<u64>, Vec<u64>) = ids.iter().map(whole).unzip();
        tree.update(&mut some, &starts, &lasts);

        // To where another one is not.
        random.gather(&mut absent, batch);
        let new = absent.split_off(absent.len() - batch);
        let (starts, lasts): (Vec<u64>, Vec<u64>) = new.iter().map(whole).unzip();
        let (time, ()) = timed(|| tree.update(&mut some, &starts, &lasts));
        samples.add("move", batch, time);
        absent.extend(ids);
        linked.extend(new.into_iter().zip(some));

        let points: Vec<u64> = (0..batch).map(|_| shape.point(random.next(), n)).collect();
        let (time, found) = timed(|| tree.stab(&points));
        samples.add("stab", batch, time);
        sum = sum.wrapping_add(found);
    }

    for _ in 0..10 {
        let (time, found) = timed(|| tree.walk());
        samples.add("walk", n, time);
        sum = sum.wrapping_add(found);
    }

    let (_, linked): (Vec<usize>, Vec<T::Linked>) = linked.into_iter().unzip();
    for removed in tree.remove(linked) {
        T::free(removed);
    }
    samples.print(workload, T::NAME, rep);
    sum
}

/// Takes out random links, with their numbers in the pool.
fn take<L>(
    random: &mut Random,
    linked: &mut Vec<(usize, L)>,
    count: usize,
) -> (Vec<usize>, Vec<L>) {
    random.gather(linked, count);
    linked.split_off(linked.len() - count).into_iter().unzip()
}

/// Inserts members of the pool; returns how long it took, and how long it took to reserve memory before.
fn insert<T: Tree>(
    tree: &mut T,
    workload: &Workload,
    ids: &[usize],
    kept: &mut Vec<T::Surplus>,
    linked: &mut Vec<(usize, T::Linked)>,
) -> (Duration, Duration) {
    let intervals: Vec<(u64, u64)> = ids.iter().map(|id| workload.pool[*id]).collect();
    let prepare =
        |(id, interval): (&usize, &(u64, u64))| T::prepare(*interval, *id as u64, kept.pop());
    let (reserve, unlinked) = timed(|| ids.iter().zip(&intervals).map(prepare).collect());
    let mut new = Vec::with_capacity(ids.len());
    let (time, ()) = timed(|| tree.insert(unlinked, &intervals, &mut new, kept));
    linked.extend(ids.iter().copied().zip(new));
    (time, reserve)
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
