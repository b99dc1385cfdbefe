// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's chains of notifiers that are told when memory has failed.

use core::marker::PhantomData;
use kernel::{
    bindings::notifier_block,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};

/// A place in a chain, and what is to be called there.
///
/// # Safety
///
/// Once [`unregister`](Self::unregister) has returned, no call of [`notify`](Self::notify) is under way, and the chain has nothing of the
/// block.
pub(crate) unsafe trait Listener {
    /// Called with our block, and the number and the data that the chain passes to all.
    ///
    /// # Safety
    ///
    /// To be called by the chain only.
    unsafe extern "C" fn notify(
        block: *mut notifier_block,
        number: c_ulong,
        data: *mut c_void,
    ) -> c_int;

    /// Adds `block` to the chain.
    ///
    /// # Safety
    ///
    /// The block calls [`notify`](Self::notify), is in no chain, and stays where it is until it is unregistered.
    unsafe fn register(block: *mut notifier_block);

    /// Takes `block` out of the chain. Waits for calls that are under way.
    ///
    /// # Safety
    ///
    /// The block is in the chain.
    unsafe fn unregister(block: *mut notifier_block);
}

/// What has a [`Listener`] called, from when it is made until it is dropped.
///
/// # Invariants
///
/// The block is in the chain.
#[pin_data(PinnedDrop)]
pub(crate) struct Listening<L: Listener> {
    #[pin]
    block: Opaque<notifier_block>,
    listener: PhantomData<L>,
}

// SAFETY: A notifier belongs to no task.
unsafe impl<L: Listener> Send for Listening<L> {}
// SAFETY: A shared reference gives access to nothing; the chain locks what it changes.
unsafe impl<L: Listener> Sync for Listening<L> {}

impl<L: Listener> Listening<L> {
    /// Begins.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: It is registered.
        pin_init!(Self {
            block <- Opaque::ffi_init(|slot: *mut notifier_block| {
                let block = notifier_block {
                    notifier_call: Some(L::notify),
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(block) };
                // SAFETY: It calls `notify`, is new, and stays where it is, pinned, until it is unregistered in `drop`.
                unsafe { L::register(slot) };
            }),
            listener: PhantomData,
        })
    }
}

#[pinned_drop]
impl<L: Listener> PinnedDrop for Listening<L> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { L::unregister(self.block.get()) };
    }
}
