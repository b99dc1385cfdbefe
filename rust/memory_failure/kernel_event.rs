// SPDX-License-Identifier: GPL-2.0-only

//! Failures of our pages that the kernel's own `memory_failure()` has met: `MADV_HWPOISON`, `hard_offline_page`, `corrupt-pfn`, and
//! machine checks in which somebody was about to use the data.
//!
//! It does not know pages of drivers in system RAM: it marks the page as bad, counts it and can do no more. But it says so by its trace
//! event, `ras:memory_failure_event`, and by that we know to take the page away; a moment later, by the [queue]. Until then faults refuse
//! what is marked.

use super::queue;
use crate::{
    anon,
    helpers,
    pool::device_memory::DeviceMemory, //
};
use kernel::ffi::c_ulong;

/// Being told of them, from when it is made until it is dropped.
pub(crate) struct Watch(());

impl Watch {
    /// Begins. In a kernel without that event nobody is told.
    ///
    /// # Safety
    ///
    /// To be called once, when there is the [queue], which must go later.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: The caller promises that there is what `failed` needs.
        unsafe { helpers::anon_rmap_watch_failures(Some(failed)) };
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Undoes what `new` has done. Waits for calls that are under way.
        unsafe { helpers::anon_rmap_unwatch_failures() };
    }
}

/// The kernel has marked frame `pfn` as bad.
///
/// # Safety
///
/// To be called only as long as there is the [queue].
unsafe extern "C" fn failed(pfn: c_ulong) {
    // It asks us for the pages of the pool.
    if DeviceMemory::get().is_some() {
        return;
    }
    // The reference is there before `unpoison_memory()` can look at the page: we are called under its lock.
    if let Some((anon, guard)) = anon::lookup_page(pfn as u64) {
        let _ = queue::note_marked(anon, pfn as u64, guard);
    }
}
