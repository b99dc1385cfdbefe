// SPDX-License-Identifier: GPL-2.0-only

//! Files that list something, line by line: the kernel's `seq_file`.
//!
//! A read fills one page, however long the list is, and holds no lock when it returns. What has been shown is known by a
//! [cursor](Listing::Cursor), not by counting lines: so what comes and goes between two reads moves nothing that stays.

use crate::{
    helpers,
    process::{
        self,
        require_capability, //
    }, //
};
use core::ptr;
use kernel::{
    bindings,
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    fmt,
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

/// What a file lists. Each reader has a cursor of its own.
pub(super) trait Listing: 'static {
    /// A place between two lines; by default the one in front of all.
    type Cursor: Default + Send;

    /// What a line is about.
    type Line: Send;

    /// The first line behind `cursor`, and the place behind that line; `None` at the end. May sleep.
    fn next(cursor: &Self::Cursor) -> Option<(Self::Cursor, Self::Line)>;

    /// Writes the line with its end; nothing if what it is about has gone.
    fn show(line: &Self::Line, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// What `file_operations` need for a listing.
pub(super) trait ReadOperations: Listing + Sized {
    const READ_OPERATIONS: bindings::file_operations = bindings::file_operations {
        open: Some(open::<Self>),
        read: Some(read),
        llseek: Some(bindings::seq_lseek),
        release: Some(release::<Self>),
        ..pin_init::zeroed()
    };
}

impl<L: Listing> ReadOperations for L {}

/// A listing that grows at its end while it is read: at the end a reader can wait for more (`poll()`), and read on.
pub(super) trait Growing: Listing {
    /// Whether there is a line behind `cursor`. Does not sleep.
    fn has_more(cursor: &Self::Cursor) -> bool;

    /// Lets who polls `file` be woken when there may be more.
    ///
    /// # Safety
    ///
    /// To be called from the operation `poll`, with its arguments.
    unsafe fn wait(file: *mut bindings::file, table: *mut bindings::poll_table_struct);
}

/// What `file_operations` need for a listing that grows.
pub(super) trait GrowingOperations: Growing + Sized {
    const GROWING_OPERATIONS: bindings::file_operations = bindings::file_operations {
        poll: Some(poll::<Self>),
        ..<Self as ReadOperations>::READ_OPERATIONS
    };
}

impl<L: Growing> GrowingOperations for L {}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`] for the same `L`.
unsafe extern "C" fn poll<L: Growing>(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: The arguments are those of `poll`.
    unsafe { L::wait(file, table) };
    // SAFETY: `open` made the private data of the file a `seq_file`.
    let has_more = unsafe {
        let seq = (*file).private_data.cast::<bindings::seq_file>();
        helpers::anon_rmap_seq_lock(seq);
        // What is left in the buffer of the last line has been looked at already.
        let has_more = (*seq).count > 0 || L::has_more(&reading::<L>(seq).cursor);
        helpers::anon_rmap_seq_unlock(seq);
        has_more
    };
    if has_more {
        bindings::POLLIN | bindings::POLLRDNORM
    } else {
        0
    }
}

/// How far a reader has come; the private data of a `seq_file`, whose lock guards it.
struct Reading<L: Listing> {
    /// Behind the last line that has been shown.
    cursor: L::Cursor,
    /// The line that is to be shown, and the place behind it; `None` unless it is being read.
    line: Option<(L::Cursor, L::Line)>,
}

impl<L: Listing> Reading<L> {
    /// The operations that go through the lines.
    ///
    /// `seq_file` calls `start`, then `show` and `next` in turn, then `stop`, with its lock held. It starts with position 0 for
    /// the beginning, else with what `next` has made the position.
    const OPERATIONS: bindings::seq_operations = bindings::seq_operations {
        start: Some(start::<L>),
        next: Some(next::<L>),
        stop: Some(stop::<L>),
        show: Some(show::<L>),
    };

    /// Goes to the line behind the cursor. What stands for it is null at the end, and if nobody is going to see it.
    fn look(&mut self) -> *mut c_void {
        self.line = if process::is_current_killed() {
            None
        } else {
            L::next(&self.cursor)
        };
        match &self.line {
            Some(line) => ptr::from_ref(line).cast_mut().cast(),
            None => ptr::null_mut(),
        }
    }
}

/// How far the reader of `seq` has come.
///
/// # Safety
///
/// `seq` must have been opened by [`open`] for the same `L`, and its lock be held during `'a`, in which this is called once.
unsafe fn reading<'a, L: Listing>(seq: *mut bindings::seq_file) -> &'a mut Reading<L> {
    // SAFETY: By the caller's promise this is what `open` has made the private data, and nobody else uses it.
    unsafe { &mut *(*seq).private.cast() }
}

/// # Safety
///
/// To be called by the VFS only, for a file whose operations are those of `L`.
unsafe extern "C" fn open<L: Listing>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    let open = || -> Result {
        // SAFETY: The file is being opened, so it is valid.
        if unsafe { (*file).f_flags } & bindings::O_ACCMODE != bindings::O_WRONLY {
            require_capability()?;
        }
        let reading = KBox::new(
            Reading::<L> {
                cursor: L::Cursor::default(),
                line: None,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: As above. The operations live as long as the module, which the file keeps.
        kernel::error::to_result(unsafe { bindings::seq_open(file, &Reading::<L>::OPERATIONS) })?;
        // SAFETY: `seq_open` has made the private data of the file a `seq_file`, which nobody else knows yet.
        unsafe {
            let seq = (*file).private_data.cast::<bindings::seq_file>();
            (*seq).private = KBox::into_raw(reading).cast();
        }
        Ok(())
    };
    match open() {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`] for the same `L`.
unsafe extern "C" fn release<L: Listing>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: `open` made the private data of the file a `seq_file`, and that of this a box. Nobody uses it any more.
    drop(unsafe {
        let seq = (*file).private_data.cast::<bindings::seq_file>();
        KBox::from_raw((*seq).private.cast::<Reading<L>>())
    });
    // SAFETY: The file has been opened by `seq_open`.
    unsafe { bindings::seq_release(inode, file) }
}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`].
unsafe extern "C" fn read(
    file: *mut bindings::file,
    buffer: *mut c_char,
    size: usize,
    position: *mut bindings::loff_t,
) -> isize {
    // The descriptor may have been opened by somebody else.
    if let Err(error) = require_capability() {
        return error.to_errno() as isize;
    }
    // SAFETY: The file has been opened by `seq_open`; the rest is as the VFS promises.
    unsafe { bindings::seq_read(file, buffer, size, position) }
}

/// # Safety
///
/// To be called by `seq_file` only, for one opened by [`open`] for the same `L`.
unsafe extern "C" fn start<L: Listing>(
    seq: *mut bindings::seq_file,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: `seq_file` holds the lock.
    let reading = unsafe { reading::<L>(seq) };
    // SAFETY: `seq_file` passes a valid position.
    if unsafe { *position } == 0 {
        reading.cursor = L::Cursor::default();
    }
    reading.look()
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn next<L: Listing>(
    seq: *mut bindings::seq_file,
    _line: *mut c_void,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: `seq_file` holds the lock.
    let reading = unsafe { reading::<L>(seq) };
    // SAFETY: `seq_file` passes a valid position.
    unsafe { *position += 1 };
    if let Some((behind, _)) = reading.line.take() {
        reading.cursor = behind;
    }
    reading.look()
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn stop<L: Listing>(seq: *mut bindings::seq_file, _line: *mut c_void) {
    // SAFETY: `seq_file` holds the lock.
    unsafe { reading::<L>(seq) }.line = None;
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn show<L: Listing>(seq: *mut bindings::seq_file, _line: *mut c_void) -> c_int {
    struct Shown<'a, L: Listing>(&'a L::Line);

    impl<L: Listing> fmt::Display for Shown<'_, L> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            L::show(self.0, f)
        }
    }

    // SAFETY: `seq_file` holds the lock.
    if let Some((_, line)) = &unsafe { reading::<L>(seq) }.line {
        // SAFETY: The `seq_file` is valid, and only this thread uses it.
        let seq = unsafe { SeqFile::from_raw(seq) };
        seq_print!(seq, "{}", Shown::<L>(line));
    }
    0
}
