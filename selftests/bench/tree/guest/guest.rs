// SPDX-License-Identifier: GPL-2.0-only

//! Counts instructions of the interval tree, of the kernel's own and of a linked list, in a guest where one
//! cycle is one instruction. Loading the module runs it and prints one JSON object a line.

/// What of the module is measured.
#[path = "../../../../rust"]
pub mod module {
    pub mod interval_tree;
}
mod ours;
#[path = "../queries.rs"]
mod queries;
mod references;
#[path = "../workload.rs"]
mod workload;

use kernel::{
    alloc::KVVec,
    prelude::*, //
};
use workload::{
    shrunk,
    Random,
    Shape, //
};

module! {
    type: Bench,
    name: "bench_tree",
    authors: ["anon_rmap authors"],
    description: "Instruction counts of interval trees",
    license: "GPL",
}

/// One side of the comparison. The operations run in batches, each a loop in that side's own language.
trait Tree: Sized {
    type Interval;
    /// One interval and memory for it, before insertion.
    type Unlinked;
    /// What an insertion gives.
    type Inserted;
    /// One linked interval.
    type Linked;
    /// One that is linked no more.
    type Removed;

    const NAME: &'static str;

    fn new() -> Result<Self>;
    fn interval(interval: (u64, u64)) -> Result<Self::Interval>;
    fn prepare(interval: (u64, u64), payload: u64) -> Result<Self::Unlinked>;
    /// Empties `unlinked` into `inserted`, which is empty and has room.
    fn insert(
        &mut self,
        unlinked: &mut KVec<Self::Unlinked>,
        inserted: &mut KVec<Self::Inserted>,
    ) -> Result;
    fn linked(inserted: Self::Inserted) -> Self::Linked;
    /// Empties `linked` into `removed`, which is empty and has room.
    fn remove(
        &mut self,
        linked: &mut KVec<Self::Linked>,
        removed: &mut KVec<Self::Removed>,
    ) -> Result;
    fn free(removed: Self::Removed);
    /// Gives each of `linked` another interval; there are as many.
    fn update(&mut self, linked: &[Self::Linked], intervals: &[Self::Interval]) -> Result;
    /// A sum over what was found.
    fn stab(&self, points: &[u64]) -> u64;
    fn walk(&self) -> u64;
}

const BATCH: usize = 64;

struct Sample {
    shape: Shape,
    n: usize,
    tree: &'static str,
}

impl Sample {
    fn print(&self, case: &str, operations: usize, instructions: u64) {
        let tenths = (instructions * 10)
            .checked_div(operations as u64)
            .unwrap_or(0);
        pr_info!(
            "{{\"case\": \"{}\", \"shape\": \"{}\", \"n\": {}, \"tree\": \"{}\", \"instructions\": {}.{}}}\n",
            case,
            self.shape.name(),
            self.n,
            self.tree,
            tenths / 10,
            tenths % 10,
        );
    }
}

/// Linked intervals, each with its number in the pool.
struct Linked<T: Tree> {
    ids: KVVec<usize>,
    links: KVVec<T::Linked>,
}

impl<T: Tree> Linked<T> {
    /// Takes out `count` random ones.
    fn take(
        &mut self,
        random: &mut Random,
        count: usize,
    ) -> Result<(KVec<usize>, KVec<T::Linked>)> {
        let mut ids = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut links = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let chosen = random.next() as usize % self.ids.len();
            let end = self.ids.len() - 1;
            self.ids.swap(chosen, end);
            self.links.swap(chosen, end);
            ids.push(self.ids.pop().ok_or(EINVAL)?, GFP_KERNEL)?;
            links.push(self.links.pop().ok_or(EINVAL)?, GFP_KERNEL)?;
        }
        Ok((ids, links))
    }

    fn put(&mut self, ids: &[usize], links: impl Iterator<Item = T::Linked>) -> Result {
        self.ids.extend_from_slice(ids, GFP_KERNEL)?;
        for link in links {
            self.links.push(link, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// Counts the instructions of `f`, undisturbed by interrupts.
fn count<R>(f: impl FnOnce() -> R) -> (u64, R) {
    let interrupts = kernel::interrupt::local_interrupt_disable();
    let start = references::cycles();
    let result = f();
    let end = references::cycles();
    drop(interrupts);
    (end - start, result)
}

fn insert<T: Tree>(
    tree: &mut T,
    pool: &[(u64, u64)],
    ids: &[usize],
    linked: &mut Linked<T>,
) -> Result<u64> {
    let mut unlinked = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    let mut inserted = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    for id in ids {
        let interval = *pool.get(*id).ok_or(EINVAL)?;
        unlinked.push(T::prepare(interval, *id as u64)?, GFP_KERNEL)?;
    }
    let (instructions, result) = count(|| tree.insert(&mut unlinked, &mut inserted));
    result?;
    linked.put(ids, inserted.into_iter().map(T::linked))?;
    Ok(instructions)
}

fn update<T: Tree>(
    tree: &mut T,
    links: &[T::Linked],
    intervals: impl Iterator<Item = (u64, u64)>,
) -> Result<u64> {
    let mut new = KVec::with_capacity(links.len(), GFP_KERNEL)?;
    for interval in intervals {
        new.push(T::interval(interval)?, GFP_KERNEL)?;
    }
    let (instructions, result) = count(|| tree.update(links, &new));
    result?;
    Ok(instructions)
}

/// All cases of one tree; returns a sum over all that was found.
fn run<T: Tree>(shape: Shape, pool: &[(u64, u64)], rounds: usize) -> Result<u64> {
    let n = pool.len() / 2;
    let sample = Sample {
        shape,
        n,
        tree: T::NAME,
    };
    let mut random = Random(n as u64);
    let mut tree = T::new()?;
    let mut linked: Linked<T> = Linked {
        ids: KVVec::new(),
        links: KVVec::new(),
    };
    let mut absent: KVVec<usize> = KVVec::new();
    let mut sum = 0u64;

    // Builds with the first half of the pool, then works with random members of all of it.
    let mut instructions = 0;
    for first in (0..n).step_by(BATCH) {
        let mut ids = KVec::with_capacity(BATCH, GFP_KERNEL)?;
        for id in first..n.min(first + BATCH) {
            ids.push(id, GFP_KERNEL)?;
        }
        instructions += insert(&mut tree, pool, &ids, &mut linked)?;
    }
    sample.print("build", n, instructions);
    for id in n..pool.len() {
        absent.push(id, GFP_KERNEL)?;
    }
    let mut take_absent = |random: &mut Random, back: &[usize]| -> Result<KVec<usize>> {
        let mut ids = KVec::with_capacity(BATCH, GFP_KERNEL)?;
        random.gather(&mut absent, BATCH);
        for _ in 0..BATCH {
            ids.push(absent.pop().ok_or(EINVAL)?, GFP_KERNEL)?;
        }
        absent.extend_from_slice(back, GFP_KERNEL)?;
        Ok(ids)
    };
    let of = |id: &usize| pool.get(*id).copied().unwrap_or((0, 0));

    let (mut inserts, mut removes, mut moves, mut updates, mut stabs) = (0, 0, 0, 0, 0);
    let mut removed_ids = KVec::new();
    for _ in 0..rounds {
        let ids = take_absent(&mut random, &removed_ids)?;
        inserts += insert(&mut tree, pool, &ids, &mut linked)?;

        let (ids, mut links) = linked.take(&mut random, BATCH)?;
        let mut removed = KVec::with_capacity(BATCH, GFP_KERNEL)?;
        let (instructions, result) = count(|| tree.remove(&mut links, &mut removed));
        result?;
        removes += instructions;
        removed.into_iter().for_each(T::free);
        removed_ids = ids;

        // A split of a VMA shrinks its interval from either side; then it is grown back.
        let (ids, links) = linked.take(&mut random, BATCH)?;
        let seed = random.next();
        let mut cut = Random(seed);
        updates += update(
            &mut tree,
            &links,
            ids.iter().map(|id| shrunk(of(id), cut.next())),
        )?;
        update(&mut tree, &links, ids.iter().map(of))?;

        // To where another one is not.
        let new = take_absent(&mut random, &ids)?;
        moves += update(&mut tree, &links, new.iter().map(of))?;
        linked.put(&new, links.into_iter())?;

        let mut points = KVec::with_capacity(BATCH, GFP_KERNEL)?;
        for _ in 0..BATCH {
            points.push(shape.point(random.next(), n), GFP_KERNEL)?;
        }
        let (instructions, found) = count(|| tree.stab(&points));
        stabs += instructions;
        sum = sum.wrapping_add(found);
    }
    let operations = rounds * BATCH;
    sample.print("insert", operations, inserts);
    sample.print("remove", operations, removes);
    sample.print("update", operations, updates);
    sample.print("move", operations, moves);
    sample.print("stab", operations, stabs);

    let (instructions, found) = count(|| tree.walk());
    sample.print("walk", n, instructions);
    sum = sum.wrapping_add(found);

    while !linked.ids.is_empty() {
        let count = linked.ids.len().min(BATCH);
        let (_, mut links) = linked.take(&mut random, count)?;
        let mut removed = KVec::with_capacity(count, GFP_KERNEL)?;
        tree.remove(&mut links, &mut removed)?;
        removed.into_iter().for_each(T::free);
    }
    Ok(sum)
}

struct Bench;

impl kernel::Module for Bench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        for n in [1 << 10, 1 << 12, 1 << 16] {
            for shape in Shape::ALL {
                let mut pool = KVVec::with_capacity(2 * n, GFP_KERNEL)?;
                for i in 0..2 * n {
                    pool.push(shape.interval(i, n), GFP_KERNEL)?;
                }
                Random(n as u64).gather(&mut pool, 2 * n - 1);
                // The list is slow: fewer rounds, of which the first are like those of the others.
                let ours = run::<ours::Ours>(shape, &pool, 32)?;
                let kernel_c = run::<references::KernelC>(shape, &pool, 32)?;
                if ours != kernel_c {
                    pr_err!("the trees differ\n");
                    return Err(EINVAL);
                }
                run::<references::List>(shape, &pool, 1)?;
            }
        }
        Ok(Self)
    }
}
