// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs which keep the module loaded while they are open.
//!
//! Those of [`kernel::debugfs`] do not, since their `file_operations` name no owner: closing one after
//! the module was unloaded runs into its freed memory. What is read and written is the same, by the same
//! traits.

use crate::AnonRmap;
use core::ptr;
use kernel::{
    bindings,
    debugfs::{
        Reader,
        Writer, //
    },
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    fmt,
    module::this_module,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// A directory in debugfs; removed, with what is in it, when this is dropped.
///
/// As is usual for debugfs, failing to create it or a file in it is no error.
///
/// # Invariants
///
/// The pointer is what `debugfs_create_dir` returned.
pub(crate) struct Dir(*mut bindings::dentry);

// SAFETY: debugfs may be called from any thread.
unsafe impl Send for Dir {}
// SAFETY: debugfs has its own locks.
unsafe impl Sync for Dir {}

impl Dir {
    /// Creates a directory at the top of debugfs.
    pub(crate) fn new(name: &CStr) -> Self {
        // SAFETY: The name is a string.
        // INVARIANT: By construction.
        Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), ptr::null_mut()) })
    }

    /// Creates a file whose content `data` writes.
    pub(crate) fn read_only_file<T: Writer + Sync>(&self, name: &CStr, data: &'static T) {
        self.file(name, 0o400, data, &T::OPERATIONS);
    }

    /// Creates a file whose writes `data` reads.
    pub(crate) fn write_only_file<T: Reader + Sync>(&self, name: &CStr, data: &'static T) {
        self.file(name, 0o200, data, &T::OPERATIONS);
    }

    /// Creates a file whose writes `data` reads, and whose content it writes.
    pub(crate) fn read_write_file<T: Reader + Writer + Sync>(&self, name: &CStr, data: &'static T) {
        self.file(name, 0o600, data, &T::READ_WRITE_OPERATIONS);
    }

    fn file<T: Sync>(
        &self,
        name: &CStr,
        mode: bindings::umode_t,
        data: &'static T,
        operations: &'static bindings::file_operations,
    ) {
        // SAFETY: By the invariant the directory is one, or an error, which is allowed. The data lives
        // as long as the module, and so do the operations, which expect data of this type.
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                mode,
                self.0,
                ptr::from_ref(data).cast_mut().cast(),
                ptr::null(),
                operations,
            )
        };
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the invariant this is a directory, or an error, which is allowed. It waits for
        // those who are reading or writing.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

/// `file_operations` for a file that is read.
trait ReadOperations: Writer + Sync + Sized {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module::<AnonRmap>().as_ptr(),
        open: Some(open::<Self>),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };
}

impl<T: Writer + Sync> ReadOperations for T {}

/// `file_operations` for a file that is written.
trait WriteOperations: Reader + Sync + Sized {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module::<AnonRmap>().as_ptr(),
        open: Some(bindings::simple_open),
        write: Some(write::<Self>),
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };
}

impl<T: Reader + Sync> WriteOperations for T {}

/// `file_operations` for a file that is written and read.
trait ReadWriteOperations: Reader + Writer + Sync + Sized {
    const READ_WRITE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        write: Some(write_seq::<Self>),
        ..<Self as ReadOperations>::OPERATIONS
    };
}

impl<T: Reader + Writer + Sync> ReadWriteOperations for T {}

/// # Safety
///
/// To be called by the VFS only, for an inode whose private data is a `T`.
unsafe extern "C" fn open<T: Writer>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: Both are valid during the call; `show` expects the inode's private data.
    unsafe { bindings::single_open(file, Some(show::<T>), (*inode).i_private) }
}

/// # Safety
///
/// To be called for a `seq_file` opened by [`open`] only.
unsafe extern "C" fn show<T: Writer>(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
    struct Content<'a, T>(&'a T);

    impl<T: Writer> fmt::Display for Content<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(f)
        }
    }

    // SAFETY: `open` made the private data a `T` that lives as long as the module.
    let data = unsafe { &*(*seq).private.cast::<T>() };
    // SAFETY: The `seq_file` is valid, and only this thread uses it.
    let seq = unsafe { SeqFile::from_raw(seq) };
    seq_print!(seq, "{}", Content(data));
    0
}

/// # Safety
///
/// To be called by the VFS only, for a file whose private data is a `T`.
unsafe extern "C" fn write<T: Reader>(
    file: *mut bindings::file,
    buffer: *const c_char,
    count: usize,
    _position: *mut bindings::loff_t,
) -> isize {
    // SAFETY: `simple_open` took the private data, a `T`, from the inode.
    let data = unsafe { &*(*file).private_data.cast::<T>() };
    read_from_user(data, buffer, count)
}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`].
unsafe extern "C" fn write_seq<T: Reader>(
    file: *mut bindings::file,
    buffer: *const c_char,
    count: usize,
    _position: *mut bindings::loff_t,
) -> isize {
    // SAFETY: `single_open` made the private data of the file a `seq_file`, whose private data is the
    // inode's, a `T`.
    let data = unsafe {
        let seq = (*file).private_data.cast::<bindings::seq_file>();
        &*(*seq).private.cast::<T>()
    };
    read_from_user(data, buffer, count)
}

/// Lets `data` read what is written; returns what `write` has to.
fn read_from_user(data: &impl Reader, buffer: *const c_char, count: usize) -> isize {
    let buffer = UserPtr::from_ptr(buffer.cast_mut().cast());
    match data.read_from_slice(&mut UserSlice::new(buffer, count).reader()) {
        Ok(()) => count as isize,
        Err(error) => error.to_errno() as isize,
    }
}
