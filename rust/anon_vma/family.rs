// SPDX-License-Identifier: GPL-2.0-only

//! The file behind a mapping, and so behind all VMAs that come from it: a family.
//!
//! Each `mmap()` gets a file of its own, which fork, splits and mremap pass on. That has three ends:
//!
//! * No offset that a user can choose continues that of one of our VMAs, since it would have to be one of the same file;
//!   and nobody can map that file again. So core mm merges nothing ([`window`](Family::next_window) does the rest).
//! * The VMAs of the family are those in the file's `i_mmap`, and whoever holds that lock knows that they
//!   and their page tables stay: a failure needs no mmap lock.
//! * Families don't wait for each other.

use crate::{
    commit_charge::Charge,
    helpers,
    index::Indices,
    operations::Operations,
    process, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    fs::File,
    mm::Mm,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    },
    types::NotThreadSafe, //
};

/// log2 of the pages in a window of `vm_pgoff`: as many as an address space of 48 bits has.
const WINDOW_SHIFT: u32 = 36;
/// The windows that there are.
const WINDOWS: usize = 1 << (usize::BITS - WINDOW_SHIFT);

/// The largest index that a window has room for.
pub(crate) const MAX_INDEX: u64 = (1 << WINDOW_SHIFT) - 1;

/// In how many VMAs entries are made read-only at a fork: beyond that zapping those of the parent costs less.
const MAX_PROTECTED: usize = 16;

/// Whether writes go to a page of one's own or to everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Copy-on-write: `MAP_PRIVATE`.
    Private,
    /// One amap for all that inherit it: `MAP_SHARED`.
    Shared,
}

/// The operations of the file. It can't be mapped (`remap_file_pages`), and nobody has a descriptor of it.
static OPERATIONS: Operations<bindings::file_operations> =
    Operations::new(bindings::file_operations {
        owner: helpers::THIS_MODULE,
        ..pin_init::zeroed()
    });

/// The first `vm_pgoff` of a range that only one VMA of an address space uses: that of index 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(usize);

impl Window {
    /// The `vm_pgoff` of the page with `index`.
    pub(crate) fn pgoff(self, index: u64) -> usize {
        self.0.wrapping_add(index as usize)
    }

    /// The index of the page with the `vm_pgoff` `pgoff`.
    pub(crate) fn index(self, pgoff: usize) -> u64 {
        pgoff.wrapping_sub(self.0) as u64
    }
}

/// What all VMAs that come from one `mmap()` call have in common.
#[pin_data]
pub(crate) struct Family {
    file: ARef<File>,
    next_window: Atomic<usize>,
    /// Held by a walk while it zaps. Comes after the mmap lock, before `i_mmap`.
    #[pin]
    walk: Mutex<()>,
    /// The [key](process::current_key) of the task whose walk that is; 0 if there is none.
    walker: Atomic<usize>,
    /// How many moves of page table entries are under way.
    moves: Atomic<usize>,
    /// What the system has promised for shared memory, from index 0 on, unless nothing was to be reserved (`MAP_NORESERVE`).
    #[pin]
    charge: Mutex<Option<Charge>>,
    /// How many pages that is; no less than any number if there is none.
    charged: Atomic<usize>,
}

impl Family {
    /// A family without VMAs, of memory that is shared or private to the user. Shared memory is charged as `charge` says.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], and whatever a security module says.
    pub(crate) fn new(sharing: Sharing, charge: Option<Charge>) -> Result<Arc<Self>> {
        let (name, is_shared) = (c"[anon_rmap]".as_char_ptr(), sharing == Sharing::Shared);
        // SAFETY: The name is a string, and the operations live as long as the module, which the file keeps.
        let file = unsafe { helpers::anon_rmap_new_file(name, OPERATIONS.as_ptr(), is_shared) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(ENOMEM)?;
        // SAFETY: The helper has taken a reference for us. Nobody has a descriptor of the file, so no `fdget_pos()` is under way.
        let file = unsafe { ARef::from_raw(file.cast::<File>()) };
        let new = Arc::pin_init(
            pin_init!(Self {
                file,
                next_window: Atomic::new(0),
                walk <- new_mutex!((), "anon_rmap_walk"),
                walker: Atomic::new(0),
                moves: Atomic::new(0),
                charged: Atomic::new(charge.as_ref().map_or(usize::MAX, Charge::pages)),
                charge <- new_mutex!(charge, "anon_rmap_charge"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(new)
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// A window that no VMA of the family uses.
    ///
    /// Two VMAs of one address space whose `vm_pgoff` continue each other could be merged, or their common border be shifted,
    /// without a hook being called. If each has a window of its own, they never do. A child keeps the windows of
    /// its parent: core mm relies on equal offsets there (`mapping_rmap_tree_insert_after()` in `dup_mmap()`).
    ///
    /// Takes `i_mmap` for reading. [`ENOMEM`] if all are in use.
    pub(crate) fn next_window(&self) -> Result<Window> {
        let i_mmap = self.i_mmap();
        for _ in 0..WINDOWS {
            let number = self.next_window.fetch_add(1, Relaxed) % WINDOWS;
            let window = Window(number << WINDOW_SHIFT);
            if !i_mmap.has_any(window) {
                return Ok(window);
            }
        }
        Err(ENOMEM)
    }

    /// Makes the entries at `indices` of `window` read-only, so that the next write is a fault; also those of relatives. Other state
    /// of the entries stays: present, accessed, soft-dirty.
    ///
    /// False if nothing was done: for want of memory, where a zap costs less, where somebody has markers of guard pages or userfaultfd, or in
    /// a kernel without `CONFIG_MAPPING_DIRTY_HELPERS`. Takes the time of looking at each page table entry, of up to [`MAX_PROTECTED`]
    /// relatives. Takes `i_mmap` for reading.
    pub(crate) fn write_protect(&self, window: Window, indices: Indices) -> bool {
        let file = self.file.as_ptr();
        let (first, last) = (
            window.pgoff(indices.first().0),
            window.pgoff(indices.last().0),
        );
        {
            let _i_mmap = self.i_mmap();
            let most = MAX_PROTECTED;
            // SAFETY: The family has a reference to the file, and the lock is held.
            if !unsafe { helpers::anon_rmap_i_mmap_may_write_protect(file, first, last, most) } {
                return false;
            }
        }
        // What it will say is of no interest.
        let most = (last - first).saturating_add(1).min(8 * PAGE_SIZE);
        let words = most.div_ceil(usize::BITS as usize);
        let Ok(mut bitmap) = KVec::from_elem(0, words, GFP_KERNEL_ACCOUNT) else {
            return false;
        };
        let mut from = first;
        loop {
            let nr = (last - from).saturating_add(1).min(most);
            // SAFETY: The family has a reference to the file, and the bitmap has a bit for each of the pages.
            if !unsafe { helpers::anon_rmap_write_protect(file, from, nr, bitmap.as_mut_ptr()) } {
                return false;
            }
            if last - from < nr {
                return true;
            }
            from += nr;
        }
    }

    /// Locks the VMAs of the family where they are, and their page tables.
    pub(crate) fn i_mmap(&self) -> IMmap<'_> {
        // SAFETY: The family has a reference to the file.
        unsafe { helpers::anon_rmap_i_mmap_lock_read(self.file.as_ptr()) };
        // INVARIANT: Locked for it.
        IMmap {
            family: self,
            _nts: NotThreadSafe,
        }
    }

    /// As [`Self::i_mmap`], to zap what a failure concerns.
    pub(crate) fn walker(&self) -> Walker<'_> {
        let walk = self.walk.lock();
        self.walker.store(process::current_key(), Relaxed);
        Walker {
            i_mmap: self.i_mmap(),
            _walk: walk,
        }
    }

    /// Sees to it that shared memory is charged up to `pages`, as mremap has grown it.
    ///
    /// # Errors
    ///
    /// Those of [`Charge::new`].
    pub(crate) fn charge_up_to(&self, pages: usize) -> Result {
        loop {
            let charged = match &*self.charge.lock() {
                Some(charge) if charge.pages() < pages => charge.pages(),
                _ => return Ok(()),
            };
            let mut more = Charge::new(pages - charged)?;
            if let Some(charge) = &mut *self.charge.lock() {
                if charge.pages() == charged {
                    more.move_to(charge, pages - charged);
                    self.charged.store(pages, Relaxed);
                }
            }
        }
    }

    /// Whether the system has promised the first `pages` pages, or need not.
    pub(crate) fn is_charged_up_to(&self, pages: usize) -> bool {
        self.charged.load(Relaxed) >= pages
    }

    /// Notes that mremap begins to move entries, before their target is linked.
    pub(crate) fn begin_move(&self) {
        self.moves.fetch_add(1, Relaxed);
    }

    /// Notes that a move has ended, and no entry will move back any more.
    pub(crate) fn end_move(&self) {
        self.moves.fetch_sub(1, Relaxed);
    }

    /// Whether entries are moving: a walk that has looked at their source must not give up `i_mmap` before it has looked at
    /// their target. It can't begin with what the walk has looked at already, since linking the target takes `i_mmap` for writing.
    pub(crate) fn is_moving(&self) -> bool {
        self.moves.load(Relaxed) > 0
    }

    /// Whether the current task is zapping for a failure, which means nothing to what the mappings hold.
    pub(crate) fn is_walked_by_current(&self) -> bool {
        self.walker.load(Relaxed) == process::current_key()
    }
}

/// Evidence of the lock `i_mmap`, held for reading.
///
/// What is linked there stays linked, and its page tables stay: `free_pgtables()` unlinks a VMA before it frees
/// them, and so waits for this lock.
///
/// # Invariants
///
/// The current task has locked it.
pub(crate) struct IMmap<'a> {
    family: &'a Family,
    _nts: NotThreadSafe,
}

impl IMmap<'_> {
    /// Whether this is the lock of `family`.
    pub(super) fn is_of(&self, family: &Family) -> bool {
        ptr::eq(self.family, family)
    }

    /// Whether a VMA is linked in `window`.
    fn has_any(&self, window: Window) -> bool {
        let (file, last) = (self.family.file.as_ptr(), window.pgoff(MAX_INDEX));
        // SAFETY: The family has a reference to the file. By the invariant the lock is held.
        unsafe { helpers::anon_rmap_i_mmap_has(file, window.pgoff(0), last) }
    }

    /// The VMA of `mm` that is linked at `pgoff` and has it at `address`. O(log n), and the relatives that map that offset.
    ///
    /// It is linked as long as `self` lives.
    pub(super) fn find(
        &self,
        pgoff: usize,
        mm: &Mm,
        address: usize,
    ) -> Option<NonNull<bindings::vm_area_struct>> {
        let (file, mm) = (self.family.file.as_ptr(), mm.as_raw());
        // SAFETY: The family has a reference to the file. By the invariant the lock is held.
        NonNull::new(unsafe { helpers::anon_rmap_i_mmap_find(file, pgoff, mm, address) })
    }
}

impl Drop for IMmap<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant the current task has locked it.
        unsafe { helpers::anon_rmap_i_mmap_unlock_read(self.family.file.as_ptr()) };
    }
}

/// The right to zap page table entries of the family for a failure.
pub(crate) struct Walker<'a> {
    i_mmap: IMmap<'a>,
    // Goes after `i_mmap`.
    _walk: Guard<'a, (), MutexBackend>,
}

impl Walker<'_> {
    /// The lock that it holds.
    pub(super) fn i_mmap(&self) -> &IMmap<'_> {
        &self.i_mmap
    }
}

impl Drop for Walker<'_> {
    fn drop(&mut self) {
        self.i_mmap.family.walker.store(0, Relaxed);
    }
}
