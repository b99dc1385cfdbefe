// SPDX-License-Identifier: GPL-2.0-only

//! A VMA as the rmap knows it: enough to find the page table entry of an index, and to zap it.

use super::{
    family::{
        Family,
        IMmap,
        Walker,
        Window, //
    },
    rmap_mm::RmapMm, //
};
use crate::{
    failure::Place,
    helpers,
    index::Indices,
    index::{
        Base,
        Index, //
    },
    vm_fault::Vmf, //
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
    mm::virt,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    warn_on, //
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

    /// The name as a number.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

/// What a VMA holds: pages, each at its index. What can be asked of it here, where nobody knows what a page is.
pub(crate) trait Holdings: Send + Sync {
    /// Whether `page` is at `index`. Sleeps, and takes a lock that comes before that of a page.
    fn hold(&self, index: Index, page: PageId) -> bool;
}

/// A VMA of the device, from before it is linked until after it is unlinked.
///
/// # Invariants
///
/// If it is `settled`, and its address space is not exiting, `vma` is linked in the `i_mmap` of the family.
pub(crate) struct RmapVma {
    mm: Arc<RmapMm>,
    family: Arc<Family>,
    holdings: Arc<dyn Holdings>,
    base: Base,
    /// That of the VMA, and that of the one it was split off, which covers its addresses as long as core mm has not split it.
    windows: [Window; 2],
    /// Null until it is published.
    vma: Atomic<*mut bindings::vm_area_struct>,
    /// Whether the VMA is known to be linked in `i_mmap`: a fault has seen it, and core mm has not announced since that
    /// it unmaps it. Announcing comes before unlinking: `unmap_vmas()` before `free_pgtables()`.
    settled: Atomic<bool>,
}

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
    ///
    /// # Safety
    ///
    /// `vma` must be one under construction, of the `mm_struct` and the family that were given to [`Self::new`]. Nothing
    /// may have been published before.
    pub(crate) unsafe fn publish(&self, vma: &virt::VmaRef) {
        self.vma.store(vma.as_ptr(), Relaxed);
    }

    /// Notes that a fault has found the VMA, so it is linked.
    pub(crate) fn settle(&self, vmf: &Vmf<'_>) {
        // A line that is only read stays in all caches.
        if !self.is_settled() && ptr::eq(vmf.vma().as_ptr(), self.as_ptr()) {
            // INVARIANT: Core mm links a VMA before it lets faults have it. Who is to unlink it says so before, to `unsettle`,
            // and waits for faults.
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

    /// The VMA that is linked at `index`, under the lock of its family; `None` if there is none.
    ///
    /// It is another one while a split is under way: our links are split before core mm's are. O(1) if the VMA has been used,
    /// else O(log n) and the relatives that map that index.
    ///
    /// None is looked for in an address space that is exiting: nobody accesses anything there any more.
    fn linked<'a>(&'a self, i_mmap: &'a IMmap<'_>, index: Index) -> Option<LinkedVma<'a>> {
        if self.mm.is_exiting() || warn_on!(!i_mmap.is_of(&self.family)) {
            return None;
        }
        let address = self.base.address(index);
        let vma = if self.is_settled() {
            NonNull::new(self.as_ptr())
        } else {
            let find = |window: Window| i_mmap.find(window.pgoff(index.0), &self.mm, address);
            self.windows.into_iter().find_map(find)
        }?;
        // SAFETY: By the invariant the VMA is linked, or it was found so: it is valid. Its borders change only with `i_mmap`
        // locked for writing.
        let covered = unsafe { &(*vma.as_ptr()).__bindgen_anon_1.__bindgen_anon_1 };
        let (start, end) = (covered.vm_start, covered.vm_end);
        // INVARIANT: It is linked, and what it covers is checked.
        (start..end).contains(&address).then_some(LinkedVma {
            vma,
            of: self,
            address,
            end,
        })
    }

    /// Whether the page table maps frame `pfn` at `index`; to be asked with `i_mmap` of the family.
    pub(crate) fn maps(&self, i_mmap: &IMmap<'_>, index: Index, pfn: u64) -> bool {
        let linked = self.linked(i_mmap, index);
        linked.is_some_and(|linked| linked.entry_of(pfn).is_some())
    }

    /// Whether core mm takes all that the VMA covers at `index` for written since the last `clear_refs`, also where there is no entry; to be
    /// asked with `i_mmap` of the family. `None` if no VMA is linked there.
    pub(crate) fn is_soft_dirty(&self, i_mmap: &IMmap<'_>, index: Index) -> Option<bool> {
        let linked = self.linked(i_mmap, index)?;
        // SAFETY: By its invariant the VMA is valid. Who changes flags of it does so word by word.
        Some(unsafe { helpers::anon_rmap_vma_is_soft_dirty(linked.vma.as_ptr()) })
    }

    /// Whether the VMA at `index` is locked in memory; to be asked with `i_mmap` of the family.
    pub(crate) fn is_locked(&self, i_mmap: &IMmap<'_>, index: Index) -> bool {
        let Some(linked) = self.linked(i_mmap, index) else {
            return false;
        };
        // SAFETY: As in `is_soft_dirty`.
        unsafe { helpers::anon_rmap_vma_is_locked(linked.vma.as_ptr()) }
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
        if let Some(linked) = self.linked(walker.i_mmap(), index) {
            if let Some(soft_dirty) = linked.entry_of(pfn) {
                linked.zap_page();
                return Zap::Done { soft_dirty };
            }
            // Core mm clears entries first and flushes later.
            if self.mm.is_flush_pending() {
                linked.flush();
            }
            return Zap::Nothing;
        }
        if self.mm.is_unflushed() {
            Zap::Unflushed
        } else {
            Zap::Nothing
        }
    }

    /// Calls `f` for the page table entries at `indices` that are not empty, until it breaks, or some time has passed; with `i_mmap`
    /// of the family. Returns what is left of the indices; nothing if the VMA is not linked.
    pub(crate) fn entries(
        &self,
        i_mmap: &IMmap<'_>,
        indices: Indices,
        mut f: impl FnMut(Index, Entry) -> ControlFlow<()>,
    ) -> Option<Indices> {
        /// Looks for an entry in one critical section.
        const LOOKS: usize = 1024;

        let mut rest = Some(indices);
        for _ in 0..LOOKS {
            let indices = rest?;
            let linked = self.linked(i_mmap, indices.first())?;
            let (entry, address) = linked.next_entry(self.base.addresses(indices).end);
            let index = self.base.index(address);
            let behind = index.0 + u64::from(entry.is_some());
            rest = Indices::new(Index(behind), indices.last());
            if entry.is_some_and(|entry| f(index, entry).is_break()) {
                break;
            }
        }
        rest
    }
}

/// A VMA that is linked in `i_mmap`, from an address on.
///
/// # Invariants
///
/// `vma` is of the `mm_struct` of `of`, and linked in the `i_mmap` of its family, which is locked during `'a`: so it is valid,
/// and keeps its page tables. It covers the addresses from `address` to `end`, which is not covered and the greater.
struct LinkedVma<'a> {
    vma: NonNull<bindings::vm_area_struct>,
    of: &'a RmapVma,
    address: usize,
    end: usize,
}

impl LinkedVma<'_> {
    /// Whether the entry at the address is soft-dirty; `None` if it does not map frame `pfn`.
    fn entry_of(&self, pfn: u64) -> Option<bool> {
        let (mm, pfn, mut soft_dirty) = (self.of.mm.as_raw(), pfn as usize, false);
        // SAFETY: By the invariant the page tables stay; the flag is valid for writes.
        let maps = unsafe { helpers::anon_rmap_maps_pfn(mm, self.address, pfn, &mut soft_dirty) };
        maps.then_some(soft_dirty)
    }

    /// Clears the entry at the address, and flushes it from all TLBs. The caller is the walk of the family, by which the mmu
    /// notifier tells this from `MADV_DONTNEED`, and holds no lock that the notifier takes.
    fn zap_page(&self) {
        // SAFETY: By the invariant the VMA covers the page, and the page tables stay.
        let zap = || unsafe { bindings::zap_vma_range(self.vma.as_ptr(), self.address, PAGE_SIZE) };
        self.of.mm.zap_for_driver(zap);
    }

    /// Flushes all TLBs, if core mm is between clearing entries and flushing them.
    fn flush(&self) {
        // SAFETY: By the invariant the VMA is valid. Nothing is cleared; whoever ends a zap while another is under way flushes
        // all, see `tlb_finish_mmu()`.
        unsafe { bindings::zap_vma_range(self.vma.as_ptr(), self.address, 0) };
    }

    /// The first entry from the address on that is not empty, and its address; if there is none up to `end` or the VMA's,
    /// or not in a bounded number, where to go on.
    fn next_entry(&self, end: usize) -> (Option<Entry>, usize) {
        let (mm, end) = (self.of.mm.as_raw(), end.min(self.end));
        let (mut kind, mut pfn) = (0, 0);
        let (to_kind, to_pfn) = (&mut kind, &mut pfn);
        // SAFETY: By the invariant the page tables of these addresses stay; the pointers are valid for writes.
        let at = unsafe { helpers::anon_rmap_next_entry(mm, self.address, end, to_kind, to_pfn) };
        let entry = match kind {
            helpers::ANON_RMAP_ENTRY_NONE => None,
            helpers::ANON_RMAP_ENTRY_PAGE => Some(Entry::Page(pfn as u64)),
            helpers::ANON_RMAP_ENTRY_ZEROES => Some(Entry::Zeroes),
            helpers::ANON_RMAP_ENTRY_KNOWN_MARKER => Some(Entry::KnownMarker),
            _ => Some(Entry::Unknown),
        };
        (entry, at)
    }
}
