// SPDX-License-Identifier: GPL-2.0-only

//! The commit charge of memory that core mm does not charge: what the system has promised (`Committed_AS`), and may refuse to
//! (`vm.overcommit_memory`).
//!
//! Core mm charges private memory that is writable when it is mapped. All else that can be written later looks to it like a mapping of a
//! shared file, whose pages the file would have been charged for: shared memory, and private memory that mprotect makes
//! writable. So the driver charges that: shared memory at once, private memory at the mprotect, as for anonymous memory.

use crate::helpers;
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// A part of what the system has promised, given back when it is dropped.
///
/// What the kernel exports for that is a file of shmem, here always without pages: its size is charged when it is made, and what its size
/// is when it goes is given back (`shmem_evict_inode()`).
///
/// # Invariants
///
/// Owns a reference to `file`, which nobody else has, and whose size is `pages`.
pub(crate) struct Charge {
    file: NonNull<bindings::file>,
    pages: usize,
}

// SAFETY: A file may be used by any task.
unsafe impl Send for Charge {}
// SAFETY: A shared reference allows to read the number only.
unsafe impl Sync for Charge {}

impl Charge {
    /// Charges `pages`. Sleeps.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the system may not promise that much, or for want of memory.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        // SAFETY: No requirements.
        let file = from_err_ptr(unsafe { helpers::anon_rmap_charge_file(pages) });
        // Whatever is said to somebody who makes a file.
        let file = file.map_err(|_| ENOMEM)?;
        // INVARIANT: The reference is ours, and nobody has seen the file.
        Ok(Self {
            file: NonNull::new(file).ok_or(ENOMEM)?,
            pages,
        })
    }

    /// Charges the pages at `addresses`. Errors as those of [`Self::new`].
    pub(crate) fn for_addresses(addresses: Range<usize>) -> Result<Self> {
        Self::new((addresses.end - addresses.start) >> PAGE_SHIFT)
    }

    /// How many pages it is for.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Moves up to `pages` of it to `other`.
    pub(crate) fn move_to(&mut self, other: &mut Self, pages: usize) {
        let moved = pages.min(self.pages);
        self.set(self.pages - moved);
        other.set(other.pages + moved);
    }

    fn set(&mut self, pages: usize) {
        // INVARIANT: Both are changed.
        self.pages = pages;
        // SAFETY: By the invariant the file is live and ours alone.
        unsafe { helpers::anon_rmap_charge_resize(self.file.as_ptr(), pages) };
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::fput(self.file.as_ptr()) };
    }
}
