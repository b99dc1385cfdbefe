// SPDX-License-Identifier: GPL-2.0-only

//! What the driver knows of an address space: its VMAs of the device.

use crate::{
    amap::{
        Amap,
        AmapId, //
    },
    helpers,
    interval_tree::{
        Interval,
        IntervalTree, //
    },
    notifier,
    vma::VmaState,
    wait::{
        wake,
        Wait, //
    }, //
};
use core::{
    iter::{
        from_fn,
        successors, //
    },
    ops::{
        Deref,
        Range, //
    }, //
};
use kernel::{
    bindings,
    mm::Mm,
    new_mutex,
    new_spinlock,
    page::PAGE_SHIFT,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        global_lock,
        Arc,
        Mutex,
        SpinLock, //
    },
    task::Task,
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static ALL: SpinLock<Option<RBTree<usize, Arc<AddressSpace>>>> = None;
}

/// Makes the map of all address spaces usable.
///
/// # Safety
///
/// Must be called exactly once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller promises that this is the only call.
    unsafe { ALL.init() };
}

/// What the lock of an address space guards.
pub(crate) struct Vmas {
    /// The device's VMAs by the page numbers of their addresses.
    ///
    /// An interval can be shorter than its VMA, which grows without a hook being called; but it
    /// covers all that the VMA has ever mapped.
    pub(crate) by_page: IntervalTree<Arc<VmaState>>,
    /// The amap that the address space got last when it was forked, with the name of the parent's.
    /// All VMAs that share an amap in the parent find it here, since fork copies them in a row.
    last_fork: Option<(AmapId, Arc<Amap>)>,
    /// The move of pages that is under way: mremap holds the mmap lock for writing, so there is one.
    pub(crate) moving: Option<Move>,
    /// How many there have been.
    pub(crate) moves: u64,
}

/// A move of pages to another VMA, by mremap.
pub(crate) struct Move {
    /// From where.
    pub(crate) source: Arc<VmaState>,
    /// The address at which that starts.
    pub(crate) source_start: usize,
    /// Which addresses; not known until core mm announces it.
    pub(crate) moved: Option<Range<usize>>,
}

impl Vmas {
    /// Takes the amap of the last fork if there is no VMA any more that could want it. To be dropped
    /// without the lock.
    pub(crate) fn forget_fork_if_empty(&mut self) -> Option<Arc<Amap>> {
        if !self.by_page.is_empty() {
            return None;
        }
        self.last_fork.take().map(|(_, amap)| amap)
    }
}

/// One address space which maps the device, with the driver's subscription to its changes.
///
/// Found by core mm's list of subscriptions: each VMA holds a [`Subscription`], and the last one
/// takes the address space off that list.
#[pin_data]
pub(crate) struct AddressSpace {
    #[pin]
    notifier: Opaque<bindings::mmu_notifier>,
    mm: ARef<Mm>,
    /// Comes after the mmap lock and before the lock of an amap. The mmu notifier takes it.
    #[pin]
    vmas: Mutex<Vmas>,
    /// Where core mm is clearing page table entries. Comes after the lock of an amap.
    #[pin]
    clearings: SpinLock<Clearings>,
    /// How many these are, to look at them only if there are any.
    nr_clearings: Atomic<usize>,
    /// Whether core mm is taking the address space down.
    exiting: Atomic<bool>,
    /// The failure that found a holder here last, see [`Self::is_first_hit_by`].
    last_failure: Atomic<u64>,
}

// SAFETY: The subscription is core mm's, which locks it; all else is `Send`.
unsafe impl Send for AddressSpace {}
// SAFETY: As above.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// A new address space, in the list of all; the result is what core mm subscribes, and what
    /// [`Self::release`] must be called with in the end. [`ENOMEM`].
    pub(crate) fn alloc(mm: &Mm) -> Result<*mut bindings::mmu_notifier> {
        let space = Arc::pin_init(
            try_pin_init!(Self {
                notifier <- Opaque::ffi_init(|slot: *mut bindings::mmu_notifier| {
                    // SAFETY: The slot is valid for writes, and all zeroes is how a subscription
                    // starts.
                    unsafe { slot.write_bytes(0, 1) }
                }),
                mm: mm.into(),
                vmas <- new_mutex!(
                    Vmas {
                        by_page: IntervalTree::new(),
                        last_fork: None,
                        moving: None,
                        moves: 0,
                    },
                    "anon_rmap_vmas"
                ),
                clearings <- new_spinlock!(Clearings::NONE, "anon_rmap_clearings"),
                nr_clearings: Atomic::new(0),
                exiting: Atomic::new(false),
                last_failure: Atomic::new(0),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let node = node.into_node(space.key(), space.clone());
        // One that has lost its last VMA may not have been freed yet.
        let _old = ALL.lock().get_or_insert_with(RBTree::new).insert(node);
        let notifier = space.notifier.get();
        // Core mm's reference, until `release`.
        let _ = Arc::into_raw(space);
        Ok(notifier)
    }

    /// Takes core mm's reference back. Does not sleep.
    ///
    /// # Safety
    ///
    /// `notifier` must come from [`Self::alloc`], and must not be used afterwards.
    pub(crate) unsafe fn release(notifier: *mut bindings::mmu_notifier) {
        // SAFETY: The caller promises that this is the field of a live address space.
        let space = unsafe { Arc::from_raw(Self::from_notifier(notifier)) };
        let key = space.key();
        let _node = {
            let mut all = ALL.lock();
            let is_this = |all: &RBTree<usize, Arc<Self>>| {
                all.get(&key)
                    .is_some_and(|other| Arc::ptr_eq(other, &space))
            };
            match all.as_mut() {
                Some(all) if is_this(all) => all.remove_node(&key),
                _ => None,
            }
        };
    }

    /// The address space of `mm`, if it maps the device. O(log n).
    pub(crate) fn of(mm: &Mm) -> Option<Arc<Self>> {
        let all = ALL.lock();
        Some(all.as_ref()?.get(&(mm.as_raw() as usize))?.clone())
    }

    /// Notes that core mm takes the address space down: page tables are going to be freed without further notice.
    pub(crate) fn set_exiting(&self) {
        self.exiting.store(true, Relaxed);
    }

    /// Whether it does.
    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Relaxed)
    }

    /// Whether the failure with this number, which is greater than zero, has not found a holder here before. Two failures at
    /// the same time can both be told so twice.
    pub(crate) fn is_first_hit_by(&self, failure: u64) -> bool {
        self.last_failure.xchg(failure, Relaxed) != failure
    }

    /// Whether core mm is clearing the page table entry of page number `page`. To be asked under the lock of the amap
    /// concerned, which [`Self::begin_clearing`] is followed by.
    pub(crate) fn is_clearing(&self, page: u64) -> Option<Wait> {
        if self.nr_clearings.load(Relaxed) == 0 {
            return None;
        }
        let clearings = self.clearings.lock();
        clearings.has(page).then(|| Wait::new(self))
    }

    /// Notes that core mm is about to clear the page table entries of `pages`; `key` is the notification's. The caller must
    /// hold no lock of the driver.
    ///
    /// It then takes the lock of each amap concerned once: whoever has it afterwards finds out.
    pub(crate) fn begin_clearing(&self, key: usize, pages: Interval) {
        let mut room = None;
        loop {
            {
                let mut clearings = self.clearings.lock();
                if let Some(room) = room.take() {
                    clearings.add_room(room);
                }
                if clearings.begin(key, pages) {
                    break;
                }
            }
            match KBox::new(ClearingPlaces::NONE, GFP_ATOMIC | __GFP_NOWARN) {
                Ok(new) => room = Some(new),
                // Until one of many others ends, which waits for nobody.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        }
        self.nr_clearings.fetch_add(1, Relaxed);
    }

    /// Whether the notification with this key clears something, and has not been [nested](Self::begin_clearing) in another
    /// one of the current task.
    pub(crate) fn clearing(&self, key: usize) -> Option<Clearing> {
        self.clearings.lock().get(key)
    }

    /// Ends what [`Self::begin_clearing`] began.
    pub(crate) fn end_clearing(&self, key: usize) {
        self.nr_clearings.fetch_sub(1, Relaxed);
        self.clearings.lock().end(key);
        wake(self);
    }

    /// The address space whose subscription `notifier` is.
    ///
    /// # Safety
    ///
    /// `notifier` must come from [`Self::alloc`].
    pub(crate) unsafe fn from_notifier(notifier: *mut bindings::mmu_notifier) -> *const Self {
        // SAFETY: The caller promises that this is the field of an address space.
        unsafe { kernel::container_of!(Opaque::cast_from(notifier), Self, notifier) }
    }

    /// The `mm_struct`. It may have no users any more.
    pub(crate) fn mm(&self) -> &Mm {
        &self.mm
    }

    /// The lock over the address space's VMAs.
    pub(crate) fn vmas(&self) -> &Mutex<Vmas> {
        &self.vmas
    }

    /// The amap of this address space, which is being forked, for what the parent has in `parent`.
    ///
    /// # Errors
    ///
    /// Those of `new`, which makes the amap if there is none yet.
    pub(crate) fn amap_of_fork(
        &self,
        parent: AmapId,
        new: impl FnOnce() -> Result<Arc<Amap>>,
    ) -> Result<Arc<Amap>> {
        if let Some((id, amap)) = &self.vmas.lock().last_fork {
            if *id == parent {
                return Ok(amap.clone());
            }
        }
        let amap = new()?;
        let old = self.vmas.lock().last_fork.replace((parent, amap.clone()));
        drop(old);
        Ok(amap)
    }

    /// Names the address space, as long as there is one; in the order of [`Self::all`].
    pub(crate) fn key(&self) -> usize {
        self.mm.as_raw() as usize
    }

    /// The first address space whose [key](Self::key) is `key` or comes later. O(log n).
    pub(crate) fn first_from(key: usize) -> Option<Arc<Self>> {
        let all = ALL.lock();
        let cursor = all.as_ref()?.cursor_lower_bound(&key)?;
        Some(cursor.current().1.clone())
    }

    /// All address spaces that map the device, looked up one by one: each that stays is found once, whatever becomes of
    /// others meanwhile.
    pub(crate) fn all() -> impl Iterator<Item = Arc<Self>> {
        successors(Self::first_from(0), |space| {
            Self::first_from(space.key() + 1)
        })
    }

    /// The first VMA of the device that starts at page number `page` or later, with the page numbers that it is known to
    /// cover. O(log n).
    pub(crate) fn first_vma_from(&self, page: u64) -> Option<(Interval, Arc<VmaState>)> {
        let vmas = self.vmas.lock();
        let mut behind = vmas.by_page.overlapping(Interval::new(page, u64::MAX)?);
        let (covered, state) = behind.find(|(covered, _)| covered.start() >= page)?;
        Some((covered, state.clone()))
    }

    /// The states of all VMAs of the device, in the order of addresses, looked up one by one: each that stays is found once,
    /// whatever becomes of others meanwhile.
    pub(crate) fn states(&self) -> impl Iterator<Item = Arc<VmaState>> + '_ {
        let mut page = 0;
        from_fn(move || {
            let (covered, state) = self.first_vma_from(page)?;
            page = covered.last() + 1;
            Some(state)
        })
    }
}

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
pub(crate) struct Clearings(ClearingPlaces);

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

impl Clearings {
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

/// Page numbers of the addresses `[start, end)`; [`EINVAL`] if there are none.
pub(crate) fn pages(start: usize, end: usize) -> Result<Interval> {
    if start >= end {
        return Err(EINVAL);
    }
    Interval::new(
        (start >> PAGE_SHIFT) as u64,
        ((end - 1) >> PAGE_SHIFT) as u64,
    )
    .ok_or(EINVAL)
}

/// One VMA's part in the subscription of its address space.
///
/// # Invariants
///
/// Owns one use of the subscription, as counted by core mm.
pub(crate) struct Subscription(Arc<AddressSpace>);

impl Subscription {
    /// Subscribes to the changes of `mm`, or uses the subscription that there is.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`EINTR`] if a signal is pending and the subscription is new.
    ///
    /// # Safety
    ///
    /// The caller must hold the mmap lock of `mm` for writing.
    pub(crate) unsafe fn new(mm: *mut bindings::mm_struct) -> Result<Self> {
        // SAFETY: The caller holds the lock that this needs.
        let notifier = kernel::error::from_err_ptr(unsafe {
            bindings::mmu_notifier_get_locked(notifier::OPS.as_ptr(), mm)
        })?;
        // SAFETY: A subscription with our operations comes from `AddressSpace::alloc`, and as we
        // have a use of it, it has not been released.
        let space = unsafe { Arc::from_raw(AddressSpace::from_notifier(notifier)) };
        // Core mm's reference stays what it is; ours is a new one.
        let _ = Arc::into_raw(space.clone());
        // INVARIANT: `mmu_notifier_get_locked` has counted this use.
        Ok(Self(space))
    }

    /// As [`Self::new`], but a pending signal is no reason to fail: for fork, which could not say
    /// so, and mmap, which does not for anonymous memory.
    ///
    /// # Safety
    ///
    /// As for [`Self::new`].
    pub(crate) unsafe fn new_uninterruptible(mm: *mut bindings::mm_struct) -> Result<Self> {
        let mut hidden = None;
        let result = loop {
            // SAFETY: The caller promises what `new` requires.
            match unsafe { Self::new(mm) } {
                Err(error) if error == EINTR => {
                    // SAFETY: The current task may hide its own signals from itself.
                    let notify = unsafe { helpers::anon_rmap_hide_signals() };
                    hidden = Some(notify || hidden == Some(true));
                }
                result => break result,
            }
        };
        if let Some(notify) = hidden {
            // SAFETY: Undoes the above.
            unsafe { helpers::anon_rmap_show_signals(notify) };
        }
        result
    }
}

impl Subscription {
    /// The address space, which may outlive the subscription.
    pub(crate) fn space(&self) -> &Arc<AddressSpace> {
        &self.0
    }
}

impl Deref for Subscription {
    type Target = AddressSpace;

    fn deref(&self) -> &AddressSpace {
        &self.0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: By the invariant one use is ours to give back.
        unsafe { bindings::mmu_notifier_put(self.0.notifier.get()) };
    }
}

#[kunit_tests(anon_rmap_address_space)]
mod tests {
    use super::*;

    #[test]
    fn a_clearing_is_found_by_its_key_whatever_its_range() {
        let mut clearings = Clearings::NONE;
        assert!(clearings.begin(1, Interval::point(10)));
        assert!(clearings.has(10) && !clearings.has(11));
        assert_eq!(clearings.get(1), Some(Clearing::All));
        assert_eq!(clearings.get(2), None);
        clearings.end(1);
        assert!(!clearings.has(10));
        assert_eq!(clearings.get(1), None);
    }

    #[test]
    fn a_clearing_within_another_of_the_task_discards_nothing() {
        let mut clearings = Clearings::NONE;
        assert!(clearings.begin(1, Interval::point(10)));
        assert!(clearings.begin(2, Interval::ALL));
        assert!(clearings.has(5000));
        assert_eq!(clearings.get(2), Some(Clearing::Nested));
        clearings.end(2);
        assert_eq!(clearings.get(1), Some(Clearing::All));
        assert!(!clearings.has(5000));
    }

    #[test]
    fn clearings_find_more_places() -> Result {
        let mut clearings = Clearings::NONE;
        let many = 3 * ClearingPlaces::PLACES;
        for key in 0..many {
            while !clearings.begin(key, Interval::point(key as u64)) {
                clearings.add_room(KBox::new(ClearingPlaces::NONE, GFP_KERNEL)?);
            }
        }
        for key in 0..many {
            assert!(clearings.has(key as u64) && clearings.get(key).is_some());
            clearings.end(key);
            assert!(!clearings.has(key as u64) && clearings.get(key).is_none());
        }
        // What was made room for is used again.
        assert!((0..many).all(|key| clearings.begin(key, Interval::ALL)));
        Ok(())
    }
}
