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
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings::{
        self,
        __poll_t,
        file,
        file_operations,
        inode,
        loff_t,
        poll_table_struct,
        seq_file,
        seq_operations, //
    },
    error::{
        from_result,
        to_result, //
    },
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
    const READ_OPERATIONS: file_operations = file_operations {
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

    /// Lets who polls be woken when there may be more.
    fn wait(poll: &Poll<Self>)
    where
        Self: Sized;
}

/// What `file_operations` need for a listing that grows.
pub(super) trait GrowingOperations: Growing + Sized {
    const GROWING_OPERATIONS: file_operations = file_operations {
        poll: Some(poll::<Self>),
        ..<Self as ReadOperations>::READ_OPERATIONS
    };
}

impl<L: Growing> GrowingOperations for L {}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`] for the same `L`.
unsafe extern "C" fn poll<L: Growing>(file: *mut file, table: *mut poll_table_struct) -> __poll_t {
    // INVARIANT: The caller passes what is asked for, and returns after this.
    let poll = Poll::<L>(file, table, PhantomData);
    poll.run()
}

/// A call of the operation `poll`, with its arguments.
///
/// # Invariants
///
/// The file was opened by [`open`] for `L`. As long as this lives both pointers are as in a call of `poll`.
pub(super) struct Poll<L>(*mut file, *mut poll_table_struct, PhantomData<L>);

impl<L> Poll<L> {
    /// The file, which is there as long as `self` is.
    pub(super) fn file(&self) -> *mut file {
        self.0
    }

    /// The table: null, or there as long as `self` is.
    pub(super) fn table(&self) -> *mut poll_table_struct {
        self.1
    }
}

impl<L: Growing> Poll<L> {
    /// What is to be told: whether there is something to read.
    fn run(&self) -> __poll_t {
        L::wait(self);
        if self.has_more() {
            bindings::POLLIN | bindings::POLLRDNORM
        } else {
            0
        }
    }

    fn has_more(&self) -> bool {
        // SAFETY: By the invariant the private data of the file is a `seq_file`.
        let seq = unsafe { (*self.0).private_data.cast::<seq_file>() };
        // Who reads right now can be waiting for a page fault, and finds out whether there is something.
        // SAFETY: The `seq_file` is there as long as the file.
        if !unsafe { helpers::anon_rmap_seq_trylock(seq) } {
            return true;
        }
        // What is left in the buffer of the last line has been looked at already.
        // SAFETY: The lock is held.
        let has_more = unsafe { (*seq).count > 0 || L::has_more(&reading::<L>(seq).cursor) };
        // SAFETY: The lock was taken above.
        unsafe { helpers::anon_rmap_seq_unlock(seq) };
        has_more
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
    const OPERATIONS: seq_operations = seq_operations {
        start: Some(start::<L>),
        next: Some(next::<L>),
        stop: Some(stop::<L>),
        show: Some(show::<L>),
    };

    /// In front of all lines.
    fn new() -> Self {
        Self {
            cursor: L::Cursor::default(),
            line: None,
        }
    }

    /// Goes on at `position`.
    fn start(&mut self, position: loff_t) -> Token {
        if position == 0 {
            self.cursor = L::Cursor::default();
        }
        self.look()
    }

    /// Goes on behind the line that was shown.
    fn next(&mut self, position: &mut loff_t) -> Token {
        *position += 1;
        if let Some((behind, _)) = self.line.take() {
            self.cursor = behind;
        }
        self.look()
    }

    /// Goes to the line behind the cursor. There is none at the end, and if nobody is going to see it.
    fn look(&mut self) -> Token {
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

    /// Writes the line.
    fn show(&self, seq: &SeqFile) {
        struct Shown<'a, L: Listing>(&'a L::Line);

        impl<L: Listing> fmt::Display for Shown<'_, L> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                L::show(self.0, f)
            }
        }

        if let Some((_, line)) = &self.line {
            seq_print!(seq, "{}", Shown::<L>(line));
        }
    }
}

/// What stands for a line to `seq_file`: null if there is none.
type Token = *mut c_void;

/// How far the reader of `seq` has come.
///
/// # Safety
///
/// `seq` must have been opened by [`open`] for the same `L`, and its lock be held during `'a`, in which this is called once.
unsafe fn reading<'a, L: Listing>(seq: *mut seq_file) -> &'a mut Reading<L> {
    // SAFETY: By the caller's promise this is what `open` has made the private data, and nobody else uses it.
    unsafe { &mut *(*seq).private.cast() }
}

/// # Safety
///
/// To be called by the VFS only, for a file whose operations are those of `L`.
unsafe extern "C" fn open<L: Listing>(_inode: *mut inode, file: *mut file) -> c_int {
    // INVARIANT: The VFS passes such a file.
    let opening = Opening(file);
    from_result(|| opening.open::<L>().map(|()| 0))
}

/// A file that is being opened.
///
/// # Invariants
///
/// As long as this lives the file is there, and nobody else uses it.
struct Opening(*mut file);

impl Opening {
    /// Makes it one in which the lines of `L` are read.
    ///
    /// # Errors
    ///
    /// [`EPERM`] if it can be read, see [`require_capability`]; [`ENOMEM`].
    fn open<L: Listing>(&self) -> Result {
        // SAFETY: By the invariant the file is there.
        let flags = unsafe { (*self.0).f_flags };
        if flags & bindings::O_ACCMODE != bindings::O_WRONLY {
            require_capability()?;
        }
        let reading = KBox::new(Reading::<L>::new(), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the invariant the file is being opened. The operations live as long as the module, which the file keeps.
        to_result(unsafe { bindings::seq_open(self.0, &Reading::<L>::OPERATIONS) })?;
        // SAFETY: `seq_open` has made the private data of the file a `seq_file`.
        let seq = unsafe { (*self.0).private_data.cast::<seq_file>() };
        // SAFETY: Nobody else knows the `seq_file` yet.
        unsafe { (*seq).private = KBox::into_raw(reading).cast() };
        Ok(())
    }
}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`] for the same `L`.
unsafe extern "C" fn release<L: Listing>(inode: *mut inode, file: *mut file) -> c_int {
    // SAFETY: `open` made the private data of the file a `seq_file`.
    let seq = unsafe { (*file).private_data.cast::<seq_file>() };
    // SAFETY: `open` made the private data of that a box. Nobody uses it any more.
    drop(unsafe { KBox::from_raw((*seq).private.cast::<Reading<L>>()) });
    // SAFETY: The file has been opened by `seq_open`.
    unsafe { bindings::seq_release(inode, file) }
}

/// # Safety
///
/// To be called by the VFS only, for a file opened by [`open`].
unsafe extern "C" fn read(file: *mut file, to: *mut c_char, size: usize, at: *mut loff_t) -> isize {
    // SAFETY: The file has been opened by `seq_open`; the rest is as the VFS promises.
    let read = || unsafe { bindings::seq_read(file, to, size, at) };
    // The descriptor may have been opened by somebody else.
    from_result(|| require_capability().map(|()| read()))
}

/// # Safety
///
/// To be called by `seq_file` only, for one opened by [`open`] for the same `L`.
unsafe extern "C" fn start<L: Listing>(seq: *mut seq_file, at: *mut loff_t) -> Token {
    // SAFETY: `seq_file` holds the lock, and passes a valid position.
    unsafe { reading::<L>(seq).start(*at) }
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn next<L: Listing>(seq: *mut seq_file, _: Token, at: *mut loff_t) -> Token {
    // SAFETY: `seq_file` holds the lock, and passes a valid position.
    unsafe { reading::<L>(seq).next(&mut *at) }
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn stop<L: Listing>(seq: *mut seq_file, _: Token) {
    // SAFETY: `seq_file` holds the lock.
    unsafe { reading::<L>(seq) }.line = None;
}

/// # Safety
///
/// As for [`start`].
unsafe extern "C" fn show<L: Listing>(seq: *mut seq_file, _: Token) -> c_int {
    // SAFETY: `seq_file` holds the lock, so only this thread uses it.
    unsafe { reading::<L>(seq).show(SeqFile::from_raw(seq)) };
    0
}
