// SPDX-License-Identifier: GPL-2.0-only

//! Atomics with the kernel's interface: orderings are types.

use std::sync::atomic as native;

/// Orderings, and what each operation accepts.
pub mod ordering {
    use super::native;

    /// A memory ordering.
    pub trait Ordering {
        /// For a read-modify-write operation.
        const UPDATE: native::Ordering;
        /// For a load.
        const LOAD: native::Ordering;
        /// For a store.
        const STORE: native::Ordering;
    }

    macro_rules! declare {
        ($($(#[$doc:meta])* $name:ident: $update:ident, $load:ident, $store:ident;)*) => {$(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $name;
            impl Ordering for $name {
                const UPDATE: native::Ordering = native::Ordering::$update;
                const LOAD: native::Ordering = native::Ordering::$load;
                const STORE: native::Ordering = native::Ordering::$store;
            }
        )*};
    }

    declare! {
        /// No ordering.
        Relaxed: Relaxed, Relaxed, Relaxed;
        /// Later accesses stay after it.
        Acquire: Acquire, Acquire, SeqCst;
        /// Earlier accesses stay before it.
        Release: Release, SeqCst, Release;
        /// Both, and a total order.
        Full: SeqCst, SeqCst, SeqCst;
    }

    /// What a load accepts.
    pub trait AcquireOrRelaxed: Ordering {}
    impl AcquireOrRelaxed for Acquire {}
    impl AcquireOrRelaxed for Relaxed {}

    /// What a store accepts.
    pub trait ReleaseOrRelaxed: Ordering {}
    impl ReleaseOrRelaxed for Release {}
    impl ReleaseOrRelaxed for Relaxed {}
}

pub use ordering::{
    Acquire,
    Full,
    Relaxed,
    Release, //
};

/// A type that has a native atomic.
pub trait AtomicType: Copy {
    /// That atomic.
    type Native;
}

/// A value that threads share.
#[repr(transparent)]
pub struct Atomic<T: AtomicType>(T::Native);

macro_rules! implement {
    ($($t:ty: $native:ident),* $(,)?) => {$(
        impl AtomicType for $t {
            type Native = native::$native;
        }

        impl Atomic<$t> {
            /// A new atomic.
            pub const fn new(value: $t) -> Self {
                Self(native::$native::new(value))
            }

            /// The value, when nobody else can see it.
            pub fn get_mut(&mut self) -> &mut $t {
                self.0.get_mut()
            }

            /// Reads.
            pub fn load<O: ordering::AcquireOrRelaxed>(&self, _: O) -> $t {
                self.0.load(O::LOAD)
            }

            /// Writes.
            pub fn store<O: ordering::ReleaseOrRelaxed>(&self, value: $t, _: O) {
                self.0.store(value, O::STORE)
            }

            /// Writes and returns what was there.
            pub fn xchg<O: ordering::Ordering>(&self, value: $t, _: O) -> $t {
                self.0.swap(value, O::UPDATE)
            }

            /// Writes `new` if `old` is there; else returns what is.
            pub fn cmpxchg<O: ordering::Ordering>(
                &self,
                old: $t,
                new: $t,
                _: O,
            ) -> Result<$t, $t> {
                self.0
                    .compare_exchange(old, new, O::UPDATE, native::Ordering::Relaxed)
            }
        }
    )*};
}

macro_rules! implement_arithmetic {
    ($($t:ty),* $(,)?) => {$(
        impl Atomic<$t> {
            /// Adds, wrapping.
            pub fn add(&self, value: $t, _: Relaxed) {
                self.0.fetch_add(value, native::Ordering::Relaxed);
            }

            /// Adds, wrapping, and returns what was there.
            pub fn fetch_add<O: ordering::Ordering>(&self, value: $t, _: O) -> $t {
                self.0.fetch_add(value, O::UPDATE)
            }

            /// Subtracts, wrapping, and returns what was there.
            pub fn fetch_sub<O: ordering::Ordering>(&self, value: $t, _: O) -> $t {
                self.0.fetch_sub(value, O::UPDATE)
            }
        }
    )*};
}

implement! {
    bool: AtomicBool, i32: AtomicI32, u32: AtomicU32, i64: AtomicI64, u64: AtomicU64,
    isize: AtomicIsize, usize: AtomicUsize,
}
implement_arithmetic!(i32, u32, i64, u64, isize, usize);
