// SPDX-License-Identifier: GPL-2.0-only

//! A range of physical memory, reserved at boot, as device memory.
//!
//! The kernel does not use such memory itself, but knows whose it is: its own `memory_failure()`, which
//! machine checks, `hwpoison-inject`, `hard_offline_page` and `MADV_HWPOISON` end in, asks its driver to
//! handle a failure.

use crate::{
    helpers,
    loading::Loading,
    page::{
        Frame,
        OwnedPage, //
    }, //
};
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
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        new_mutex,
        Mutex, //
    },
    types::Opaque, //
};

/// The device memory, if there is any.
static DEVICE_MEMORY: Atomic<*const DeviceMemory> = Atomic::new(ptr::null());

/// What the kernel can add as memory: a section.
const ALIGNMENT: u64 = 128 << 20;

/// Handles the failure of frames of the range, of so many from the first number on; with the flags of `memory_failure()`; what
/// core mm calls as `dev_pagemap_ops.memory_failure`. Sleeps.
pub(crate) type FailureHandler =
    extern "C" fn(*mut bindings::dev_pagemap, c_ulong, c_ulong, c_int) -> c_int;

/// The device memory, with a bitmap of its pages.
///
/// Pages are freed by whoever drops the last reference, in any context, so the bitmap has no lock.
///
/// # Invariants
///
/// * [`DEVICE_MEMORY`] points to the only one there is, once the kernel has mapped its pages; nobody uses it when it is dropped.
/// * A page whose bit is clear is used by nobody; whoever sets a bit owns the page.
#[pin_data(PinnedDrop)]
pub(crate) struct DeviceMemory {
    #[pin]
    pgmap: Opaque<bindings::dev_pagemap>,
    /// What core mm calls; never written to.
    ops: bindings::dev_pagemap_ops,
    region: Region,
    used: KVVec<Atomic<u64>>,
    /// The word of `used` in which a free page was found last.
    hint: Atomic<usize>,
    /// Held while a page is set up, which would undo a mark that comes meanwhile. Comes after all locks of the driver.
    #[pin]
    setup: Mutex<()>,
}

// SAFETY: The kernel's map belongs to no task; all else is `Send`.
unsafe impl Send for DeviceMemory {}
// SAFETY: The kernel locks what it changes of `pgmap`, which nobody else changes; all else is `Sync`.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Makes the physical range of `size` bytes from `start` on the pool, whose failures `handler` handles; nothing if `size` is zero.
    ///
    /// # Errors
    ///
    /// * [`EINVAL`]: the range is not one of whole sections, or was not reserved at boot.
    /// * [`EBUSY`]: somebody else uses it.
    /// * [`ENOMEM`].
    pub(crate) fn new(
        start: u64,
        size: u64,
        handler: FailureHandler,
        loading: &mut Loading,
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
        loading.once(&DEVICE_MEMORY)?;
        let mut used = KVVec::new();
        for _ in 0..size >> PAGE_SHIFT >> u64::BITS.trailing_zeros() {
            used.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let this = KBox::pin_init(
            try_pin_init!(Self {
                pgmap <- pin_init::init_zeroed(),
                ops: bindings::dev_pagemap_ops {
                    folio_free: Some(folio_free),
                    memory_failure: Some(handler),
                    ..pin_init::zeroed()
                },
                region: Region::request(start, size)?,
                used,
                hint: Atomic::new(0),
                setup <- new_mutex!((), "anon_rmap_setup"),
            }),
            GFP_KERNEL,
        )?;
        this.map()?;
        // INVARIANT: There is no other, as `once` says, and it is dropped when it is not used any more, by the invariant of `loading`.
        DEVICE_MEMORY.store(&*this, Release);
        Ok(Some(this))
    }

    /// Has the kernel make pages for the range. To be called once.
    fn map(&self) -> Result {
        let pgmap = self.pgmap.get();
        let (start, size) = (self.region.start, self.region.size);
        let range = bindings::range {
            start,
            end: start + size - 1,
        };
        // SAFETY: The map is zeroed, and ours to set up. `ranges`, a union, has room for one range.
        unsafe {
            (*pgmap).type_ = bindings::memory_type_MEMORY_DEVICE_COHERENT;
            (*pgmap).ops = &self.ops;
            (*pgmap).owner = pgmap.cast();
            (*pgmap).nr_range = 1;
            (&raw mut (*pgmap).__bindgen_anon_1)
                .cast::<bindings::range>()
                .write(range);
        }
        // SAFETY: The map was set up, and stays where it is until it is unmapped, as the operations do.
        from_err_ptr(unsafe { bindings::memremap_pages(pgmap, bindings::NUMA_NO_NODE) })?;
        Ok(())
    }

    /// The device memory, if there is any.
    pub(crate) fn get() -> Option<&'static Self> {
        // SAFETY: It is null, or by the invariant there as long as anybody uses it.
        unsafe { DEVICE_MEMORY.load(Acquire).as_ref() }
    }

    /// The frame `pfn`, if it is in the range.
    pub(crate) fn frame(&self, pfn: u64) -> Option<&Frame> {
        let index = pfn.checked_sub(self.region.start >> PAGE_SHIFT)?;
        if index >= self.region.size >> PAGE_SHIFT {
            return None;
        }
        // SAFETY: The kernel has made pages for the range, which stay as long as `self` does.
        unsafe { Frame::from_raw(helpers::anon_rmap_pfn_to_page(pfn as usize)) }
    }

    /// A page; filled with zeroes with `zero`. [`ENOSPC`]. Takes O(n / 64) for n pages if nearly all are used.
    pub(super) fn alloc(&self, zero: bool) -> Result<OwnedPage> {
        let page: OwnedPage = loop {
            let pfn = (self.region.start >> PAGE_SHIFT) + self.take_any().ok_or(ENOSPC)?;
            let frame = self.frame(pfn).ok_or(ENOSPC)?;
            let _setup = self.setup.lock();
            if frame.is_marked() {
                // It failed while it was given back. Its bit stays set.
                continue;
            }
            // Not to be unloaded as long as somebody has the page: a pipe can keep it for ever.
            // SAFETY: The module is ours, and in use now.
            unsafe { bindings::__module_get(helpers::THIS_MODULE) };
            // SAFETY: By the invariant the frame is ours, so its page is ours to set up; this takes a reference, and locks the page.
            break unsafe {
                bindings::zone_device_page_init(frame.as_ptr(), self.pgmap.get(), 0);
                helpers::anon_rmap_unlock_page(frame.as_ptr());
                ARef::from_raw(NonNull::from(frame).cast())
            };
        };
        if zero {
            // SAFETY: Nobody else has the page yet.
            unsafe { helpers::anon_rmap_clear_page(page.as_ptr()) };
        }
        Ok(page)
    }

    /// Marks `frame` as bad, whoever is about to hand it out. Sleeps.
    pub(crate) fn mark(&self, frame: &Frame) {
        let _setup = self.setup.lock();
        frame.set_mark();
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

    /// The word and the bit in it that stand for `frame`, which is one of the range.
    fn bit(&self, frame: &Frame) -> Option<(&Atomic<u64>, u64)> {
        let index = frame.pfn().checked_sub(self.region.start >> PAGE_SHIFT)?;
        let word = self.used.get((index / u64::from(u64::BITS)) as usize)?;
        Some((word, 1 << (index % u64::from(u64::BITS))))
    }

    /// Sets the bit of `frame`, so that it is not handed out; false if it is set already.
    pub(crate) fn take(&self, frame: &Frame) -> bool {
        let Some((word, bit)) = self.bit(frame) else {
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

    /// Takes the frame `pfn`, which is marked as bad and has no reference any more, into use again. [`EBUSY`] if it has one; [`ENXIO`]
    /// if it is not marked (any more).
    pub(crate) fn release(&self, pfn: u64) -> Result {
        let frame = self.frame(pfn).ok_or(ENXIO)?;
        if frame.count() != 0 {
            return Err(EBUSY);
        }
        if !frame.clear_mark() {
            return Err(ENXIO);
        }
        self.release_frame(frame);
        Ok(())
    }

    /// Clears the bit of `frame`, which has no reference any more.
    fn release_frame(&self, frame: &Frame) {
        if let Some((word, bit)) = self.bit(frame) {
            // The bit is set, and only who drops the last reference, or clears the mark, is here: so this clears it and no other.
            word.fetch_sub(bit, Release);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for DeviceMemory {
    fn drop(self: Pin<&mut Self>) {
        // Not so if `map` has failed.
        if ptr::eq(DEVICE_MEMORY.load(Acquire), &*self) {
            // SAFETY: `map` has mapped the pages. Waits for the last references.
            unsafe { bindings::memunmap_pages(self.pgmap.get()) };
            DEVICE_MEMORY.store(ptr::null(), Release);
        }
    }
}

/// A range of physical addresses that nobody else uses.
///
/// # Invariants
///
/// The region is ours in `iomem_resource`.
struct Region {
    start: u64,
    size: u64,
}

impl Region {
    /// Reserves the range; [`EBUSY`].
    fn request(start: u64, size: u64) -> Result<Self> {
        let (root, name) = (
            &raw mut bindings::iomem_resource,
            c"anon_rmap".as_char_ptr(),
        );
        // SAFETY: The name is a constant.
        if unsafe { bindings::__request_region(root, start, size, name, 0) }.is_null() {
            pr_err!("the pool is used by somebody else, see /proc/iomem\n");
            return Err(EBUSY);
        }
        // INVARIANT: It has just been requested.
        Ok(Self { start, size })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let root = &raw mut bindings::iomem_resource;
        // SAFETY: By the invariant the region is ours.
        unsafe { bindings::__release_region(root, self.start, self.size) };
    }
}

/// Takes a page back when its last reference has gone, unless it is bad: then its bit stays set.
///
/// # Safety
///
/// To be called by core mm only, as `dev_pagemap_ops.folio_free`. Called in any context.
unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
    // SAFETY: Core mm passes a folio of ours, whose first member is its page.
    free(unsafe { Frame::from_raw(folio.cast()) });
}

/// Takes back what is in `frame`.
fn free(frame: Option<&Frame>) {
    let (Some(pool), Some(frame)) = (DeviceMemory::get(), frame) else {
        return;
    };
    if !frame.is_marked() {
        pool.release_frame(frame);
    }
    // SAFETY: `alloc` has taken this reference. Unloading waits for this call, see `memunmap_pages()`.
    unsafe { bindings::module_put(helpers::THIS_MODULE) };
}
