// SPDX-License-Identifier: GPL-2.0

//! Pages that turn out to be bad while they are copied.
//!
//! Such a page is taken away from all who use it like any other that the hardware has failed under.
//! Who copies a page holds an mmap lock, under which that can't be done, so it is left to a worker.

use super::{
    poison,
    Action,
    Door,
    Failure, //
};
use crate::anon::{
    Anon,
    Poison, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    },
    workqueue, //
};

static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The work queue, one for the module: unloading waits for it.
///
/// # Invariants
///
/// Owns the work queue, and [`QUEUE`] is the same.
pub(crate) struct Queue(NonNull<bindings::workqueue_struct>);

// SAFETY: A work queue may be used and destroyed by any task.
unsafe impl Send for Queue {}
// SAFETY: As above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes [`failed`] usable; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// There must be no other queue, and no page may be copied when this is dropped, nor afterwards.
    pub(crate) unsafe fn new() -> Result<Self> {
        // SAFETY: The format has no conversions.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"anon_rmap".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
            )
        };
        let queue = NonNull::new(queue).ok_or(ENOMEM)?;
        // INVARIANT: The caller promises that there is no other queue.
        QUEUE.store(queue.as_ptr(), Relaxed);
        Ok(Self(queue))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: By the invariant the queue is ours; nothing is added to it any more.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// Handles the failure of the page of `anon` in frame `pfn`, which could not be copied.
///
/// If there is no memory for that, the next copy tries again. May sleep; the caller must hold no lock of
/// the driver.
pub(crate) fn failed(anon: ARef<Anon>, pfn: u64) {
    let failure = Failure {
        kind: Poison::Hardware,
        door: Door::Copy,
        action: Action::Optional,
        pfn: Some(pfn),
        place: None,
    };
    // SAFETY: Pages are copied only as long as there is the queue.
    let queue = unsafe { workqueue::Queue::from_raw(QUEUE.load(Relaxed)) };
    let _ = queue.try_spawn(GFP_KERNEL | __GFP_NOWARN, move || {
        // That it is poisoned already, or has left the frame, is as good.
        let _ = poison(&anon, failure);
    });
}
