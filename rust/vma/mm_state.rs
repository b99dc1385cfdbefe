// SPDX-License-Identifier: GPL-2.0-only

//! The driver's state of one mm: its VMAs of the device.

use super::{
    clearings::Clearings,
    SplitReservation,
    VmaState, //
};
use crate::{
    amap::{
        Amap,
        AmapId, //
    },
    anon_vma::rmap_mm::RmapMm,
    index::Pages,
    interval_tree::IntervalTree,
    loading::Loading, //
};
use core::{
    iter::{
        from_fn,
        successors, //
    },
    ops::Range, //
};
use kernel::{
    bindings,
    container_of,
    mm::Mm,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::Atomic,
        global_lock,
        Arc,
        ArcBorrow,
        Mutex, //
    },
    types::Opaque, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static ALL: SpinLock<Option<RBTree<usize, Arc<MmState>>>> = None;
}

/// Makes the map of all address spaces usable. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&ALL)
}

/// What the lock of an address space guards.
pub(crate) struct Vmas {
    /// The device's VMAs by the page numbers of their addresses.
    ///
    /// An interval can be shorter than its VMA, which grows without a hook being called; but it
    /// covers all that the VMA has ever mapped.
    pub(super) by_page: IntervalTree<Arc<VmaState>>,
    /// The amap that the address space got last when it was forked, with the name of the parent's.
    /// All VMAs that share an amap in the parent find it here, since fork copies them in a row.
    last_fork: Option<(AmapId, Arc<Amap>)>,
    /// What the next split will need: core mm splits with the mmap lock held for writing, so there is one.
    pub(super) split: Option<SplitReservation>,
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
    /// The VMAs that are known to cover some of `pages`, each with what it is known to cover. O(log n) for the first.
    pub(crate) fn overlapping(
        &self,
        pages: Pages,
    ) -> impl Iterator<Item = (Pages, &Arc<VmaState>)> {
        let vmas = self.by_page.overlapping(pages);
        vmas.map(|(covered, state)| (covered.into(), state))
    }

    /// Takes the amap of the last fork if there is no VMA any more that could want it. To be dropped
    /// without the lock.
    pub(crate) fn forget_fork_if_empty(&mut self) -> Option<Arc<Amap>> {
        if !self.by_page.is_empty() {
            return None;
        }
        self.last_fork.take().map(|(_, amap)| amap)
    }
}

/// One address space which maps the device, or has once, with the driver's subscription to its changes.
///
/// Found by core mm's list of subscriptions: each VMA holds a [`Subscription`](super::notifier::Subscription), and one more is
/// kept until the address space ends, since subscribing takes all locks of it.
#[pin_data]
pub(crate) struct MmState {
    #[pin]
    notifier: Notifier,
    /// Whether a use of the subscription is kept.
    pub(super) is_kept: Atomic<bool>,
    rmap: Arc<RmapMm>,
    /// Comes after the mmap lock and before the lock of an amap. The mmu notifier takes it.
    #[pin]
    vmas: Mutex<Vmas>,
    #[pin]
    clearings: Clearings,
}

/// What core mm knows the subscription by, and keeps to itself.
#[repr(transparent)]
struct Notifier(Opaque<bindings::mmu_notifier>);

// SAFETY: Core mm lets any task give it back.
unsafe impl Send for Notifier {}
// SAFETY: All that a shared reference allows is to pass its address to core mm, which has its own lock for it.
unsafe impl Sync for Notifier {}

impl MmState {
    /// A new address space, in the list of all; the result is what core mm subscribes, and what
    /// [`Self::release`] must be called with in the end. [`ENOMEM`].
    pub(crate) fn alloc(mm: &Mm) -> Result<*mut bindings::mmu_notifier> {
        let mm_state = Arc::pin_init(
            try_pin_init!(Self {
                notifier: Notifier(pin_init::zeroed()),
                is_kept: Atomic::new(false),
                rmap: RmapMm::new(mm)?,
                vmas <- new_mutex!(
                    Vmas {
                        by_page: IntervalTree::new(),
                        last_fork: None,
                        split: None,
                        moving: None,
                        moves: 0,
                    },
                    "anon_rmap_vmas"
                ),
                clearings <- Clearings::new(),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let node = node.into_node(mm_state.key(), mm_state.clone());
        // One that is not kept any more may not have been freed yet.
        let _old = ALL.lock().get_or_insert_with(RBTree::new).insert(node);
        let notifier = mm_state.notifier();
        // Core mm's reference, until `release`.
        let _ = Arc::into_raw(mm_state);
        Ok(notifier)
    }

    /// Takes core mm's reference back.
    ///
    /// # Safety
    ///
    /// `notifier` must come from [`Self::alloc`], and must not be used afterwards.
    pub(super) unsafe fn from_alloc(notifier: *mut bindings::mmu_notifier) -> Arc<Self> {
        // SAFETY: The caller promises that this is the field of a live address space, and that the reference is still there.
        unsafe { Arc::from_raw(container_of!(notifier.cast::<Notifier>(), Self, notifier)) }
    }

    /// Takes the address space out of the list of all. Does not sleep.
    pub(super) fn release(mm_state: Arc<Self>) {
        let key = mm_state.key();
        let _node = {
            let mut all = ALL.lock();
            let is_this = |all: &RBTree<usize, Arc<Self>>| {
                all.get(&key)
                    .is_some_and(|other| Arc::ptr_eq(other, &mm_state))
            };
            match all.as_mut() {
                Some(all) if is_this(all) => all.remove_node(&key),
                _ => None,
            }
        };
    }

    /// The address space of `mm`, if it maps the device or has once. O(log n).
    pub(crate) fn of(mm: &Mm) -> Option<Arc<Self>> {
        let all = ALL.lock();
        Some(all.as_ref()?.get(&(mm.as_raw() as usize))?.clone())
    }

    /// The address space whose subscription `notifier` is.
    ///
    /// # Safety
    ///
    /// `notifier` must come from [`Self::alloc`], and stay that of a subscription during `'a`.
    pub(super) unsafe fn of_notifier<'a>(
        notifier: *mut bindings::mmu_notifier,
    ) -> ArcBorrow<'a, Self> {
        // SAFETY: The caller promises that this is the field of a live address space, to which core mm has a reference.
        unsafe { ArcBorrow::from_raw(container_of!(notifier.cast::<Notifier>(), Self, notifier)) }
    }

    /// The `mm_struct`. It may have no users any more.
    pub(crate) fn mm(&self) -> &Mm {
        &self.rmap
    }

    /// Whose VMAs these are, as the rmap knows it.
    pub(crate) fn rmap_mm(&self) -> &Arc<RmapMm> {
        &self.rmap
    }

    /// Where core mm is clearing page table entries.
    pub(crate) fn clearings(&self) -> &Clearings {
        &self.clearings
    }

    /// The subscription, for core mm.
    pub(super) fn notifier(&self) -> *mut bindings::mmu_notifier {
        self.notifier.0.get()
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
        self.mm().as_raw() as usize
    }

    /// The first address space whose [key](Self::key) is `key` or comes later. O(log n).
    pub(crate) fn first_from(key: usize) -> Option<Arc<Self>> {
        let all = ALL.lock();
        let cursor = all.as_ref()?.cursor_lower_bound(&key)?;
        Some(cursor.current().1.clone())
    }

    /// All address spaces that map the device or have once, looked up one by one: each that stays is found once, whatever becomes of
    /// others meanwhile.
    pub(crate) fn all() -> impl Iterator<Item = Arc<Self>> {
        successors(Self::first_from(0), |mm_state| {
            Self::first_from(mm_state.key() + 1)
        })
    }

    /// The first VMA of the device that starts at page number `page` or later, with the page numbers that it is known to
    /// cover. O(log n).
    pub(crate) fn first_vma_from(&self, page: u64) -> Option<(Pages, Arc<VmaState>)> {
        let vmas = self.vmas.lock();
        let mut behind = vmas.overlapping(Pages::from_first(page));
        let (covered, state) = behind.find(|(covered, _)| covered.first() >= page)?;
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
