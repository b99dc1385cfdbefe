// SPDX-License-Identifier: GPL-2.0-only

//! Page frames, and the pages of the pool that are in them.

use crate::helpers;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::c_int,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

/// What the kernel knows of a page frame, its `struct page`; whoever has the frame.
#[repr(transparent)]
pub(crate) struct Frame(Opaque<bindings::page>);

// SAFETY: A `struct page` belongs to no task.
unsafe impl Send for Frame {}
// SAFETY: The methods only read words that others may change, or change one bit atomically.
unsafe impl Sync for Frame {}

impl Frame {
    /// The frame whose `struct page` is at `page`; `None` if that is null.
    ///
    /// # Safety
    ///
    /// What is not null must be a `struct page` during `'a`.
    pub(crate) unsafe fn from_raw<'a>(page: *mut bindings::page) -> Option<&'a Self> {
        // SAFETY: The caller promises that; a frame has the layout of a `struct page`.
        unsafe { page.cast::<Self>().as_ref() }
    }

    /// The `struct page`.
    pub(crate) fn as_ptr(&self) -> *mut bindings::page {
        self.0.get()
    }

    /// The frame's number.
    pub(crate) fn pfn(&self) -> u64 {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_to_pfn(self.as_ptr()) as u64 }
    }

    /// The number of references to what is in the frame.
    pub(crate) fn count(&self) -> c_int {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_count(self.as_ptr()) }
    }

    /// The number of page table entries that map the frame.
    pub(crate) fn mapcount(&self) -> u64 {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_mapcount(self.as_ptr()) as u64 }
    }

    /// Whether a device may be writing to the frame or reading it (`FOLL_PIN`).
    ///
    /// May be wrong in the safe direction: an unpinned page can look pinned.
    pub(crate) fn maybe_dma_pinned(&self) -> bool {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_maybe_dma_pinned(self.as_ptr()) }
    }

    /// Whether the kernel has marked the frame as bad (`HWPOISON`).
    pub(crate) fn is_marked(&self) -> bool {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_hwpoison(self.as_ptr()) }
    }

    /// Marks the frame as bad.
    pub(crate) fn set_mark(&self) {
        // SAFETY: It is a `struct page`; the flag is set atomically.
        unsafe { helpers::anon_rmap_page_set_hwpoison(self.as_ptr()) };
    }

    /// Takes the mark away; whether there was one.
    pub(crate) fn clear_mark(&self) -> bool {
        // SAFETY: It is a `struct page`; the flag is cleared atomically.
        unsafe { helpers::anon_rmap_page_test_clear_hwpoison(self.as_ptr()) }
    }

    /// A hash of what is in the frame, by `seed`. Who writes meanwhile makes it any number.
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_hash(self.as_ptr(), seed) }
    }

    /// Whether `other` has the same in it.
    pub(crate) fn is_equal(&self, other: &Self) -> bool {
        // SAFETY: Both are `struct page`s.
        unsafe { helpers::anon_rmap_page_is_equal(self.as_ptr(), other.as_ptr()) }
    }

    /// Whether there are only zeroes in it.
    pub(crate) fn is_zeroes(&self) -> bool {
        // SAFETY: It is a `struct page`.
        unsafe { helpers::anon_rmap_page_is_zeroes(self.as_ptr()) }
    }

    /// Makes core mm give up references that it only keeps for later: for pages locked in memory (`mlock`) it collects what is to be
    /// done. Sleeps.
    pub(crate) fn shake(&self) {
        // SAFETY: It is a `struct page`; all that is done with it is to look at its flags.
        unsafe { helpers::anon_rmap_page_shake(self.as_ptr()) };
    }
}

/// A page of the pool.
///
/// # Invariants
///
/// It has a reference at least. `private`, `index` and `memcg_data` are the driver's, but for the time in which it is
/// [marked](crate::pool::quarantine::mark).
#[repr(transparent)]
pub(crate) struct Page(Frame);

/// A reference to a page that is kept by it.
pub(crate) type OwnedPage = ARef<Page>;

impl Page {
    /// A reference, unless core mm or the driver keeps everybody from getting one.
    pub(crate) fn try_get(&self) -> Option<OwnedPage> {
        // SAFETY: It is a `struct page`.
        let has_got = unsafe { helpers::anon_rmap_get_page_unless_zero(self.as_ptr()) };
        // SAFETY: The reference was taken above.
        has_got.then(|| unsafe { OwnedPage::from_raw(NonNull::from(self)) })
    }

    /// Leaves `guard` with the page, if none was left, until somebody [takes](Self::take_guard) it.
    pub(crate) fn leave_guard(guard: OwnedPage) {
        // SAFETY: It is a `struct page`; the flag is the driver's.
        if !unsafe { helpers::anon_rmap_page_test_set_guarded(guard.as_ptr()) } {
            OwnedPage::into_raw(guard);
        }
    }

    /// The reference that was [left](Self::leave_guard) with the page.
    pub(crate) fn take_guard(&self) -> Option<OwnedPage> {
        // SAFETY: It is a `struct page`; the flag is the driver's.
        let was_left = unsafe { helpers::anon_rmap_page_test_clear_guarded(self.as_ptr()) };
        // SAFETY: The flag stands for a reference, and was taken.
        was_left.then(|| unsafe { OwnedPage::from_raw(NonNull::from(self)) })
    }

    /// Notes that the kernel has not counted the mark that the page gets. The mark has two references then.
    pub(crate) fn set_uncounted(&self) {
        // SAFETY: It is a `struct page`; the flag is the driver's.
        unsafe { helpers::anon_rmap_page_set_uncounted(self.as_ptr()) };
    }

    /// Whether the kernel has not counted the page's mark, so that it is the driver's to undo.
    pub(crate) fn is_uncounted(&self) -> bool {
        // SAFETY: It is a `struct page`; the flag is the driver's.
        unsafe { helpers::anon_rmap_page_is_uncounted(self.as_ptr()) }
    }

    /// The references that belong to the page's mark.
    pub(crate) fn marks_references(&self) -> c_int {
        1 + c_int::from(self.is_uncounted())
    }

    /// The page in `frame`.
    ///
    /// # Safety
    ///
    /// It must be one of the pool's, and have a reference during the borrow.
    pub(crate) unsafe fn in_frame(frame: &Frame) -> &Self {
        // SAFETY: The caller promises that; a page has the layout of a frame.
        unsafe { NonNull::from(frame).cast().as_ref() }
    }
}

impl Deref for Page {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

// SAFETY: A page is not freed as long as it has a reference.
unsafe impl AlwaysRefCounted for Page {
    fn inc_ref(&self) {
        // SAFETY: By the invariant the count is not zero.
        unsafe { helpers::anon_rmap_get_page(self.as_ptr()) };
    }

    unsafe fn dec_ref(page: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { helpers::anon_rmap_put_page(page.as_ptr().cast()) };
    }
}
