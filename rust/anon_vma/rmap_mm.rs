// SPDX-License-Identifier: GPL-2.0-only

//! An `mm_struct` as the rmap knows it: whose the VMAs are that it finds.

use crate::{
    helpers,
    interval_tree::{
        IntervalTreeNode,
        Surplus, //
    },
    process, //
};
use core::{
    mem,
    ops::Deref, //
};
use kernel::{
    mm::Mm,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    }, //
};

/// An `mm_struct` with VMAs of the device. It may have no users any more.
#[pin_data]
pub(crate) struct RmapMm {
    mm: ARef<Mm>,
    /// Whether core mm is taking the address space down.
    exiting: Atomic<bool>,
    /// The failure that found a holder here last, and of which page, see [`Self::is_first_hit_by`].
    last_failure: Atomic<u64>,
    last_page: Atomic<usize>,
    /// The [key](process::current_key) of a task that is [zapping](Self::zap_for_driver); 0 if there is none.
    zapper: Atomic<usize>,
    /// How many others do so at this time.
    other_zappers: Atomic<usize>,
    /// What linking VMAs has not needed and unlinking them has left, for those to come.
    #[pin]
    surplus: SpinLock<[Surplus; Self::SURPLUS]>,
}

impl RmapMm {
    /// As much as a split leaves: the VMA is linked in two trees.
    const SURPLUS: usize = 2;

    /// What the rmap will know of `mm`; [`ENOMEM`].
    pub(crate) fn new(mm: &Mm) -> Result<Arc<Self>> {
        let new = pin_init!(Self {
            mm: mm.into(),
            exiting: Atomic::new(false),
            last_failure: Atomic::new(0),
            last_page: Atomic::new(0),
            zapper: Atomic::new(0),
            other_zappers: Atomic::new(0),
            surplus <- new_spinlock!([Surplus::NONE; Self::SURPLUS], "anon_rmap_surplus"),
        });
        Arc::pin_init(new, GFP_KERNEL_ACCOUNT)
    }

    /// A node for an interval tree of VMAs; [`ENOMEM`].
    pub(crate) fn new_node<T>(&self, value: T) -> Result<IntervalTreeNode<T>> {
        let surplus = {
            let mut kept = self.surplus.lock();
            let some = kept.iter_mut().find(|surplus| !surplus.is_none());
            some.map_or(Surplus::NONE, |surplus| {
                mem::replace(surplus, Surplus::NONE)
            })
        };
        Ok(IntervalTreeNode::with_surplus(
            value,
            surplus,
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Keeps what the insertion of such a node has not needed, or its removal has left, if there is room for it. Does not sleep.
    pub(crate) fn keep_surplus(&self, mut surplus: Surplus) {
        if surplus.is_none() {
            return;
        }
        let mut kept = self.surplus.lock();
        if let Some(free) = kept.iter_mut().find(|surplus| surplus.is_none()) {
            mem::swap(free, &mut surplus);
        }
    }

    /// Notes that core mm takes the address space down: page tables are going to be freed without further notice.
    pub(crate) fn set_exiting(&self) {
        self.exiting.store(true, Relaxed);
    }

    /// Whether it does.
    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Relaxed)
    }

    /// Whether what core mm has unmapped, or is unmapping, can still be in a TLB.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.is_flush_pending() && !self.is_exiting()
    }

    /// Whether core mm is between clearing entries and flushing TLBs.
    pub(super) fn is_flush_pending(&self) -> bool {
        // SAFETY: There is a reference to the `mm_struct`.
        unsafe { helpers::anon_rmap_tlb_flush_pending(self.mm.as_raw()) }
    }

    /// Calls `zap`, which clears page table entries for the driver's own ends and does nothing else, so that the mmu notifier
    /// finds out [at once](Self::is_zapped_by_current). If another task does so at this time, it [has to](Self::may_be_zapped_by_current)
    /// look for the reason.
    pub(crate) fn zap_for_driver(&self, zap: impl FnOnce()) {
        let key = process::current_key();
        let is_noted = self.zapper.cmpxchg(0, key, Relaxed).is_ok();
        if !is_noted {
            self.other_zappers.fetch_add(1, Relaxed);
        }
        zap();
        if is_noted {
            self.zapper.store(0, Relaxed);
        } else {
            self.other_zappers.fetch_sub(1, Relaxed);
        }
    }

    /// Whether the current task can be zapping for the driver's own ends without [being known](Self::is_zapped_by_current) for it.
    pub(crate) fn may_be_zapped_by_current(&self) -> bool {
        self.other_zappers.load(Relaxed) > 0
    }

    /// Whether the current task is known to zap for the driver's own ends. It can do so without being known.
    pub(crate) fn is_zapped_by_current(&self) -> bool {
        self.zapper.load(Relaxed) == process::current_key()
    }

    /// Whether the failure with this number, which is greater than zero, has not found a holder of `page`, which is a name, here before. Asked for one
    /// page after the other. Two failures at the same time can both be told so twice.
    pub(crate) fn is_first_hit_by(&self, failure: u64, page: usize) -> bool {
        let is_other_page = self.last_page.xchg(page, Relaxed) != page;
        self.last_failure.xchg(failure, Relaxed) != failure || is_other_page
    }
}

impl Deref for RmapMm {
    type Target = Mm;

    fn deref(&self) -> &Mm {
        &self.mm
    }
}
