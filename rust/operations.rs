// SPDX-License-Identifier: GPL-2.0-only

//! Tables of operations, as C has them: functions of ours that core mm, or the rest of the kernel, calls.

/// A table of operations in a `static`.
pub(crate) struct Operations<T>(T);

// SAFETY: Being `Copy`, a table is plain data: nothing in it changes through a shared reference. Pointers in it are followed
// by who is given the table's address, to call what it names from any task.
unsafe impl<T: Copy> Sync for Operations<T> {}

impl<T: Copy> Operations<T> {
    /// A table that says `operations`.
    pub(crate) const fn new(operations: T) -> Self {
        Self(operations)
    }

    /// Its address, for C.
    pub(crate) const fn as_ptr(&self) -> *const T {
        &raw const self.0
    }
}
