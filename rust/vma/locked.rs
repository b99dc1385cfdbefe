// SPDX-License-Identifier: GPL-2.0-only

//! VMAs of the device by what may be done with them, which is a matter of locks: a type for each right, as in
//! [`kernel::mm::virt`].
//!
//! * [`VmaRef`]: somebody has locked the VMA for reading, or more.
//! * [`VmaMut`]: the current task has locked its `mm_struct` for writing.
//! * [`VmaNew`]: nobody else has the VMA yet, which is under construction.
//! * [`VmaOpen`]: the VMA may not be locked at all, but it can't be closed now.
//!
//! Only the hooks that core mm calls make the second and the third, as they know which locks it holds.

use super::{
    mm_state::Vmas,
    ops,
    VmaState, //
};
use crate::{
    anon_vma::family::Family,
    helpers, //
};
use core::{
    marker::PhantomData,
    mem,
    ops::{
        Deref,
        Range, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    mm::{
        virt,
        Mm,
        MmWithUser, //
    },
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::{
        ForeignOwnable,
        NotThreadSafe, //
    },
    warn_on, //
};

/// An `mm_struct` whose mmap lock is held for writing.
///
/// # Invariants
///
/// The current task holds it during `'a`.
#[derive(Clone, Copy)]
pub(super) struct MmWriteLocked<'a> {
    mm: &'a MmWithUser,
    _nts: NotThreadSafe,
}

impl MmWriteLocked<'_> {
    /// # Safety
    ///
    /// `mm` must have users, and the current task hold its mmap lock for writing, during `'a`.
    pub(super) unsafe fn from_raw(mm: *const bindings::mm_struct) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            // SAFETY: The caller promises that it has users.
            mm: unsafe { MmWithUser::from_raw(mm) },
            _nts: NotThreadSafe,
        }
    }
}

impl Deref for MmWriteLocked<'_> {
    type Target = MmWithUser;

    fn deref(&self) -> &MmWithUser {
        self.mm
    }
}

/// A VMA of the device that has a state.
///
/// # Invariants
///
/// During `'a` the VMA is valid and locked at least for reading, by the mmap lock or its own, and `state` is that of the
/// VMA, or of the one that it has just been [copied](VmaNew::copied) from.
#[derive(Clone, Copy)]
pub(crate) struct VmaRef<'a> {
    vma: &'a virt::VmaRef,
    state: ArcBorrow<'a, VmaState>,
}

impl<'a> VmaRef<'a> {
    /// `vma` with its state; `None` if it is somebody else's VMA, or has lost its state.
    pub(crate) fn of(vma: &'a virt::VmaRef) -> Option<Self> {
        let raw = vma.as_ptr();
        // SAFETY: By its invariant `vma` is locked. Both change only while nobody else has the VMA.
        let (ops, private) = unsafe { ((*raw).vm_ops, (*raw).vm_private_data) };
        if !ptr::eq(ops, ops::OPS.as_ptr()) || private.is_null() {
            return None;
        }
        // SAFETY: With our operations, private data that is not null comes from `publish`; `closed` takes it only from a
        // VMA that nobody has locked.
        let state = unsafe { Arc::<VmaState>::borrow(private) };
        // INVARIANT: The lock is that of `vma`.
        Some(Self { vma, state })
    }

    /// Its state.
    pub(crate) fn state(self) -> ArcBorrow<'a, VmaState> {
        self.state
    }

    /// The addresses that it covers.
    pub(super) fn range(self) -> Range<usize> {
        range(self.vma)
    }

    /// Its flags.
    pub(super) fn flags(self) -> bindings::vm_flags_t {
        self.vma.flags()
    }

    /// Clears the page table entries of `addresses`, which the VMA covers, and flushes them from all TLBs.
    ///
    /// Core mm tells our mmu notifier of that, too. It is told from `MADV_DONTNEED` by who does it: a fault that [replaces a
    /// page](crate::amap::replacing), or somebody who has [locked the VMA for writing](VmaMut::zap_as_written). The caller must
    /// hold no lock that the mmu notifier takes.
    pub(super) fn zap(self, addresses: Range<usize>) {
        let size = addresses.end.wrapping_sub(addresses.start);
        let zap = || self.vma.zap_vma_range(addresses.start, size);
        self.state.mm_state.rmap_mm().zap_for_driver(zap);
    }
}

/// A VMA of the device that has a state, under the mmap lock for writing.
///
/// # Invariants
///
/// The current task holds that of its `mm_struct` during `'a`.
#[derive(Clone, Copy)]
pub(super) struct VmaMut<'a>(VmaRef<'a>);

impl<'a> Deref for VmaMut<'a> {
    type Target = VmaRef<'a>;

    fn deref(&self) -> &VmaRef<'a> {
        &self.0
    }
}

impl<'a> VmaMut<'a> {
    /// `vma` with its state; `None` as for [`VmaRef::of`].
    ///
    /// # Safety
    ///
    /// `vma` must be valid, and the current task hold the mmap lock for writing, during `'a`.
    pub(super) unsafe fn from_raw(vma: *const bindings::vm_area_struct) -> Option<Self> {
        // INVARIANT: As the caller promises.
        // SAFETY: The caller promises that the VMA is valid and locked.
        VmaRef::of(unsafe { virt::VmaRef::from_raw(vma) }).map(Self)
    }

    /// Its `mm_struct`.
    pub(super) fn mm(self) -> MmWriteLocked<'a> {
        // INVARIANT: By that of `self` the lock is held.
        MmWriteLocked {
            mm: self.vma.mm(),
            _nts: NotThreadSafe,
        }
    }

    /// Locks the VMA itself for writing, and so waits for faults in it.
    pub(super) fn start_write(self) {
        // SAFETY: By the invariant the VMA is valid, and the mmap lock held for writing.
        unsafe { helpers::anon_rmap_vma_start_write(self.vma.as_ptr()) };
    }

    /// [Zaps](VmaRef::zap) entries whose pages are not asked one by one what these said: all of the VMA may have been written
    /// since the last `clear_refs` then. Locks the VMA itself for writing.
    pub(super) fn zap_as_written(self, addresses: Range<usize>) {
        // SAFETY: By the invariant the VMA is valid, and the mmap lock held for writing.
        unsafe { helpers::anon_rmap_vma_set_soft_dirty(self.vma.as_ptr()) };
        self.zap(addresses);
    }
}

/// A VMA under construction.
///
/// # Invariants
///
/// During `'a` the VMA is valid, nobody else has it, and the current task holds the mmap lock of its `mm_struct` for writing.
/// If it has our operations, it has no private data before [`Self::publish`].
pub(super) struct VmaNew<'a>(&'a virt::VmaRef);

impl<'a> VmaNew<'a> {
    /// A VMA that is being made by `mmap()`.
    pub(super) fn new(vma: &'a virt::VmaNew) -> Self {
        // INVARIANT: So it is while core mm calls `f_ops->mmap()`. Its operations are not ours yet.
        Self(vma)
    }

    /// A VMA that core mm has copied, for a split, fork or mremap, with the one that it was copied from; `None` if that has lost
    /// its state.
    ///
    /// # Safety
    ///
    /// Must be called once as core mm calls `vm_operations_struct.open`, with its argument, and `'a` end before the hook does.
    pub(super) unsafe fn copied(vma: *mut bindings::vm_area_struct) -> Option<(VmaMut<'a>, Self)> {
        // SAFETY: Core mm passes a VMA under construction, with the mmap lock of its `mm_struct` held for writing.
        let state = unsafe { VmaMut::from_raw(vma) }?.state();
        // The copied pointer owns no reference.
        // SAFETY: Nobody else has the VMA.
        unsafe { (*vma).vm_private_data = ptr::null_mut() };
        // SAFETY: That it is being copied keeps the source from being closed. Its mmap lock is held for writing, too: in
        // fork by `dup_mmap()`, else it is the one of the copy.
        let source = unsafe { VmaMut::from_raw(state.vma()) }?;
        // INVARIANT: The operations were copied, and the private data is gone.
        // SAFETY: As `state` came to be: the VMA is valid, and the lock held.
        Some((source, Self(unsafe { virt::VmaRef::from_raw(vma) })))
    }

    /// Its `mm_struct`.
    pub(super) fn mm(&self) -> MmWriteLocked<'a> {
        // INVARIANT: By that of `self` the lock is held.
        MmWriteLocked {
            mm: self.0.mm(),
            _nts: NotThreadSafe,
        }
    }

    /// The addresses that it covers.
    pub(super) fn range(&self) -> Range<usize> {
        range(self.0)
    }

    /// Its offset.
    pub(super) fn pgoff(&self) -> usize {
        // SAFETY: By the invariant the VMA is valid.
        unsafe { (*self.0.as_ptr()).vm_pgoff }
    }

    /// Sets its offset.
    pub(super) fn set_pgoff(&self, pgoff: usize) {
        // SAFETY: By the invariant nobody else has the VMA.
        unsafe { (*self.0.as_ptr()).vm_pgoff = pgoff };
    }

    /// All of it may have been written since the last `clear_refs`.
    pub(super) fn set_soft_dirty(&self) {
        // SAFETY: By the invariant nobody else has the VMA.
        unsafe { helpers::anon_rmap_new_vma_set_soft_dirty(self.0.as_ptr()) };
    }

    /// Whether fork copies the page tables.
    pub(super) fn is_copied_on_fork(&self) -> bool {
        // SAFETY: By the invariant the VMA is valid.
        unsafe { helpers::anon_rmap_vma_is_copied_on_fork(self.0.as_ptr()) }
    }

    /// Makes it a VMA of the device, and of `family`.
    ///
    /// A mapping with `VM_SHARED` but without `VM_MAYSHARE` is private as far as the user can see, and leaves copy-on-write to
    /// the driver. That the device may be on a file system mounted `noexec` means nothing for what is in the memory.
    pub(super) fn set_up(&self, family: &Family) {
        let flags = (bindings::VM_SHARED | bindings::VM_MAYEXEC) as bindings::vm_flags_t;
        let vma = self.0.as_ptr();
        // INVARIANT: There is no private data.
        // SAFETY: By the invariant nobody else has the VMA. The family has a reference to the file.
        unsafe {
            (*vma).__bindgen_anon_2.vm_flags |= flags;
            bindings::vma_set_file(vma, family.file().as_ptr());
            ((*vma).vm_private_data, (*vma).vm_ops) = (ptr::null_mut(), ops::OPS.as_ptr());
        }
    }

    /// Gives it `state`, and the offset that belongs to that.
    pub(super) fn publish(&self, state: Arc<VmaState>, pgoff: usize) {
        self.set_pgoff(pgoff);
        if warn_on!(!self.is_for(&state)) {
            return;
        }
        // SAFETY: By the invariant the VMA is under construction; the rest was checked.
        unsafe { state.rmap.publish(self.0) };
        // SAFETY: By the invariant nobody else has the VMA.
        unsafe { (*self.0.as_ptr()).vm_private_data = state.into_foreign() };
    }

    /// Whether `state` was made for a VMA of this `mm_struct` and file, and is no other's yet.
    fn is_for(&self, state: &VmaState) -> bool {
        // SAFETY: By the invariant the VMA is valid.
        let file = unsafe { (*self.0.as_ptr()).vm_file };
        ptr::eq::<Mm>(&**self.0.mm(), state.mm_state.mm())
            && ptr::eq(file, state.rmap.family().file().as_ptr())
            && state.vma().is_null()
    }
}

/// Takes its state from a VMA that is closed; with the addresses that it covered. `None` if it had none.
///
/// # Safety
///
/// Must be called once as core mm calls `vm_operations_struct.close`, with its argument.
pub(super) unsafe fn closed(
    vma: *mut bindings::vm_area_struct,
) -> Option<(Range<usize>, Arc<VmaState>)> {
    // SAFETY: Core mm holds the mmap lock. Nobody else has the VMA any more.
    let (vma, private) = unsafe { (virt::VmaRef::from_raw(vma), &mut (*vma).vm_private_data) };
    let private = mem::replace(private, ptr::null_mut());
    // SAFETY: `publish` gave the VMA this reference, which is taken once.
    let state = unsafe { Arc::<VmaState>::try_from_foreign(private) }?;
    Some((range(vma), state))
}

/// A VMA of the device that has not been closed. It may not be locked, so what is asked of it can be something else right
/// afterwards, unless the caller knows of a lock.
///
/// # Invariants
///
/// The VMA is valid during `'a`.
pub(super) struct VmaOpen<'a>(NonNull<bindings::vm_area_struct>, PhantomData<&'a Vmas>);

impl<'a> VmaOpen<'a> {
    /// The VMA that has `state`, as long as the lock of the VMAs is held; `None` if it has been closed.
    pub(super) fn of(state: &'a VmaState, vmas: &'a Vmas) -> Option<Self> {
        let is_open = state.registration.access(vmas).place.is_some();
        // INVARIANT: `publish_locked` gave the state both its place and its VMA; `close` takes the place away under this lock,
        // before core mm frees the VMA.
        NonNull::new(state.vma())
            .filter(|_| is_open)
            .map(|vma| Self(vma, PhantomData))
    }

    /// The addresses that it covers. While core mm moves a border, one can be that of before, the other that of after.
    pub(super) fn range(&self) -> Range<usize> {
        // SAFETY: By the invariant the VMA is valid. The values can change meanwhile, so they are read once.
        unsafe {
            let range = &raw const (*self.0.as_ptr()).__bindgen_anon_1.__bindgen_anon_1;
            (&raw const (*range).vm_start).read_volatile()
                ..(&raw const (*range).vm_end).read_volatile()
        }
    }

    /// Whether it is locked for writing.
    pub(super) fn is_write_locked(&self) -> bool {
        // SAFETY: By the invariant the VMA is valid.
        unsafe { helpers::anon_rmap_vma_is_write_locked(self.0.as_ptr()) }
    }

    /// Whether `mseal()` keeps the content from being discarded.
    pub(super) fn is_sealed(&self) -> bool {
        // SAFETY: By the invariant the VMA is valid.
        unsafe { helpers::anon_rmap_vma_is_sealed(self.0.as_ptr()) }
    }
}

/// Whether core dumps are to have the private anonymous memory of the VMA's process, and this VMA of it.
pub(super) fn is_dumped_if_private(vma: &virt::VmaRef) -> bool {
    // SAFETY: By its invariant the VMA is locked.
    unsafe { helpers::anon_rmap_vma_is_dumped_if_private(vma.as_ptr()) }
}

fn range(vma: &virt::VmaRef) -> Range<usize> {
    vma.start()..vma.end()
}
