// SPDX-License-Identifier: GPL-2.0-only

//! Where core mm is clearing page table entries of an mm: faults there have to wait.

use crate::{
    interval_tree::Interval,
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
    task::Task,
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
    places: SpinLock<Places>,
    /// How many there are, to look at them only if there are any.
    nr: Atomic<usize>,
}

impl Clearings {
    /// None.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            places <- new_spinlock!(Places::NONE, "anon_rmap_clearings"),
            nr: Atomic::new(0),
        })
    }

    /// Whether core mm is clearing the page table entry of page number `page`. To be asked under the lock of the amap
    /// concerned, which [`Self::begin`] is followed by.
    pub(crate) fn is_clearing(&self, page: u64) -> Option<Wait> {
        if self.nr.load(Relaxed) == 0 {
            return None;
        }
        let places = self.places.lock();
        places.has(page).then(|| Wait::new(self))
    }

    /// Notes that core mm is about to clear the page table entries of `pages`; `key` is the notification's. The caller must
    /// hold no lock of the driver.
    ///
    /// It then takes the lock of each amap concerned once: whoever has it afterwards finds out.
    pub(crate) fn begin(&self, key: usize, pages: Interval) {
        let mut room = None;
        loop {
            {
                let mut places = self.places.lock();
                if let Some(room) = room.take() {
                    places.add_room(room);
                }
                if places.begin(key, pages) {
                    break;
                }
            }
            match KBox::new(ClearingPlaces::NONE, GFP_ATOMIC | __GFP_NOWARN) {
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
        self.places.lock().get(key)
    }

    /// Ends what [`Self::begin`] began.
    pub(crate) fn end(&self, key: usize) {
        self.nr.fetch_sub(1, Relaxed);
        self.places.lock().end(key);
        wake(self);
    }
}

/// What the lock guards.
struct Places(ClearingPlaces);

/// Places for clearings, and more of them. Those that were needed once stay.
struct ClearingPlaces {
    places: [Option<ClearingPlace>; Self::PLACES],
    more: Option<KBox<ClearingPlaces>>,
}

/// A clearing that is under way.
#[derive(Clone, Copy)]
struct ClearingPlace {
    key: usize,
    pages: Interval,
    task: *const Task,
    what: Clearing,
}

// SAFETY: The task pointers are compared, never followed.
unsafe impl Send for ClearingPlaces {}

impl ClearingPlaces {
    /// About the number of threads in `madvise()`.
    const PLACES: usize = 16;

    const NONE: Self = Self {
        places: [None; Self::PLACES],
        more: None,
    };
}

impl Places {
    const NONE: Self = Self(ClearingPlaces::NONE);

    fn all(&self) -> impl Iterator<Item = &ClearingPlace> {
        let chunks = successors(Some(&self.0), |chunk| chunk.more.as_deref());
        chunks.flat_map(|chunk| chunk.places.iter().flatten())
    }

    fn has(&self, page: u64) -> bool {
        let point = Interval::point(page);
        self.all().any(|place| place.pages.contains(point))
    }

    fn get(&self, key: usize) -> Option<Clearing> {
        let place = self.all().find(|place| place.key == key);
        place.map(|place| place.what)
    }

    /// The first place for which `condition` holds.
    fn place(
        &mut self,
        condition: impl Fn(&Option<ClearingPlace>) -> bool,
    ) -> Option<&mut Option<ClearingPlace>> {
        let mut chunk = &mut self.0;
        loop {
            if let Some(at) = chunk.places.iter().position(&condition) {
                return chunk.places.get_mut(at);
            }
            chunk = chunk.more.as_deref_mut()?;
        }
    }

    /// False if there is no place.
    fn begin(&mut self, key: usize, pages: Interval) -> bool {
        let task = Task::current_raw().cast_const().cast();
        let nested = self.all().any(|place| place.task == task);
        let what = if nested {
            Clearing::Nested
        } else {
            Clearing::All
        };
        let new = ClearingPlace {
            key,
            pages,
            task,
            what,
        };
        self.place(Option::is_none)
            .map(|place| *place = Some(new))
            .is_some()
    }

    fn end(&mut self, key: usize) {
        let is_this = |place: &Option<ClearingPlace>| place.is_some_and(|place| place.key == key);
        if let Some(place) = self.place(is_this) {
            *place = None;
        }
    }

    fn add_room(&mut self, mut room: KBox<ClearingPlaces>) {
        room.more = self.0.more.take();
        self.0.more = Some(room);
    }
}

#[kunit_tests(anon_rmap_clearings)]
mod tests {
    use super::*;

    #[test]
    fn a_clearing_is_found_by_its_key_whatever_its_range() {
        let mut places = Places::NONE;
        assert!(places.begin(1, Interval::point(10)));
        assert!(places.has(10) && !places.has(11));
        assert_eq!(places.get(1), Some(Clearing::All));
        assert_eq!(places.get(2), None);
        places.end(1);
        assert!(!places.has(10));
        assert_eq!(places.get(1), None);
    }

    #[test]
    fn a_clearing_within_another_of_the_task_discards_nothing() {
        let mut places = Places::NONE;
        assert!(places.begin(1, Interval::point(10)));
        assert!(places.begin(2, Interval::ALL));
        assert!(places.has(5000));
        assert_eq!(places.get(2), Some(Clearing::Nested));
        places.end(2);
        assert_eq!(places.get(1), Some(Clearing::All));
        assert!(!places.has(5000));
    }

    #[test]
    fn clearings_find_more_places() -> Result {
        let mut places = Places::NONE;
        let many = 3 * ClearingPlaces::PLACES;
        for key in 0..many {
            while !places.begin(key, Interval::point(key as u64)) {
                places.add_room(KBox::new(ClearingPlaces::NONE, GFP_KERNEL)?);
            }
        }
        for key in 0..many {
            assert!(places.has(key as u64) && places.get(key).is_some());
            places.end(key);
            assert!(!places.has(key as u64) && places.get(key).is_none());
        }
        // What was made room for is used again.
        assert!((0..many).all(|key| places.begin(key, Interval::ALL)));
        Ok(())
    }
}
