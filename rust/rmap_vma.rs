// SPDX-License-Identifier: GPL-2.0-only

//! A VMA as the rmap knows it: enough to find the page table entry of an index, and to zap it.

use crate::{
    address_space::AddressSpace,
    amap::Amap,
    family::{
        Family,
        Window, //
    },
    helpers,
    index::{
        Base,
        Index, //
    },
    interval_tree::Interval,
    zap::zap, //
};
use core::ptr;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// What an entry of a page table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It maps this frame.
    Page(u64),
    /// It maps the page of zeroes that all share.
    Zeroes,
    /// A marker that core mm handles before our faults, or that these take over: guard pages, userfaultfd's
    /// write-protection.
    KnownMarker,
    /// Anything else.
    Unknown,
}

/// What has come of a zap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zap {
    /// The page was mapped, and is no more.
    Done {
        /// Whether the entry said that the page had been written since the last `clear_refs`.
        soft_dirty: bool,
    },
    /// It was not mapped.
    Nothing,
    /// Core mm is unmapping the VMA, and has not flushed all TLBs yet.
    Unflushed,
}

/// A VMA of the device, from before it is linked until after it is unlinked.
pub(crate) struct RmapVma {
    space: Arc<AddressSpace>,
    family: Arc<Family>,
    amap: Arc<Amap>,
    base: Base,
    /// That of the VMA, and that of the one it was split off.
    windows: [Window; 2],
    vma: Atomic<*mut bindings::vm_area_struct>,
    /// Whether the VMA is known to be linked in `i_mmap`: a fault has seen it, and core mm has not announced since that
    /// it unmaps it. Announcing comes before unlinking: `unmap_vmas()` before `free_pgtables()`.
    settled: Atomic<bool>,
}

// SAFETY: The pointer to the VMA is followed only under locks that keep it, see `Family::i_mmap`; all else is `Send`.
unsafe impl Send for RmapVma {}
// SAFETY: What can change is atomic; the pointer is followed as above.
unsafe impl Sync for RmapVma {}

impl RmapVma {
    /// What the rmap will know of a VMA; [`ENOMEM`].
    pub(crate) fn new(
        space: Arc<AddressSpace>,
        family: Arc<Family>,
        amap: Arc<Amap>,
        base: Base,
        windows: [Window; 2],
    ) -> Result<Arc<Self>> {
        let new = Self {
            space,
            family,
            amap,
            base,
            windows,
            vma: Atomic::new(ptr::null_mut()),
            settled: Atomic::new(false),
        };
        Ok(Arc::new(new, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whose address space it is. Its `mm_struct` may have no users any more.
    pub(crate) fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// The family that the VMA belongs to.
    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// What the VMA holds.
    pub(crate) fn amap(&self) -> &Arc<Amap> {
        &self.amap
    }

    /// Where the VMA puts its indices.
    pub(crate) fn base(&self) -> Base {
        self.base
    }

    /// The window of the VMA.
    pub(crate) fn window(&self) -> Window {
        self.windows[0]
    }

    /// The window of the VMA, and that of the VMA that covers its addresses as long as core mm has not split it.
    pub(crate) fn windows(&self) -> [Window; 2] {
        self.windows
    }

    /// The VMA; null until it has been published. Valid until it is closed.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.vma.load(Relaxed)
    }

    /// Says which VMA it is.
    pub(crate) fn publish(&self, vma: *mut bindings::vm_area_struct) {
        self.vma.store(vma, Relaxed);
    }

    /// Notes that a fault has found the VMA, so it is linked.
    pub(crate) fn settle(&self) {
        // A line that is only read stays in all caches.
        if !self.settled.load(Relaxed) {
            self.settled.store(true, Relaxed);
        }
    }

    /// Notes that core mm is about to unmap or to move the VMA.
    pub(crate) fn unsettle(&self) {
        self.settled.store(false, Relaxed);
    }

    /// Whether the VMA is known to be linked, unless its address space is exiting; to be asked with `i_mmap` locked.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Whether the page table maps frame `pfn` at `index`.
    ///
    /// # Safety
    ///
    /// The VMA must be linked, and `i_mmap` locked.
    pub(crate) unsafe fn maps(&self, index: Index, pfn: u64) -> bool {
        // SAFETY: The caller promises what this requires.
        unsafe { self.entry_of(index, pfn) }.is_some()
    }

    /// Whether the entry at `index` is soft-dirty; `None` if it does not map frame `pfn`.
    ///
    /// # Safety
    ///
    /// As for [`Self::maps`].
    unsafe fn entry_of(&self, index: Index, pfn: u64) -> Option<bool> {
        let mm = self.space.mm().as_raw();
        let address = self.base.address(index);
        let mut soft_dirty = false;
        // SAFETY: The caller sees to it that the page tables stay; the flag is valid for writes.
        let mapped =
            unsafe { helpers::anon_rmap_maps_pfn(mm, address, pfn as usize, &mut soft_dirty) };
        mapped.then_some(soft_dirty)
    }

    /// Takes frame `pfn` out of the page table at `index`, where `linked` is the VMA that is linked, and out of all TLBs.
    ///
    /// # Safety
    ///
    /// `linked` must be linked and cover the index, and `i_mmap` be locked.
    pub(crate) unsafe fn zap_if_mapped(
        &self,
        linked: *mut bindings::vm_area_struct,
        index: u64,
        pfn: u64,
    ) -> Zap {
        let start = self.base.address(Index(index));
        let mm = self.space.mm().as_raw();
        // SAFETY: The caller promises what this requires.
        let mapped = unsafe { self.entry_of(Index(index), pfn) };
        // Core mm clears entries first and flushes later. A zap meanwhile flushes all, see `tlb_finish_mmu()`.
        // SAFETY: The `mm_struct` is live.
        if mapped.is_some() || unsafe { helpers::anon_rmap_tlb_flush_pending(mm) } {
            // SAFETY: The VMA is valid, keeps its page tables, and covers the page.
            unsafe { zap(linked, start..start + PAGE_SIZE) };
        }
        mapped.map_or(Zap::Nothing, |soft_dirty| Zap::Done { soft_dirty })
    }

    /// Whether what core mm has unmapped, or is unmapping, can still be in a TLB.
    pub(crate) fn is_unflushed(&self) -> bool {
        // SAFETY: The `mm_struct` is live.
        let pending = unsafe { helpers::anon_rmap_tlb_flush_pending(self.space.mm().as_raw()) };
        pending && !self.space.is_exiting()
    }

    /// The first entry in `indices` that is not empty, and the rest of the indices behind what was looked at: a bounded
    /// number.
    ///
    /// # Safety
    ///
    /// The VMA must be linked, and `i_mmap` locked.
    pub(crate) unsafe fn next_entry(
        &self,
        indices: Interval,
    ) -> (Option<(Index, Entry)>, Option<Interval>) {
        let (mut kind, mut pfn) = (0, 0);
        let addresses = self.base.addresses(indices);
        // SAFETY: The caller sees to it that the page tables stay; the pointers are valid for writes.
        let address = unsafe {
            helpers::anon_rmap_next_entry(
                self.space.mm().as_raw(),
                addresses.start,
                addresses.end,
                &mut kind,
                &mut pfn,
            )
        };
        let entry = match kind as u32 {
            helpers::ENTRY_NONE => None,
            helpers::ENTRY_PAGE => Some(Entry::Page(pfn as u64)),
            helpers::ENTRY_ZEROES => Some(Entry::Zeroes),
            helpers::ENTRY_KNOWN_MARKER => Some(Entry::KnownMarker),
            _ => Some(Entry::Unknown),
        };
        let index = self.base.index(address);
        let behind = index.0 + u64::from(entry.is_some());
        (
            entry.map(|entry| (index, entry)),
            Interval::new(behind, indices.last()),
        )
    }
}
