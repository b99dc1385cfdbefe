// SPDX-License-Identifier: GPL-2.0-only

//! Files in debugfs to which commands are written, and from which [listings](Listing) are read.
//!
//! Those of [`kernel::debugfs`] will not do. Their `file_operations` name no owner: closing one after the module was
//! unloaded runs into its freed memory. And they are called for each piece of a `writev()`.

use super::seq_file::{
    Growing,
    GrowingOperations,
    Listing,
    ReadOperations, //
};
use crate::{
    helpers,
    process::require_capability, //
};
use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    bindings::{
        self,
        iov_iter,
        kiocb, //
    },
    error::from_result,
    iov::IovIterSource,
    prelude::*, //
};

/// What is written to a file: one command a write, be it in one piece or in several (`writev()`). Where in the file it is written
/// means nothing.
pub(super) trait Command: 'static {
    /// The most bytes that a command has.
    const MOST_BYTES: usize = 128;

    /// What a command of more bytes is refused with.
    const TOO_LONG: Error = EINVAL;

    /// Does what `text` says, all of it, or nothing and returns why.
    fn run(text: &[u8]) -> Result;
}

/// A directory in debugfs; removed, with what is in it, when this is dropped.
///
/// As is usual for debugfs, failing to create it or a file in it is no error.
///
/// # Invariants
///
/// The pointer is what `debugfs_create_dir` returned.
pub(super) struct Dir(*mut bindings::dentry);

// SAFETY: debugfs may be called from any thread.
unsafe impl Send for Dir {}
// SAFETY: debugfs has its own locks.
unsafe impl Sync for Dir {}

impl Dir {
    /// Creates a directory at the top of debugfs.
    pub(super) fn new(name: &CStr) -> Self {
        // SAFETY: The name is a string.
        // INVARIANT: By construction.
        Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), ptr::null_mut()) })
    }

    /// Creates a directory in this one, to be removed with it.
    pub(super) fn dir(&self, name: &CStr) -> ManuallyDrop<Self> {
        // SAFETY: The name is a string; by the invariant this is a directory, or an error, which is allowed.
        // INVARIANT: By construction.
        ManuallyDrop::new(Self(unsafe {
            bindings::debugfs_create_dir(name.as_char_ptr(), self.0)
        }))
    }

    /// Creates a file that is read.
    pub(super) fn listing<T: Listing>(&self, name: &CStr) {
        self.file(name, 0o400, &T::LISTING);
    }

    /// Creates a file that is read, and grows meanwhile.
    pub(super) fn growing<T: Growing>(&self, name: &CStr) {
        self.file(name, 0o400, &T::GROWING);
    }

    /// Creates a file that is written.
    pub(super) fn command<T: Command>(&self, name: &CStr) {
        self.file(name, 0o200, &T::COMMAND);
    }

    /// Creates a file that is written and read.
    pub(super) fn command_and_listing<T: Command + Listing>(&self, name: &CStr) {
        self.file(name, 0o600, &T::COMMAND_AND_LISTING);
    }

    fn file(
        &self,
        name: &CStr,
        mode: bindings::umode_t,
        operations: &'static bindings::file_operations,
    ) {
        let (name, data) = (name.as_char_ptr(), ptr::null_mut());
        // SAFETY: By the invariant the directory is one, or an error, which is allowed. The operations live as long as the
        // module. They are called while the file is open, which keeps the module and with it the directory, so they need no
        // protection from being removed.
        unsafe { bindings::debugfs_create_file_unsafe(name, mode, self.0, data, operations) };
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the invariant this is a directory, or an error, which is allowed. It waits for those who are opening a
        // file; nobody has one open.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

/// `file_operations` for a file that is read.
trait ListingOperations: ReadOperations {
    const LISTING: bindings::file_operations = bindings::file_operations {
        owner: helpers::THIS_MODULE,
        ..<Self as ReadOperations>::READ_OPERATIONS
    };
}

impl<T: Listing> ListingOperations for T {}

/// `file_operations` for a file that is read, and grows meanwhile.
trait GrowingFileOperations: GrowingOperations {
    const GROWING: bindings::file_operations = bindings::file_operations {
        owner: helpers::THIS_MODULE,
        ..<Self as GrowingOperations>::GROWING_OPERATIONS
    };
}

impl<T: Growing> GrowingFileOperations for T {}

/// `file_operations` for a file that is written.
trait CommandOperations: Command + Sized {
    const COMMAND: bindings::file_operations = bindings::file_operations {
        owner: helpers::THIS_MODULE,
        // No position to write at, and so no `pwrite()`.
        open: Some(bindings::stream_open),
        write_iter: Some(write::<Self>),
        ..pin_init::zeroed()
    };
}

impl<T: Command> CommandOperations for T {}

/// `file_operations` for a file that is written and read. `seq_open()` sees to it that there is no `pwrite()`.
trait CommandAndListingOperations: Command + ListingOperations {
    const COMMAND_AND_LISTING: bindings::file_operations = bindings::file_operations {
        write_iter: Some(write::<Self>),
        ..<Self as ListingOperations>::LISTING
    };
}

impl<T: Command + Listing> CommandAndListingOperations for T {}

/// # Safety
///
/// To be called by the VFS only.
unsafe extern "C" fn write<C: Command>(_iocb: *mut kiocb, from: *mut iov_iter) -> isize {
    // SAFETY: The VFS passes what is to be written, for us alone.
    let from = unsafe { IovIterSource::from_raw(from) };
    from_result(|| run::<C>(from).map(|size| size as isize))
}

/// Runs the command that `from` has; returns its size.
///
/// # Errors
///
/// [`EPERM`], see [`require_capability`]; [`Command::TOO_LONG`]; [`EFAULT`] if the memory of the writer can't be read;
/// [`ENOMEM`]; those of [`Command::run`]. Nothing has changed then.
fn run<C: Command>(from: &mut IovIterSource<'_>) -> Result<usize> {
    // The descriptor may have been opened by somebody else.
    require_capability()?;
    let size = from.len();
    if size > C::MOST_BYTES {
        return Err(C::TOO_LONG);
    }
    let mut text = KVVec::new();
    if from.copy_from_iter_vec(&mut text, GFP_KERNEL_ACCOUNT)? < size {
        return Err(EFAULT);
    }
    C::run(&text)?;
    Ok(size)
}
