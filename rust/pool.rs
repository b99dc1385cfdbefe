// SPDX-License-Identifier: GPL-2.0-only

//! Where pages come from: system RAM, or a reserved range that is [device memory](device_memory).

use crate::page::{
    Frame,
    OwnedPage, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use device_memory::DeviceMemory;
use kernel::{
    alloc::Flags,
    bindings,
    prelude::*,
    sync::aref::ARef, //
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
    let page = ManuallyDrop::new(kernel::page::Page::alloc_page(flags | __GFP_HIGHMEM)?);
    let page = NonNull::new(page.as_ptr()).ok_or(ENOMEM)?;
    // SAFETY: The reference is that of the kernel's type, which does not give it back. The page is ours.
    Ok(unsafe { ARef::from_raw(page.cast()) })
}

/// The frame `pfn`, if it is one of those that the pool can own.
pub(crate) fn frame_at(pfn: u64) -> Option<&'static Frame> {
    if let Some(pool) = DeviceMemory::get() {
        return pool.frame(pfn);
    }
    // SAFETY: Any number is allowed.
    let page = unsafe { bindings::pfn_to_online_page(pfn as usize) };
    // SAFETY: It is null or a `struct page`. As all who look at memory by its number we rely on it that these stay when memory
    // goes offline.
    unsafe { Frame::from_raw(page) }
}
