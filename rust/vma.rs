// SPDX-License-Identifier: GPL-2.0

//! The driver's state of one VMA, from `mmap` to `close`.
//!
//! Core mm has no hook for merging two VMAs or shifting their common border. It does neither if their
//! `vm_pgoff` do not continue each other, so each VMA of an address space gets a range of `vm_pgoff`
//! of its own (see [`next_pgoff`]), which means nothing else.

use crate::{
    address_space::{
        pages,
        Subscription,
        Vmas, //
    },
    amap::{
        Amap,
        Sharing,
        Slots, //
    },
    anon_vma::{
        AnonVma,
        CopyReservation,
        LinkReservation,
        Links, //
    },
    helpers,
    index::{
        Base,
        Index, //
    },
    interval_tree::{
        Interval,
        Linked,
        Reserved, //
    },
    stats,
    vm_ops, //
};
use core::ptr;
use kernel::{
    bindings,
    mm::{
        virt::VmaNew,
        MmapReadGuard, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        LockedBy, //
    },
    types::ForeignOwnable, //
};

mod fork;
mod mremap;

/// The driver's state of one VMA; the VMA's `vm_private_data` owns a reference.
///
/// A VMA of the device without state is one for which a hook that cannot fail found no memory: each
/// access to it gets a SIGBUS.
pub(crate) struct VmaState {
    /// The VMA; null until it has been published. Valid under the mmap lock while the state is
    /// registered.
    vma: Atomic<*mut bindings::vm_area_struct>,
    space: Subscription,
    amap: Arc<Amap>,
    base: Base,
    /// How far the rmap knows the VMA to reach: the VMA can have grown since.
    known_end: Atomic<usize>,
    /// The links into interval trees.
    links: LockedBy<Option<Links>, Slots>,
    registration: LockedBy<Registration, Vmas>,
}

/// What the lock of the address space guards of a VMA's state.
#[derive(Default)]
struct Registration {
    /// The place among the VMAs of the address space.
    place: Option<Linked<Arc<VmaState>>>,
    /// What the next split will need.
    spare: Option<Unpublished>,
    /// The VMA from which mremap is moving pages here.
    source: Option<Arc<VmaState>>,
}

// SAFETY: The VMA pointer is followed only under the mmap lock; all else is `Send`.
unsafe impl Send for VmaState {}
// SAFETY: As above; what can change is atomic or `LockedBy` a lock.
unsafe impl Sync for VmaState {}

/// A state with all the memory that it takes to publish it, which therefore cannot fail.
struct Unpublished {
    state: Arc<VmaState>,
    place: Reserved<Arc<VmaState>>,
    links: CopyReservation,
}

impl Unpublished {
    /// Reserves a state with up to `links` links; [`ENOMEM`].
    fn new(space: Subscription, amap: Arc<Amap>, base: Base, links: usize) -> Result<Self> {
        let links = CopyReservation::new(space.mm(), base, links)?;
        let state = Arc::new(
            VmaState {
                vma: Atomic::new(ptr::null_mut()),
                known_end: Atomic::new(0),
                links: LockedBy::new(amap.slots(), None),
                registration: LockedBy::new(space.vmas(), Registration::default()),
                space,
                amap,
                base,
            },
            GFP_KERNEL,
        )?;
        let place = Reserved::new(state.clone(), GFP_KERNEL)?;
        Ok(Self {
            state,
            place,
            links,
        })
    }
}

/// The range of addresses of a VMA.
///
/// # Safety
///
/// `vma` must be valid and locked, at least for reading.
unsafe fn range(vma: *const bindings::vm_area_struct) -> (usize, usize) {
    // SAFETY: The caller promises that the VMA can be read.
    unsafe {
        let range = &raw const (*vma).__bindgen_anon_1.__bindgen_anon_1;
        ((*range).vm_start, (*range).vm_end)
    }
}

/// The first `vm_pgoff` of a range that no other VMA has.
///
/// The ranges are as large as the address space, so a VMA can grow in its own as far as it likes, and
/// two VMAs' ranges never continue each other, not even when the numbers have been used up.
fn next_pgoff() -> usize {
    /// log2 of the pages in an address space.
    const RANGE_SHIFT: u32 = 36;
    const RANGES: i64 = 1 << (i64::BITS - 1 - RANGE_SHIFT);
    static NEXT: Atomic<i64> = Atomic::new(0);

    ((NEXT.fetch_add(1, Relaxed) % RANGES) as usize) << RANGE_SHIFT
}

impl VmaState {
    /// The state of a VMA of the device; `None` if it is somebody else's VMA, or has lost its state.
    ///
    /// # Safety
    ///
    /// `vma` must be valid, and locked at least for reading, during `'a`.
    pub(crate) unsafe fn of<'a>(
        vma: *const bindings::vm_area_struct,
    ) -> Option<ArcBorrow<'a, Self>> {
        // SAFETY: The caller promises that the VMA can be read.
        let (ops, private) = unsafe { ((*vma).vm_ops, (*vma).vm_private_data) };
        if !ptr::eq(ops, vm_ops::OPS.as_ptr()) || private.is_null() {
            return None;
        }
        // SAFETY: With our operations, private data that is not null comes from `publish`; `close`
        // takes it only from a VMA that nobody has locked.
        Some(unsafe { Arc::<Self>::borrow(private) })
    }

    /// What the VMA holds.
    pub(crate) fn amap(&self) -> &Amap {
        &self.amap
    }

    /// Where the VMA puts its indices.
    pub(crate) fn base(&self) -> Base {
        self.base
    }

    /// The addresses that the VMA covers; `None` if it has been closed.
    pub(crate) fn range(&self, _mmap_lock: &MmapReadGuard<'_>) -> Option<(usize, usize)> {
        let vmas = self.space.vmas().lock();
        let open = self.registration.access(&vmas).place.is_some();
        // SAFETY: `close` takes the place away under this lock, before the VMA is freed.
        open.then(|| unsafe { range(self.vma()) })
    }

    /// Whether somebody is changing the VMA itself: a split, mremap, fork.
    ///
    /// The answer stays the same as long as the current task holds the VMA's lock or the mmap lock.
    pub(crate) fn is_write_locked(&self, _vmas: &Vmas) -> bool {
        // SAFETY: The caller has the state from the VMAs of the address space, and holds their lock:
        // `close` takes it away from there before the VMA is freed.
        unsafe { helpers::anon_rmap_vma_is_write_locked(self.vma()) }
    }

    /// The VMA; null if it has not been published. Valid until it is closed.
    fn vma(&self) -> *mut bindings::vm_area_struct {
        self.vma.load(Relaxed)
    }

    /// The links into interval trees; `None` once the VMA is closed. Guarded by the amap's lock.
    pub(crate) fn links<'a>(&'a self, slots: &'a Slots) -> Option<&'a Links> {
        self.links.access(slots).as_ref()
    }

    /// As [`Self::links`], to link.
    pub(crate) fn links_mut<'a>(&'a self, slots: &'a mut Slots) -> Option<&'a mut Links> {
        self.links.access_mut(slots).as_mut()
    }

    /// Reserves one link for a VMA that has `links` of them; [`ENOMEM`].
    pub(crate) fn reserve_link(&self, links: usize) -> Result<LinkReservation> {
        LinkReservation::new(self.space.mm(), self.base, links)
    }

    /// Lets the rmap know how far the VMA reaches by now: mremap can grow a VMA in place, for which
    /// there is no hook. Must be called before anything is mapped.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the VMA is not one.
    ///
    /// # Safety
    ///
    /// `vma` must be the VMA of this state, locked at least for reading.
    pub(crate) unsafe fn follow_growth(&self, vma: *const bindings::vm_area_struct) -> Result {
        // SAFETY: The caller holds the lock.
        let (start, end) = unsafe { range(vma) };
        if self.known_end.load(Relaxed) >= end {
            return Ok(());
        }
        self.resize(start, end)
    }

    /// Makes `[start, end)` what the rmap and the address space know of the VMA.
    fn resize(&self, start: usize, end: usize) -> Result {
        let indices = self.base.interval(start, end)?;
        let pages = pages(start, end)?;
        {
            let mut vmas = self.space.vmas().lock();
            self.reindex(&mut vmas, pages);
        }
        let mut slots = self.amap.lock();
        if let Some(links) = self.links_mut(&mut slots) {
            links.resize(indices);
        }
        self.known_end.store(end, Relaxed);
        Ok(())
    }

    /// Makes `pages` what the address space knows of the VMA.
    fn reindex(&self, vmas: &mut Vmas, pages: Interval) {
        let place = self.registration.access_mut(vmas).place.take();
        if let Some(place) = &place {
            // The place is one in this tree.
            let _ = vmas.by_page.update(place, pages);
        }
        self.registration.access_mut(vmas).place = place;
    }

    /// Gives `vma`, which covers `pages`, the state with `links`. Cannot fail. `source` is the VMA from
    /// which pages are to be moved here.
    ///
    /// # Safety
    ///
    /// `vma` must be a VMA of the device under construction, with no private data.
    unsafe fn publish(
        unpublished: Unpublished,
        vma: *mut bindings::vm_area_struct,
        pages: Interval,
        links: Links,
        source: Option<Arc<VmaState>>,
    ) {
        let Unpublished { state, place, .. } = unpublished;
        // SAFETY: The VMA is valid.
        let (_, end) = unsafe { range(vma) };
        state.vma.store(vma, Relaxed);
        state.known_end.store(end, Relaxed);
        *state.links.access_mut(&mut state.amap.lock()) = Some(links);
        let _surplus = {
            let mut vmas = state.space.vmas().lock();
            let (place, surplus) = vmas.by_page.insert(place, pages);
            let registration = state.registration.access_mut(&mut vmas);
            registration.place = Some(place);
            registration.source = source;
            surplus
        };
        stats::VMAS.inc();
        // SAFETY: The VMA is ours to set up.
        unsafe { (*vma).vm_private_data = state.into_foreign() };
    }

    /// Sets up a new mapping of the device.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn mmap(vma: &VmaNew) -> Result {
        let shared = vma.flags() & bindings::VM_SHARED as bindings::vm_flags_t != 0;
        let sharing = if shared {
            Sharing::Shared
        } else {
            Sharing::Private
        };
        let base = Base::placing(Index(0), vma.start());
        let indices = base.interval(vma.start(), vma.end())?;
        let pages = pages(vma.start(), vma.end())?;

        // SAFETY: `mmap` is called with the mmap lock held for writing.
        let space = unsafe { Subscription::new_uninterruptible(vma.mm().as_raw()) }?;
        let amap = Amap::new(sharing, AnonVma::new()?)?;
        let unpublished = Unpublished::new(space, amap, base, 0)?;
        let vma = vma.as_ptr();
        // SAFETY: The VMA is under construction, so it is ours to set up. A mapping with `VM_SHARED`
        // but without `VM_MAYSHARE` is private as far as the user can see, and leaves copy-on-write
        // to the driver. That the device may be on a file system mounted `noexec` means nothing for
        // what is in the memory.
        unsafe {
            (*vma).__bindgen_anon_2.vm_flags |=
                (bindings::VM_SHARED | bindings::VM_MAYEXEC) as bindings::vm_flags_t;
            (*vma).vm_pgoff = next_pgoff();
            (*vma).vm_ops = vm_ops::OPS.as_ptr();
            Self::publish(unpublished, vma, pages, Links::new(indices), None);
        }
        Ok(())
    }

    /// Reserves what [`Self::open`] will need if the VMA is split.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`EINVAL`] if mremap is to duplicate the VMA instead of moving it.
    ///
    /// # Safety
    ///
    /// The caller must hold the mmap lock for writing.
    pub(crate) unsafe fn may_split(&self) -> Result {
        let (mut address, mut len) = (0, 0);
        // With an old length of 0 it duplicates a shared mapping; ours only look like one to core mm. For
        // anonymous memory it is refused.
        // SAFETY: Both pointers are valid for writes.
        if unsafe { helpers::anon_rmap_current_mremap(&mut address, &mut len) } && len == 0 {
            // SAFETY: The caller holds the lock.
            let (start, end) = unsafe { range(self.vma()) };
            // Else it is another mapping that is to replace a part of this one.
            if start <= address && address < end {
                return Err(EINVAL);
            }
        }

        // Threads may be in a fault, with only the VMA's lock, and link it to more. Core mm waits for
        // them too, but later.
        // SAFETY: The caller holds the lock.
        unsafe { helpers::anon_rmap_vma_start_write(self.vma()) };
        let links = self.links(&self.amap.lock()).map_or(0, Links::len);
        // SAFETY: The caller holds the lock.
        let space = unsafe { Subscription::new(self.space.mm().as_raw()) }?;
        let spare = Unpublished::new(space, self.amap.clone(), self.base, links)?;
        let old = self
            .registration
            .access_mut(&mut self.space.vmas().lock())
            .spare
            .replace(spare);
        drop(old);
        Ok(())
    }

    /// Gives a VMA that core mm has copied a state of its own: for a split, fork or mremap.
    ///
    /// If that fails the VMA has none. What the copy was to take over is lost with it, and nothing
    /// maps it any more.
    ///
    /// # Safety
    ///
    /// Must be called as core mm calls `vm_operations_struct.open`.
    pub(crate) unsafe fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The VMA is a copy of one of ours, which is locked.
        let Some(source) = (unsafe { Self::of(vma) }) else {
            return;
        };
        // The copied pointer owns no reference.
        // SAFETY: The VMA is under construction.
        unsafe { (*vma).vm_private_data = ptr::null_mut() };
        // SAFETY: As above; `source` has not been closed, so its VMA is valid.
        let (mm, (start, end), (source_start, source_end)) =
            unsafe { ((*vma).vm_mm, range(vma), range(source.vma())) };

        let result = if !ptr::eq(mm, source.space.mm().as_raw()) {
            // SAFETY: `vma` is being copied to another address space.
            unsafe { source.fork(vma) }
        } else {
            // SAFETY: The VMA is under construction, and the mmap lock is held for writing.
            let delta = unsafe {
                let delta = (*vma).vm_pgoff.wrapping_sub((*source.vma()).vm_pgoff);
                (*vma).vm_pgoff = next_pgoff();
                delta
            };
            if source_start <= start && end <= source_end {
                // SAFETY: `vma` is a part of the source.
                unsafe { source.split(vma) }
            } else {
                // SAFETY: `vma` is elsewhere, so it is to get pages moved.
                unsafe { Self::begin_move(source, vma, delta) }
            }
        };
        if result.is_err() {
            kernel::pr_warn_once!("out of memory: a mapping has been lost\n");
        }
    }

    /// Makes `vma` a part of this VMA.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if [`Self::may_split`] was not called before.
    ///
    /// # Safety
    ///
    /// `vma` must be a VMA under construction, the mmap lock held for writing.
    unsafe fn split(&self, vma: *mut bindings::vm_area_struct) -> Result {
        // SAFETY: Both VMAs are locked for writing.
        let ((start, end), (source_start, source_end)) = unsafe { (range(vma), range(self.vma())) };
        let (rest_start, rest_end) = if start == source_start {
            (end, source_end)
        } else {
            (source_start, start)
        };
        let new_indices = self.base.interval(start, end)?;
        let rest_indices = self.base.interval(rest_start, rest_end)?;

        let spare = self
            .registration
            .access_mut(&mut self.space.vmas().lock())
            .spare
            .take();
        let mut unpublished = spare.ok_or(ENOMEM)?;
        let reservation = core::mem::take(&mut unpublished.links);
        {
            let mut vmas = self.space.vmas().lock();
            self.reindex(&mut vmas, pages(rest_start, rest_end)?);
        }
        let links = {
            let mut slots = self.amap.lock();
            self.known_end.store(rest_end, Relaxed);
            self.links_mut(&mut slots)
                .ok_or(EINVAL)?
                .split_off(new_indices, rest_indices, reservation)
                .map_err(|_| ENOMEM)?
        };
        // SAFETY: The VMA is under construction.
        unsafe { Self::publish(unpublished, vma, pages(start, end)?, links, None) };
        Ok(())
    }

    /// Ends the VMA's part in everything; its page table entries are gone.
    ///
    /// # Safety
    ///
    /// Must be called as core mm calls `vm_operations_struct.close`.
    pub(crate) unsafe fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The VMA is one of ours, and nobody else has it any more.
        let (private, (start, end)) = unsafe { ((*vma).vm_private_data, range(vma)) };
        if private.is_null() {
            return;
        }
        // SAFETY: `publish` gave the VMA this reference, which is taken once.
        let state = unsafe {
            (*vma).vm_private_data = ptr::null_mut();
            Arc::<Self>::from_foreign(private)
        };

        let (_place, _registration, _last_fork) = {
            let mut vmas = state.space.vmas().lock();
            let mut registration = core::mem::take(state.registration.access_mut(&mut vmas));
            let place = registration
                .place
                .take()
                .map(|place| vmas.by_page.remove(place));
            (place, registration, vmas.forget_fork_if_empty())
        };
        let _links = state.links.access_mut(&mut state.amap.lock()).take();
        if state.amap.sharing() == Sharing::Private {
            if let Ok(indices) = state.base.interval(start, end) {
                if state.amap.remove_range(indices).is_err() {
                    state.amap.lock().lost = true;
                }
            }
        }
        stats::VMAS.dec();
    }
}
