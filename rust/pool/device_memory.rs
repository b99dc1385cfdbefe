// SPDX-License-Identifier: GPL-2.0-only

//! A range of physical memory, reserved at boot, as device memory.
//!
//! The kernel does not use such memory itself, but knows whose it is: its own `memory_failure()`, which
//! machine checks, `hwpoison-inject`, `hard_offline_page` and `MADV_HWPOISON` end in, asks its driver to
//! handle a failure.

use crate::helpers;
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    ffi::{
        c_int,
        c_ulong, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    types::Opaque, //
};

/// The device memory, if there is any.
static DEVICE_MEMORY: Atomic<*const DeviceMemory> = Atomic::new(ptr::null());

/// What the kernel can add as memory: a section.
const ALIGNMENT: u64 = 128 << 20;

/// Handles the failure of frames of the range, of so many from the first number on; with the flags of `memory_failure()`. Sleeps.
///
/// # Safety
///
/// To be called by core mm only, as `dev_pagemap_ops.memory_failure`.
pub(crate) type FailureHandler =
    unsafe extern "C" fn(*mut bindings::dev_pagemap, c_ulong, c_ulong, c_int) -> c_int;

/// The device memory, with a bitmap of its pages.
///
/// Pages are freed by whoever drops the last reference, in any context, so the bitmap has no lock.
///
/// # Invariants
///
/// * [`DEVICE_MEMORY`] points to the only one there is.
/// * A page whose bit is clear is used by nobody; whoever sets a bit owns the page.
#[pin_data(PinnedDrop)]
pub(crate) struct DeviceMemory {
    #[pin]
    pgmap: Opaque<bindings::dev_pagemap>,
    /// What core mm calls; never written to.
    ops: bindings::dev_pagemap_ops,
    start: u64,
    size: u64,
    used: KVVec<Atomic<u64>>,
    /// The word of `used` in which a free page was found last.
    hint: Atomic<usize>,
}

// SAFETY: The kernel locks what it changes of `pgmap`; the rest does not change or is atomic.
unsafe impl Send for DeviceMemory {}
// SAFETY: As above.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Makes the physical range of `size` bytes from `start` on the pool, whose failures `handler` handles; nothing if `size` is zero.
    ///
    /// # Errors
    ///
    /// * [`EINVAL`]: the range is not one of whole sections, or was not reserved at boot.
    /// * [`EBUSY`]: somebody else uses it.
    /// * [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// May be called once. Pages may be used neither before nor when the result is dropped.
    pub(crate) unsafe fn new(
        start: u64,
        size: u64,
        handler: FailureHandler,
    ) -> Result<Option<Pin<KBox<Self>>>> {
        if size == 0 {
            return Ok(None);
        }
        if start % ALIGNMENT != 0 || size % ALIGNMENT != 0 || start.checked_add(size).is_none() {
            pr_err!("pool_start and pool_size must be multiples of 128 MiB\n");
            return Err(EINVAL);
        }
        // SAFETY: No requirements.
        if !unsafe { helpers::anon_rmap_is_reserved(start, size) } {
            pr_err!("the pool is not reserved: boot with memmap={size:#x}${start:#x}\n");
            return Err(EINVAL);
        }
        let mut used = KVVec::new();
        for _ in 0..size >> PAGE_SHIFT >> u64::BITS.trailing_zeros() {
            used.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let this = KBox::pin_init(
            pin_init!(Self {
                pgmap <- Opaque::ffi_init(|slot: *mut bindings::dev_pagemap| {
                    // SAFETY: The slot is valid for writes, and all zeroes is how a map starts.
                    unsafe { slot.write_bytes(0, 1) }
                }),
                ops: bindings::dev_pagemap_ops {
                    folio_free: Some(folio_free),
                    memory_failure: Some(handler),
                    ..pin_init::zeroed()
                },
                start,
                size,
                used,
                hint: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        this.register()?;
        // INVARIANT: The caller promises that there is no other.
        DEVICE_MEMORY.store(&*this, Release);
        Ok(Some(this))
    }

    /// Tells the kernel of the range.
    fn register(&self) -> Result {
        // SAFETY: The name is a constant.
        let region = unsafe {
            bindings::__request_region(
                &raw mut bindings::iomem_resource,
                self.start,
                self.size,
                c"anon_rmap".as_char_ptr(),
                0,
            )
        };
        if region.is_null() {
            pr_err!("the pool is used by somebody else, see /proc/iomem\n");
            return Err(EBUSY);
        }
        let pgmap = self.pgmap.get();
        // SAFETY: The map is ours to set up, and stays where it is until it is unmapped, as the operations do; `ranges`, a
        // union, has room for one range.
        let result = unsafe {
            (*pgmap).type_ = bindings::memory_type_MEMORY_DEVICE_COHERENT;
            (*pgmap).ops = &self.ops;
            (*pgmap).owner = pgmap.cast();
            (*pgmap).nr_range = 1;
            (&raw mut (*pgmap).__bindgen_anon_1)
                .cast::<bindings::range>()
                .write(bindings::range {
                    start: self.start,
                    end: self.start + self.size - 1,
                });
            from_err_ptr(bindings::memremap_pages(pgmap, bindings::NUMA_NO_NODE))
        };
        if let Err(error) = result {
            self.release_region();
            return Err(error);
        }
        Ok(())
    }

    fn release_region(&self) {
        // SAFETY: `register` has requested the region.
        unsafe {
            bindings::__release_region(&raw mut bindings::iomem_resource, self.start, self.size)
        };
    }

    /// The device memory, if there is any.
    pub(crate) fn get() -> Option<&'static Self> {
        // SAFETY: It is null, or as `new` has put it there; its caller promises that nobody uses pages,
        // nor this, when it is dropped.
        unsafe { DEVICE_MEMORY.load(Acquire).as_ref() }
    }

    /// The page of frame `pfn`, if it is in the range.
    pub(crate) fn page(&self, pfn: u64) -> Option<NonNull<bindings::page>> {
        let index = pfn.checked_sub(self.start >> PAGE_SHIFT)?;
        if index >= self.size >> PAGE_SHIFT {
            return None;
        }
        // SAFETY: The kernel has made pages for the range.
        NonNull::new(unsafe { helpers::anon_rmap_pfn_to_page(pfn as usize) })
    }

    /// A page, with one reference that is the caller's; [`ENOSPC`]. Takes O(n / 64) for n pages if nearly all are used.
    pub(super) fn alloc(&self, zero: bool) -> Result<NonNull<bindings::page>> {
        let page = loop {
            let index = self.take_any().ok_or(ENOSPC)?;
            let page = self
                .page((self.start >> PAGE_SHIFT) + index)
                .ok_or(ENOSPC)?;
            // SAFETY: The page is one of ours.
            if !unsafe { helpers::anon_rmap_page_hwpoison(page.as_ptr()) } {
                break page;
            }
            // It failed while it was given back. Its bit stays set.
        };
        // Not to be unloaded as long as somebody has the page: a pipe can keep it for ever.
        // SAFETY: The module is ours, and in use now.
        unsafe { bindings::__module_get(helpers::THIS_MODULE) };
        // SAFETY: The page is nobody's, so it is ours to set up; this takes a reference, and locks the
        // page.
        unsafe {
            bindings::zone_device_page_init(page.as_ptr(), self.pgmap.get(), 0);
            helpers::anon_rmap_unlock_page(page.as_ptr());
        }
        if zero {
            // SAFETY: As above.
            unsafe { helpers::anon_rmap_clear_page(page.as_ptr()) };
        }
        Ok(page)
    }

    /// Sets a bit that is clear.
    fn take_any(&self) -> Option<u64> {
        let hint = self.hint.load(Relaxed);
        for i in Iterator::chain(hint..self.used.len(), 0..hint) {
            let word = self.used.get(i)?;
            let mut bits = word.load(Relaxed);
            while bits != u64::MAX {
                let bit = bits.trailing_ones();
                match word.cmpxchg(bits, bits | 1 << bit, Acquire) {
                    Ok(_) => {
                        self.hint.store(i, Relaxed);
                        return Some(i as u64 * u64::from(u64::BITS) + u64::from(bit));
                    }
                    Err(now) => bits = now,
                }
            }
        }
        None
    }

    /// The word and the bit in it that stand for `page`, which is one of the range.
    fn bit(&self, page: NonNull<bindings::page>) -> Option<(&Atomic<u64>, u64)> {
        // SAFETY: The page is valid.
        let pfn = unsafe { helpers::anon_rmap_page_to_pfn(page.as_ptr()) as u64 };
        let index = pfn.checked_sub(self.start >> PAGE_SHIFT)?;
        let word = self.used.get((index / u64::from(u64::BITS)) as usize)?;
        Some((word, 1 << (index % u64::from(u64::BITS))))
    }

    /// Sets the bit of `page`, so that it is not handed out; false if it is set already.
    pub(crate) fn take(&self, page: NonNull<bindings::page>) -> bool {
        let Some((word, bit)) = self.bit(page) else {
            return false;
        };
        let mut bits = word.load(Relaxed);
        while bits & bit == 0 {
            match word.cmpxchg(bits, bits | bit, Acquire) {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
        false
    }

    /// Takes the page of frame `pfn`, which is marked as bad and has no reference any more, into use again. [`EBUSY`] if it has one; [`ENXIO`]
    /// if it is not marked (any more).
    pub(crate) fn take_back(&self, pfn: u64) -> Result {
        let page = self.page(pfn).ok_or(ENXIO)?;
        // SAFETY: The page is one of ours.
        unsafe {
            if helpers::anon_rmap_page_count(page.as_ptr()) != 0 {
                return Err(EBUSY);
            }
            if !helpers::anon_rmap_page_test_clear_hwpoison(page.as_ptr()) {
                return Err(ENXIO);
            }
        }
        self.reinstate(page);
        Ok(())
    }

    /// Clears the bit of `page`, which has no reference any more.
    fn reinstate(&self, page: NonNull<bindings::page>) {
        if let Some((word, bit)) = self.bit(page) {
            // The bit is set, and only who drops the last reference, or clears the mark, is here: so this clears it and no other.
            word.fetch_sub(bit, Release);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for DeviceMemory {
    fn drop(self: Pin<&mut Self>) {
        // Not so if `register` has failed.
        if !DEVICE_MEMORY.load(Acquire).is_null() {
            // SAFETY: `register` has mapped the pages. Waits for the last references.
            unsafe { bindings::memunmap_pages(self.pgmap.get()) };
            self.release_region();
            DEVICE_MEMORY.store(ptr::null(), Release);
        }
    }
}

/// Takes a page back, unless it is bad: then its bit stays set.
///
/// # Safety
///
/// To be called by core mm only, as `dev_pagemap_ops.folio_free`. Called in any context.
unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
    let (Some(pool), Some(page)) = (DeviceMemory::get(), NonNull::new(folio.cast())) else {
        return;
    };
    // SAFETY: Core mm passes a folio of ours, whose first member is its page.
    if !unsafe { helpers::anon_rmap_page_hwpoison(page.as_ptr()) } {
        pool.reinstate(page);
    }
    // SAFETY: `alloc` has taken this reference. Unloading waits for this call, see `memunmap_pages()`.
    unsafe { bindings::module_put(helpers::THIS_MODULE) };
}
