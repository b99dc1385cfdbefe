// SPDX-License-Identifier: GPL-2.0-only

//! Where pages come from: system RAM, or a reserved range that is [device memory](device_memory).

use crate::helpers;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use device_memory::DeviceMemory;
use kernel::{
    alloc::Flags,
    bindings,
    page::{
        BorrowedPage,
        Page, //
    },
    prelude::*, //
};

pub(crate) mod device_memory;
pub(crate) mod frame;
pub(crate) mod quarantine;

/// A page of the pool.
///
/// # Invariants
///
/// Owns one reference to the page.
pub(crate) struct OwnedPage(NonNull<bindings::page>);

// SAFETY: A page may be used by any task.
unsafe impl Send for OwnedPage {}

impl OwnedPage {
    /// A page; filled with zeroes with `__GFP_ZERO`. What is system RAM is charged to the memory cgroup
    /// of the current process with `__GFP_ACCOUNT`; device memory never is.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
    pub(crate) fn alloc(flags: Flags) -> Result<Self> {
        match DeviceMemory::get() {
            // INVARIANT: The reference is ours.
            Some(pool) => Ok(Self(pool.alloc(flags & __GFP_ZERO == __GFP_ZERO)?)),
            None => {
                let page = ManuallyDrop::new(Page::alloc_page(flags | __GFP_HIGHMEM)?);
                // INVARIANT: The reference of `page` is ours now.
                NonNull::new(page.as_ptr()).map(Self).ok_or(ENOMEM)
            }
        }
    }

    /// The page.
    pub(crate) fn borrow(&self) -> BorrowedPage<'_> {
        // SAFETY: By the invariant the page is valid as long as `self` is.
        unsafe { BorrowedPage::from_raw(self.0) }
    }

    /// Gives up the ownership, for [`Self::from_raw`] to take over.
    pub(crate) fn into_raw(self) -> NonNull<bindings::page> {
        ManuallyDrop::new(self).0
    }

    /// Takes over the ownership.
    ///
    /// # Safety
    ///
    /// `page` must come from [`Self::into_raw`], and must be given to this only once.
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The reference is that which `into_raw` gave up.
        Self(page)
    }
}

impl Drop for OwnedPage {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { helpers::anon_rmap_put_page(self.0.as_ptr()) };
    }
}

/// The page of frame `pfn`, if the frame is one of those that the pool can own.
pub(crate) fn page(pfn: u64) -> Option<NonNull<bindings::page>> {
    match DeviceMemory::get() {
        Some(pool) => pool.page(pfn),
        // SAFETY: Any number is allowed.
        None => NonNull::new(unsafe { bindings::pfn_to_online_page(pfn as usize) }),
    }
}
