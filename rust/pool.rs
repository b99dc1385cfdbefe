// SPDX-License-Identifier: GPL-2.0-only

//! Where pages come from: system RAM, or a reserved range that is [device memory](device_memory).

use crate::page::OwnedPage;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use device_memory::DeviceMemory;
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::aref::ARef, //
};
use quarantine::{
    Kind,
    Mark, //
};

pub(crate) mod device_memory;
pub(crate) mod frame;
pub(crate) mod quarantine;

/// A page; filled with zeroes with `__GFP_ZERO`. What is system RAM is charged to the memory cgroup
/// of the current process with `__GFP_ACCOUNT`; device memory never is.
///
/// # Errors
///
/// [`ENOMEM`]; [`ENOSPC`] if no device memory is left.
pub(crate) fn alloc(flags: Flags) -> Result<OwnedPage> {
    if let Some(pool) = DeviceMemory::get() {
        return pool.alloc(flags & __GFP_ZERO == __GFP_ZERO);
    }
    loop {
        let page = ManuallyDrop::new(kernel::page::Page::alloc_page(flags | __GFP_HIGHMEM)?);
        let page = NonNull::new(page.as_ptr()).ok_or(ENOMEM)?;
        // SAFETY: The reference is that of the kernel's type, which does not give it back. The page is ours.
        let page: OwnedPage = unsafe { ARef::from_raw(page.cast()) };
        frame::begin(&page);
        if !page.is_marked() {
            return Ok(page);
        }
        // It was marked when it was free, or right now.
        quarantine::keep(page, Kind::Software, Mark::Counted, false);
    }
}
