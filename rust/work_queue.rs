// SPDX-License-Identifier: GPL-2.0-only

//! Work queues of the driver's own.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::c_int,
    prelude::*,
    workqueue, //
};

/// A work queue of our own.
///
/// # Invariants
///
/// Owns the work queue.
pub(crate) struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A work queue may be used and destroyed by any task.
unsafe impl Send for WorkQueue {}

impl WorkQueue {
    /// A queue whose works don't wait for each other, with a name without conversions; [`ENOMEM`].
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        let (name, flags) = (name.as_char_ptr(), bindings::wq_flags_WQ_UNBOUND);
        // However many nodes share that.
        let most = bindings::wq_consts_WQ_MAX_ACTIVE as c_int;
        // SAFETY: The format has no conversions.
        let queue = unsafe { bindings::alloc_workqueue_noprof(name, flags, most) };
        // INVARIANT: Nobody else has it.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }
}

impl Deref for WorkQueue {
    type Target = workqueue::Queue;

    fn deref(&self) -> &workqueue::Queue {
        // SAFETY: By the invariant it is there as long as `self` is.
        unsafe { workqueue::Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for WorkQueue {
    /// Waits for what is queued.
    fn drop(&mut self) {
        // SAFETY: By the invariant the queue is ours.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
