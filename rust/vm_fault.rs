// SPDX-License-Identifier: GPL-2.0-only

//! A page fault, as core mm hands it to a driver.

use crate::{
    helpers,
    page::Page, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings,
    mm::virt,
    page::PAGE_SHIFT,
    types::Opaque, //
};

/// What a fault handler returns to core mm.
pub(crate) type VmFault = bindings::vm_fault_t;

/// A fault that is being handled.
///
/// # Invariants
///
/// During `'a` core mm is in a hook of the fault's VMA, with the mmap lock or the VMA's lock held at least for reading, and
/// `.0` is what it has passed. Core mm changes it only in functions that get it as an argument, and never its
/// place: VMA and address.
pub(crate) struct Vmf<'a>(&'a Opaque<bindings::vm_fault>);

impl Vmf<'_> {
    /// The fault that core mm has passed to a hook.
    ///
    /// # Safety
    ///
    /// Must be called once in a hook for faults, with its argument, and `'a` end before the hook does.
    pub(crate) unsafe fn from_raw(vmf: *mut bindings::vm_fault) -> Self {
        // INVARIANT: The caller promises that core mm has called the hook.
        // SAFETY: It passes a fault that is valid during the call.
        Self(unsafe { &*Opaque::cast_from(vmf) })
    }

    /// For C.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vm_fault {
        self.0.get()
    }

    fn place(&self) -> &bindings::vm_fault__bindgen_ty_1 {
        // SAFETY: By the invariant the fault is valid, and this part of it does not change.
        unsafe { &(*self.as_ptr()).__bindgen_anon_1 }
    }

    /// The VMA. It is valid until the fault [waits](crate::wait::Wait::wait).
    pub(crate) fn vma(&self) -> &virt::VmaRef {
        // SAFETY: By the invariant its lock, or the mmap lock, is held.
        unsafe { virt::VmaRef::from_raw(self.place().vma) }
    }

    /// The address, that of a page.
    pub(crate) fn address(&self) -> usize {
        self.place().address
    }

    fn flags(&self) -> bindings::fault_flag {
        // SAFETY: By the invariant the fault is valid.
        unsafe { (*self.as_ptr()).flags }
    }

    /// Whether the access is a write.
    pub(crate) fn is_write(&self) -> bool {
        self.flags() & bindings::fault_flag_FAULT_FLAG_WRITE != 0
    }

    /// Whether an entry at the address maps a page, which is to be written.
    pub(crate) fn has_page(&self) -> bool {
        // SAFETY: By the invariant the fault is valid.
        unsafe { !(*self.as_ptr()).page.is_null() }
    }

    /// Whether somebody else accesses the memory for the process.
    pub(crate) fn is_remote(&self) -> bool {
        self.flags() & bindings::fault_flag_FAULT_FLAG_REMOTE != 0
    }

    /// Notes that core mm, where it is, does not know `VM_FAULT_RETRY`.
    pub(crate) fn forbid_retry(&mut self) {
        // SAFETY: By the invariant the fault is valid; nobody but the handler uses the flags meanwhile.
        unsafe { (*self.as_ptr()).flags &= !bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY };
    }

    /// Whether the entry at the address says that its page was written since the last `clear_refs`.
    pub(crate) fn is_soft_dirty(&self) -> bool {
        // SAFETY: By the invariant the fault is valid.
        unsafe { helpers::anon_rmap_vmf_is_soft_dirty(self.as_ptr()) }
    }

    /// Which of the pages in `window` have nothing mapped, as a bit set. They are at most 64, and the fault's page table has them; if
    /// there is none, nothing is said to be empty.
    pub(crate) fn empty_entries(&self, window: &Range<usize>) -> u64 {
        // SAFETY: By the invariant the fault is valid; the caller names entries of its page table.
        unsafe {
            helpers::anon_rmap_vmf_empty_entries(self.as_ptr(), window.start, nr(window)) as u64
        }
    }

    /// Which of the pages in `window` have an entry that [`VmfAround::make_writable`] can change; else as [`Self::empty_entries`].
    pub(crate) fn read_only_entries(&self, window: &Range<usize>) -> u64 {
        // SAFETY: By the invariant the fault is valid; the caller names entries of its page table.
        unsafe {
            helpers::anon_rmap_vmf_read_only_entries(self.as_ptr(), window.start, nr(window)) as u64
        }
    }

    /// Maps `page` at the address, where no other is mapped; writable if this is for a `write`. Does not allocate: without a page table
    /// the access is made again.
    pub(crate) fn insert_page(&self, page: &Page, write: bool, soft_dirty: bool) -> VmFault {
        let (vmf, page) = (self.as_ptr(), page.as_ptr());
        // SAFETY: By the invariant the fault is valid; the page is while there is a reference.
        unsafe { helpers::anon_rmap_vmf_insert_page(vmf, page, write, soft_dirty) }
    }

    /// To map pages at addresses around that of the fault.
    pub(crate) fn around(&self) -> VmfAround<'_> {
        // INVARIANT: The copy is one of this fault.
        // SAFETY: By the invariant the fault is valid.
        VmfAround(unsafe { *self.as_ptr() }, PhantomData)
    }

    /// Whether the page of zeroes that all share may stand for memory at the address.
    pub(crate) fn may_map_zeroes(&self) -> bool {
        // SAFETY: By the invariant the fault is valid.
        unsafe { helpers::anon_rmap_vmf_may_map_zeroes(self.as_ptr()) }
    }

    /// Whether a page that nobody else has may be mapped writable at the address before it is written.
    pub(crate) fn may_map_writable(&self) -> bool {
        // SAFETY: By the invariant the fault is valid.
        unsafe { helpers::anon_rmap_vmf_may_map_writable(self.as_ptr()) }
    }

    /// Maps that page at the address, if nothing is there.
    pub(crate) fn map_zeroes(&self) {
        // SAFETY: By the invariant the fault is valid.
        unsafe { helpers::anon_rmap_vmf_map_zeroes(self.as_ptr()) };
    }

    /// Whether that page is mapped at the address.
    pub(crate) fn maps_zeroes(&self) -> bool {
        // SAFETY: By the invariant the fault is valid.
        unsafe { helpers::anon_rmap_vmf_maps_zeroes(self.as_ptr()) }
    }

    /// Whether somebody besides the driver and this fault, for which core mm may have taken a reference, uses `page`.
    pub(crate) fn is_page_in_use(&self, page: &Page) -> bool {
        // SAFETY: By the invariant the fault is valid; the page is while there is a reference.
        unsafe { helpers::anon_rmap_page_is_in_use(page.as_ptr(), self.as_ptr()) }
    }
}

/// How many pages there are in `window`.
fn nr(window: &Range<usize>) -> u32 {
    (window.end.wrapping_sub(window.start) >> PAGE_SHIFT) as u32
}

/// A fault at other addresses of its VMA.
///
/// # Invariants
///
/// `.0` is a copy of a valid fault, but for the address.
pub(crate) struct VmfAround<'a>(bindings::vm_fault, PhantomData<&'a ()>);

impl VmfAround<'_> {
    /// Maps `page` for reading at `address` of the VMA, unless something is mapped there.
    pub(crate) fn insert_page(&mut self, address: usize, page: &Page) {
        self.0.__bindgen_anon_1.address = address;
        // SAFETY: By the invariant the VMA is that of a fault; the address is checked to be in it. The page is valid while
        // there is a reference.
        unsafe { bindings::vmf_insert_page_mkwrite(&mut self.0, page.as_ptr(), false) };
    }

    /// Makes the entry at `address` of the VMA writable, if it maps `page`, and nobody wants to know of the first write. Whether it did.
    pub(crate) fn make_writable(&mut self, address: usize, page: &Page) -> bool {
        self.0.__bindgen_anon_1.address = address;
        // SAFETY: As in `insert_page`.
        unsafe { helpers::anon_rmap_vmf_make_writable(&self.0, page.as_ptr()) }
    }
}
