// SPDX-License-Identifier: GPL-2.0

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
    vma::VmaState, //
};
use core::ops::Deref;
use kernel::{
    bindings,
    list::{
        impl_list_arc_safe,
        impl_list_item,
        List,
        ListArc,
        ListLinks, //
    },
    mm::Mm,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        aref::ARef,
        global_lock,
        Arc,
        Mutex, //
    },
    types::Opaque, //
};

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static ALL: SpinLock<List<AddressSpace>> = List::new();
}

/// Makes the list of all address spaces usable.
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
    #[pin]
    links: ListLinks,
}

impl_list_arc_safe! {
    impl ListArcSafe<0> for AddressSpace { untracked; }
}
impl_list_item! {
    impl ListItem<0> for AddressSpace { using ListLinks { self.links }; }
}

// SAFETY: The subscription is core mm's, which locks it; all else is `Send`.
unsafe impl Send for AddressSpace {}
// SAFETY: As above.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// A new address space, in the list of all; the result is what core mm subscribes, and what
    /// [`Self::release`] must be called with in the end. [`ENOMEM`].
    pub(crate) fn alloc(mm: &Mm) -> Result<*mut bindings::mmu_notifier> {
        let space = ListArc::<Self>::pin_init(
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
                    },
                    "anon_rmap_vmas"
                ),
                links <- ListLinks::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        let notifier = space.notifier.get();
        // Core mm's reference, until `release`.
        let _ = Arc::into_raw(space.clone_arc());
        ALL.lock().push_back(space);
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
        // SAFETY: The address space is in this list or in none.
        let _listed = unsafe { ALL.lock().remove(&space) };
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

    /// The states of all VMAs of the device, in the order of addresses; [`ENOMEM`].
    pub(crate) fn states(&self) -> Result<KVec<Arc<VmaState>>> {
        let mut states = KVec::new();
        loop {
            let vmas = self.vmas.lock();
            let len = vmas.by_page.len();
            if len <= states.capacity() {
                for (_, state) in vmas.by_page.iter() {
                    // There is room: checked above.
                    let _ = states.push_within_capacity(state.clone());
                }
                return Ok(states);
            }
            drop(vmas);
            states.reserve(len, GFP_KERNEL)?;
        }
    }

    /// All address spaces that map the device; [`ENOMEM`].
    pub(crate) fn all() -> Result<KVec<Arc<Self>>> {
        let mut all = KVec::new();
        loop {
            let list = ALL.lock();
            let len = list.iter().count();
            if len <= all.capacity() {
                for space in list.iter() {
                    // There is room: checked above.
                    let _ = all.push_within_capacity(space.into());
                }
                return Ok(all);
            }
            drop(list);
            all.reserve(len, GFP_KERNEL)?;
        }
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
