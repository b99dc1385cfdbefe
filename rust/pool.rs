// SPDX-License-Identifier: GPL-2.0-only

//! Where pages come from: system RAM, or a reserved range that is [device memory](device_memory).

use crate::{
    gfp::to_gfp,
    helpers,
    page::OwnedPage, //
};
use core::ptr::NonNull;
use device_memory::DeviceMemory;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

pub(crate) mod device_memory;
pub(crate) mod frame;
pub(crate) mod quarantine;
pub(crate) mod reported;

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
        // SAFETY: No requirements.
        let page = unsafe { helpers::anon_rmap_alloc_frozen_page(to_gfp(flags | __GFP_HIGHMEM)) };
        // SAFETY: It was just allocated, without a reference.
        let begun = unsafe { frame::begin(NonNull::new(page).ok_or(ENOMEM)?) };
        // One that is marked is not used.
        if let Some((page, _guard)) = begun.filter(|(page, _)| !frame::is_leaving(page)) {
            return Ok(page);
        }
    }
}
