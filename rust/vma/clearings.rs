// SPDX-License-Identifier: GPL-2.0-only

//! Where core mm is clearing page table entries of an mm: faults there have to wait.

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
    pub(crate) fn is_clearing(&self, address: usize) -> Option<Wait> {
        if self.nr.load(Relaxed) == 0 {
            return None;
        }
        let chunks = self.chunks.lock();
        chunks.has(address).then(|| Wait::new(self))
    }

    /// Notes that core mm is about to clear the page table entries of `pages`; `key` is the notification's. The caller must
    /// hold no lock of the driver.
    ///
    /// It then takes the lock of each amap concerned once: whoever has it afterwards finds out.
    pub(crate) fn begin(&self, key: usize, pages: Pages) {
        let mut room = None;
        loop {
            {
                let mut chunks = self.chunks.lock();
                if let Some(room) = room.take() {
                    chunks.add_room(room);
                }
                if chunks.begin(key, pages) {
                    break;
                }
            }
            match KBox::new(Chunk::NONE, GFP_ATOMIC | __GFP_NOWARN) {
                Ok(new) => room = Some(new),
                // Until one of many others ends, which waits for nobody.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        }
        self.nr.fetch_add(1, Relaxed);
    }

    /// Whether the notification with this key clears something, and has not been [nested](Self::begin) in another
    /// one of the current task.
    pub(crate) fn get(&self, key: usize) -> Option<Clearing> {
        if self.nr.load(Relaxed) == 0 {
            return None;
        }
        self.chunks.lock().get(key)
    }

    /// Ends what [`Self::begin`] began.
    pub(crate) fn end(&self, key: usize) {
        self.nr.fetch_sub(1, Relaxed);
        self.chunks.lock().end(key);
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
#[derive(Clone, Copy)]
struct CurrentClearing {
    key: usize,
    pages: Pages,
    /// The [key](process::current_key) of the task that clears.
    task: usize,
    what: Clearing,
}

impl Chunk {
    /// About the number of threads in `madvise()`.
    const ROOM: usize = 16;

    const NONE: Self = Self {
        clearings: [None; Self::ROOM],
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

    fn get(&self, key: usize) -> Option<Clearing> {
        let clearing = self.all().find(|clearing| clearing.key == key);
        clearing.map(|clearing| clearing.what)
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

    /// False if there is no room.
    fn begin(&mut self, key: usize, pages: Pages) -> bool {
        let task = process::current_key();
        let nested = self.all().any(|clearing| clearing.task == task);
        let what = if nested {
            Clearing::Nested
        } else {
            Clearing::All
        };
        let new = CurrentClearing {
            key,
            pages,
            task,
            what,
        };
        self.find_mut(Option::is_none)
            .map(|clearing| *clearing = Some(new))
            .is_some()
    }

    fn end(&mut self, key: usize) {
        let is_this = |clearing: &Option<CurrentClearing>| {
            clearing.is_some_and(|clearing| clearing.key == key)
        };
        if let Some(clearing) = self.find_mut(is_this) {
            *clearing = None;
        }
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

    #[test]
    fn a_clearing_is_found_by_its_key_whatever_its_range() {
        let mut chunks = Chunks::NONE;
        assert!(chunks.begin(1, Pages::at(10 * PAGE_SIZE)));
        assert!(chunks.has(10 * PAGE_SIZE) && !chunks.has(11 * PAGE_SIZE));
        assert_eq!(chunks.get(1), Some(Clearing::All));
        assert_eq!(chunks.get(2), None);
        chunks.end(1);
        assert!(!chunks.has(10 * PAGE_SIZE));
        assert_eq!(chunks.get(1), None);
    }

    #[test]
    fn a_clearing_within_another_of_the_task_discards_nothing() {
        let mut chunks = Chunks::NONE;
        assert!(chunks.begin(1, Pages::at(10 * PAGE_SIZE)));
        assert!(chunks.begin(2, Pages::ALL));
        assert!(chunks.has(5000 * PAGE_SIZE));
        assert_eq!(chunks.get(2), Some(Clearing::Nested));
        chunks.end(2);
        assert_eq!(chunks.get(1), Some(Clearing::All));
        assert!(!chunks.has(5000 * PAGE_SIZE));
    }

    #[test]
    fn clearings_find_more_room() -> Result {
        let mut chunks = Chunks::NONE;
        let many = 3 * Chunk::ROOM;
        for key in 0..many {
            while !chunks.begin(key, Pages::at(key * PAGE_SIZE)) {
                chunks.add_room(KBox::new(Chunk::NONE, GFP_KERNEL)?);
            }
        }
        for key in 0..many {
            assert!(chunks.has(key * PAGE_SIZE) && chunks.get(key).is_some());
            chunks.end(key);
            assert!(!chunks.has(key * PAGE_SIZE) && chunks.get(key).is_none());
        }
        // What was made room for is used again.
        assert!((0..many).all(|key| chunks.begin(key, Pages::ALL)));
        Ok(())
    }
}
