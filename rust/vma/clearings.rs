// SPDX-License-Identifier: GPL-2.0-only

//! Where core mm is clearing page table entries of an mm: faults there have to wait.

use super::notifier::Cleared;
use crate::{
    index::Pages,
    process,
    wait::{
        wake,
        Wait, //
    }, //
};
use core::iter::successors;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// What core mm is clearing for one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clearing {
    /// The range of the notification.
    All,
    /// A smaller range, of another notification within which this one came: a huge page is split, for one.
    Nested,
}

/// Where core mm is clearing page table entries: faults there have to wait.
///
/// What start notes is found at the end by the notification itself: core mm passes the same `mmu_notifier_range` both times.
#[pin_data]
pub(crate) struct Clearings {
    /// Comes after the lock of an amap.
    #[pin]
    chunks: SpinLock<Chunks>,
    /// How many there are, to look at them only if there are any.
    nr: Atomic<usize>,
}

impl Clearings {
    /// None.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            chunks <- new_spinlock!(Chunks::NONE, "anon_rmap_clearings"),
            nr: Atomic::new(0),
        })
    }

    /// Whether core mm is clearing the page table entry of `address`. To be asked under the lock of the amap
    /// concerned, which [`Self::begin`] is followed by.
    #[inline]
    pub(crate) fn is_clearing(&self, address: usize) -> Option<Wait> {
        if self.nr.load(Relaxed) == 0 {
            return None;
        }
        self.find(address)
    }

    fn find(&self, address: usize) -> Option<Wait> {
        let chunks = self.chunks.lock();
        chunks.has(address).then(|| Wait::new(self))
    }

    /// Notes that core mm is about to clear the page table entries of `pages`, beginning with those of `first`; `key` is the
    /// notification's. The caller must hold no lock of the driver.
    ///
    /// It then takes the lock of each amap concerned once: whoever has it afterwards finds out.
    pub(super) fn begin(&self, key: usize, pages: Pages, first: Option<Cleared>) {
        while !self.try_begin(key, pages, first.clone()) {
            match KBox::new(Chunk::NONE, GFP_ATOMIC | __GFP_NOWARN) {
                Ok(room) => self.chunks.lock().add_room(room),
                // Until one of many others ends, which waits for nobody.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        }
    }

    /// As [`Self::begin`], if there is room at once, and whatever locks the caller holds but that of an amap.
    pub(super) fn try_begin(&self, key: usize, pages: Pages, first: Option<Cleared>) -> bool {
        // What the current task has begun before is counted already.
        let is_only = self.nr.load(Relaxed) == 0;
        let has_begun = self.chunks.lock().begin(key, pages, first, is_only);
        if has_begun {
            self.nr.fetch_add(1, Relaxed);
        }
        has_begun
    }

    /// What the notification with this key clears, and what of that comes first; to be asked once. `None` if it is nothing.
    pub(super) fn get(&self, key: usize) -> Option<(Clearing, Option<Cleared>)> {
        if self.nr.load(Relaxed) == 0 {
            return None;
        }
        self.chunks.lock().get(key)
    }

    /// Ends what [`Self::begin`] began.
    pub(crate) fn end(&self, key: usize) {
        self.nr.fetch_sub(1, Relaxed);
        let _ended = self.chunks.lock().end(key);
        wake(self);
    }
}

/// What the lock guards.
struct Chunks(Chunk);

/// Room for clearings, and more of it. What was needed once stays.
struct Chunk {
    clearings: [Option<CurrentClearing>; Self::ROOM],
    more: Option<KBox<Chunk>>,
}

/// A clearing that is under way.
struct CurrentClearing {
    key: usize,
    pages: Pages,
    first: Option<Cleared>,
    /// The [key](process::current_key) of the task that clears.
    task: usize,
    what: Clearing,
}

impl CurrentClearing {
    /// Whether it is that of the notification with this key.
    fn has_key(key: usize) -> impl Fn(&Option<Self>) -> bool {
        move |clearing| {
            clearing
                .as_ref()
                .is_some_and(|clearing| clearing.key == key)
        }
    }
}

impl Chunk {
    /// About the number of threads in `madvise()`.
    const ROOM: usize = 16;

    const NONE: Self = Self {
        clearings: [const { None }; Self::ROOM],
        more: None,
    };
}

impl Chunks {
    const NONE: Self = Self(Chunk::NONE);

    fn all(&self) -> impl Iterator<Item = &CurrentClearing> {
        let chunks = successors(Some(&self.0), |chunk| chunk.more.as_deref());
        chunks.flat_map(|chunk| chunk.clearings.iter().flatten())
    }

    fn has(&self, address: usize) -> bool {
        self.all().any(|clearing| clearing.pages.contain(address))
    }

    fn get(&mut self, key: usize) -> Option<(Clearing, Option<Cleared>)> {
        let clearing = self.find_mut(CurrentClearing::has_key(key))?.as_mut()?;
        Some((clearing.what, clearing.first.take()))
    }

    /// The first room for which `condition` holds.
    fn find_mut(
        &mut self,
        condition: impl Fn(&Option<CurrentClearing>) -> bool,
    ) -> Option<&mut Option<CurrentClearing>> {
        let mut chunk = &mut self.0;
        loop {
            if let Some(at) = chunk.clearings.iter().position(&condition) {
                return chunk.clearings.get_mut(at);
            }
            chunk = chunk.more.as_deref_mut()?;
        }
    }

    /// False if there is no room. With `is_only`, the current task has begun no other.
    fn begin(&mut self, key: usize, pages: Pages, first: Option<Cleared>, is_only: bool) -> bool {
        let task = process::current_key();
        let nested = !is_only && self.all().any(|clearing| clearing.task == task);
        let what = if nested {
            Clearing::Nested
        } else {
            Clearing::All
        };
        let new = CurrentClearing {
            key,
            pages,
            first,
            task,
            what,
        };
        self.find_mut(Option::is_none)
            .map(|clearing| *clearing = Some(new))
            .is_some()
    }

    /// What is returned is to be dropped without the lock.
    fn end(&mut self, key: usize) -> Option<CurrentClearing> {
        self.find_mut(CurrentClearing::has_key(key))?.take()
    }

    fn add_room(&mut self, mut room: KBox<Chunk>) {
        room.more = self.0.more.take();
        self.0.more = Some(room);
    }
}

#[kunit_tests(anon_rmap_clearings)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    fn begin(chunks: &mut Chunks, key: usize, pages: Pages) -> bool {
        chunks.begin(key, pages, None, false)
    }

    fn get(chunks: &mut Chunks, key: usize) -> Option<Clearing> {
        chunks.get(key).map(|(what, _)| what)
    }

    #[test]
    fn a_clearing_is_found_by_its_key_whatever_its_range() {
        let mut chunks = Chunks::NONE;
        assert!(begin(&mut chunks, 1, Pages::at(10 * PAGE_SIZE)));
        assert!(chunks.has(10 * PAGE_SIZE) && !chunks.has(11 * PAGE_SIZE));
        assert_eq!(get(&mut chunks, 1), Some(Clearing::All));
        assert_eq!(get(&mut chunks, 2), None);
        chunks.end(1);
        assert!(!chunks.has(10 * PAGE_SIZE));
        assert_eq!(get(&mut chunks, 1), None);
    }

    #[test]
    fn a_clearing_within_another_of_the_task_discards_nothing() {
        let mut chunks = Chunks::NONE;
        assert!(begin(&mut chunks, 1, Pages::at(10 * PAGE_SIZE)));
        assert!(begin(&mut chunks, 2, Pages::ALL));
        assert!(chunks.has(5000 * PAGE_SIZE));
        assert_eq!(get(&mut chunks, 2), Some(Clearing::Nested));
        chunks.end(2);
        assert_eq!(get(&mut chunks, 1), Some(Clearing::All));
        assert!(!chunks.has(5000 * PAGE_SIZE));
    }

    #[test]
    fn clearings_find_more_room() -> Result {
        let mut chunks = Chunks::NONE;
        let many = 3 * Chunk::ROOM;
        for key in 0..many {
            while !begin(&mut chunks, key, Pages::at(key * PAGE_SIZE)) {
                chunks.add_room(KBox::new(Chunk::NONE, GFP_KERNEL)?);
            }
        }
        for key in 0..many {
            assert!(chunks.has(key * PAGE_SIZE) && get(&mut chunks, key).is_some());
            chunks.end(key);
            assert!(!chunks.has(key * PAGE_SIZE) && get(&mut chunks, key).is_none());
        }
        // What was made room for is used again.
        assert!((0..many).all(|key| begin(&mut chunks, key, Pages::ALL)));
        Ok(())
    }
}
