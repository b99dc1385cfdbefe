// SPDX-License-Identifier: GPL-2.0-only

//! A VMA as the rmap knows it: enough to find the page table entry of an index, and to zap it.

use super::{
    family::{
        Family,
        IMmap,
        Walker,
        Window, //
    },
    rmap_mm::RmapMm,
    zap::zap, //
};
use crate::{
    failure::Place,
    helpers,
    index::{
        Base,
        Index, //
    },
    interval_tree::Interval, //
};
use core::{
    ops::ControlFlow,
    ptr::{
        self,
        NonNull, //
    }, //
};
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

/// Names a page of the driver, for as long as somebody has a reference to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageId(usize);

impl PageId {
    /// The name of what keeps the state of the page.
    pub(crate) fn of<T>(page: &T) -> Self {
        Self(ptr::from_ref(page) as usize)
    }
}

/// What a VMA holds: pages, each at its index. What can be asked of it here, where nobody knows what a page is.
pub(crate) trait Holdings: Send + Sync {
    /// Whether `page` is at `index`. Sleeps, and takes a lock that comes before that of a page.
    fn hold(&self, index: Index, page: PageId) -> bool;
}

/// A VMA of the device, from before it is linked until after it is unlinked.
pub(crate) struct RmapVma {
    mm: Arc<RmapMm>,
    family: Arc<Family>,
    holdings: Arc<dyn Holdings>,
    base: Base,
    /// That of the VMA, and that of the one it was split off, which covers its addresses as long as core mm has not split it.
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
        mm: Arc<RmapMm>,
        family: Arc<Family>,
        holdings: Arc<dyn Holdings>,
        base: Base,
        windows: [Window; 2],
    ) -> Result<Arc<Self>> {
        let new = Self {
            mm,
            family,
            holdings,
            base,
            windows,
            vma: Atomic::new(ptr::null_mut()),
            settled: Atomic::new(false),
        };
        Ok(Arc::new(new, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whose it is.
    pub(crate) fn mm(&self) -> &Arc<RmapMm> {
        &self.mm
    }

    /// The family that the VMA belongs to.
    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// Whether the VMA holds `page` at `index`, see [`Holdings::hold`].
    pub(crate) fn holds(&self, index: Index, page: PageId) -> bool {
        self.holdings.hold(index, page)
    }

    /// Where the VMA puts its indices.
    pub(crate) fn base(&self) -> Base {
        self.base
    }

    /// Where the VMA puts `index`.
    pub(crate) fn place(&self, index: Index) -> Place {
        Place::in_mm(&self.mm, self.base.address(index))
    }

    /// The window of the VMA.
    pub(crate) fn window(&self) -> Window {
        self.windows[0]
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

    /// The VMA that is linked at `index`, under the lock of its family; null if there is none. It is valid and keeps its page tables.
    ///
    /// It is another one while a split is under way: our links are split before core mm's are. O(1) if the VMA has been used,
    /// else O(log n) and the relatives that map the same.
    ///
    /// None is looked for in an address space that is exiting: nobody accesses anything there any more.
    fn linked(&self, i_mmap: &IMmap<'_>, index: Index) -> *mut bindings::vm_area_struct {
        if self.mm.is_exiting() {
            return ptr::null_mut();
        }
        if self.is_settled() {
            return self.as_ptr();
        }
        let mm = self.mm.as_raw();
        let address = self.base.address(index);
        let mut windows = self.windows.into_iter();
        let found = windows.find_map(|window| i_mmap.find(window.pgoff(index.0), mm, address));
        found.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Whether the page table maps frame `pfn` at `index`; to be asked with `i_mmap` of the family.
    pub(crate) fn maps(&self, i_mmap: &IMmap<'_>, index: Index, pfn: u64) -> bool {
        // SAFETY: A VMA that is linked there keeps its page tables.
        !self.linked(i_mmap, index).is_null() && unsafe { self.entry_of(index, pfn) }.is_some()
    }

    /// Whether the entry at `index` is soft-dirty; `None` if it does not map frame `pfn`.
    ///
    /// # Safety
    ///
    /// The VMA must be linked, and `i_mmap` locked.
    unsafe fn entry_of(&self, index: Index, pfn: u64) -> Option<bool> {
        let mm = self.mm.as_raw();
        let address = self.base.address(index);
        let mut soft_dirty = false;
        // SAFETY: The caller sees to it that the page tables stay; the flag is valid for writes.
        let mapped =
            unsafe { helpers::anon_rmap_maps_pfn(mm, address, pfn as usize, &mut soft_dirty) };
        mapped.then_some(soft_dirty)
    }

    /// Makes the entry at `index` soft-dirty, if it maps frame `pfn`.
    ///
    /// # Safety
    ///
    /// The mmap lock must be held for writing.
    pub(crate) unsafe fn set_soft_dirty(&self, index: Index, pfn: u64) {
        let address = self.base.address(index);
        // SAFETY: With the lock that the caller holds the page tables stay.
        unsafe { helpers::anon_rmap_set_soft_dirty(self.mm.as_raw(), address, pfn as usize) };
    }

    /// Takes frame `pfn` out of the page table at `index`, and out of all TLBs, for a failure.
    pub(crate) fn zap(&self, walker: &Walker<'_>, index: Index, pfn: u64) -> Zap {
        let linked = self.linked(walker.i_mmap(), index);
        if !linked.is_null() {
            // SAFETY: A VMA that is linked there is valid and keeps its page tables.
            return unsafe { self.zap_if_mapped(linked, index, pfn) };
        }
        if self.mm.is_unflushed() {
            Zap::Unflushed
        } else {
            Zap::Nothing
        }
    }

    /// The same where `linked` is the VMA that is linked.
    ///
    /// # Safety
    ///
    /// `linked` must be linked and cover the index, and `i_mmap` be locked.
    unsafe fn zap_if_mapped(
        &self,
        linked: *mut bindings::vm_area_struct,
        index: Index,
        pfn: u64,
    ) -> Zap {
        let start = self.base.address(index);
        let mm = self.mm.as_raw();
        // SAFETY: The caller promises what this requires.
        let mapped = unsafe { self.entry_of(index, pfn) };
        // Core mm clears entries first and flushes later. A zap meanwhile flushes all, see `tlb_finish_mmu()`.
        // SAFETY: The `mm_struct` is live.
        if mapped.is_some() || unsafe { helpers::anon_rmap_tlb_flush_pending(mm) } {
            // SAFETY: The VMA is valid, keeps its page tables, and covers the page.
            unsafe { zap(linked, start..start + PAGE_SIZE) };
        }
        mapped.map_or(Zap::Nothing, |soft_dirty| Zap::Done { soft_dirty })
    }

    /// Calls `f` for the page table entries at `indices` that are not empty, until it breaks, or some time has passed; with `i_mmap`
    /// of the family. Returns what is left of the indices; nothing if the VMA is not linked.
    pub(crate) fn entries(
        &self,
        i_mmap: &IMmap<'_>,
        indices: Interval,
        mut f: impl FnMut(Index, Entry) -> ControlFlow<()>,
    ) -> Option<Interval> {
        /// Looks for an entry in one critical section.
        const LOOKS: usize = 1024;

        let mut rest = Some(indices);
        for _ in 0..LOOKS {
            let indices = rest?;
            if self.linked(i_mmap, Index(indices.start())).is_null() {
                return None;
            }
            // SAFETY: The VMA is linked, and the lock is held.
            let (found, behind) = unsafe { self.next_entry(indices) };
            rest = behind;
            if let Some((index, entry)) = found {
                if f(index, entry).is_break() {
                    break;
                }
            }
        }
        rest
    }

    /// The first entry in `indices` that is not empty, and the rest of the indices behind what was looked at: a bounded
    /// number.
    ///
    /// # Safety
    ///
    /// The VMA must be linked, and `i_mmap` locked.
    unsafe fn next_entry(&self, indices: Interval) -> (Option<(Index, Entry)>, Option<Interval>) {
        let (mut kind, mut pfn) = (0, 0);
        let addresses = self.base.addresses(indices);
        // SAFETY: The caller sees to it that the page tables stay; the pointers are valid for writes.
        let address = unsafe {
            helpers::anon_rmap_next_entry(
                self.mm.as_raw(),
                addresses.start,
                addresses.end,
                &mut kind,
                &mut pfn,
            )
        };
        let entry = match kind {
            helpers::ANON_RMAP_ENTRY_NONE => None,
            helpers::ANON_RMAP_ENTRY_PAGE => Some(Entry::Page(pfn as u64)),
            helpers::ANON_RMAP_ENTRY_ZEROES => Some(Entry::Zeroes),
            helpers::ANON_RMAP_ENTRY_KNOWN_MARKER => Some(Entry::KnownMarker),
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
