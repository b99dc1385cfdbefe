// SPDX-License-Identifier: GPL-2.0-only

//! A physical page of the driver, with its state.

use crate::{
    anon_vma::AnonVma,
    frame,
    helpers,
    index::Index,
    memory_failure::{
        copy,
        registry, //
    },
    pool::{
        device_memory::DeviceMemory,
        OwnedPage, //
    },
    quarantine,
    radix_tree::Slot,
    stats,
    wait::wake, //
};
use core::{
    fmt,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::Flags,
    bindings,
    new_mutex,
    page::{
        BorrowedPage,
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex,
        Refcount, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How a page has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// A drill: the content is intact, and unpoisoning gives it back.
    Simulated,
    /// A drill in which who has the page keeps it: it may be mapped, but not be read as a whole.
    Kept,
    /// The hardware has failed: the frame is never used again.
    Hardware,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Kept => "kept",
            Self::Hardware => "hardware",
        })
    }
}

/// The page of an anon and what may be done with it; guarded by the anon's lock.
///
/// # Invariants
///
/// The word is the address of a `struct page` that the content owns, with tags for the state in the
/// bits that its alignment leaves free. (One word, so that an anon takes 64 bytes.)
pub(crate) struct Content(usize);

impl Content {
    /// Tag for [`Poison::Simulated`].
    const SIMULATED: usize = 1;
    /// Tag for [`Poison::Hardware`].
    const HARDWARE: usize = 2;
    /// Both: a drill of the kernel's own, whose mark is undone with the poison.
    const KERNELS_DRILL: usize = Self::SIMULATED | Self::HARDWARE;
    const POISON: usize = Self::SIMULATED | Self::HARDWARE;
    /// Tag for a page that is being replaced, see [`Anon::begin_migration`].
    const MIGRATING: usize = 4;
    /// Tag for a page that was mapped for writing and has not been shared since, see
    /// [`Self::may_be_written`].
    const EXCLUSIVE: usize = 8;
    /// Tag for a page of which an entry was zapped that said it had been written (soft-dirty), for who maps it next.
    const SOFT_DIRTY: usize = 16;
    /// Tag for a page whose hardware has failed, so that it is about to be taken away.
    const FAILED: usize = 32;
    /// Tags for [`Poison::Kept`]. There are no other pages with these two: what is poisoned by the hardware is not tagged as failed.
    const KEPT: usize = Self::HARDWARE | Self::FAILED;
    /// All tags that say how the page has failed.
    const STATE: usize = Self::POISON | Self::FAILED;
    const TAGS: usize = Self::STATE | Self::MIGRATING | Self::EXCLUSIVE | Self::SOFT_DIRTY;

    fn new(page: OwnedPage) -> Self {
        // INVARIANT: The page is owned, and given back in `drop`.
        Self(page.into_raw().as_ptr() as usize)
    }

    fn raw_page(&self) -> NonNull<bindings::page> {
        // SAFETY: By the invariant this is the address of a page.
        unsafe { NonNull::new_unchecked((self.0 & !Self::TAGS) as *mut bindings::page) }
    }

    /// The page.
    pub(crate) fn page(&self) -> BorrowedPage<'_> {
        // SAFETY: By the invariant the page is valid as long as `self` is.
        unsafe { BorrowedPage::from_raw(self.raw_page()) }
    }

    /// How the page has failed; `None` if it is good.
    pub(crate) fn poison(&self) -> Option<Poison> {
        match (self.0 & Self::STATE, self.0 & Self::POISON) {
            (Self::KEPT, _) => Some(Poison::Kept),
            (_, 0) => None,
            (_, Self::HARDWARE) => Some(Poison::Hardware),
            _ => Some(Poison::Simulated),
        }
    }

    /// Whether the current task may map the page. For a core dump all of it would be read.
    pub(crate) fn may_be_mapped(&self) -> bool {
        // SAFETY: No requirements.
        let is_dumping = || unsafe { helpers::anon_rmap_is_dumping_core() };
        match self.poison() {
            None => !self.has_failed(),
            Some(Poison::Kept) => !self.has_failed() && !is_dumping(),
            Some(_) => false,
        }
    }

    /// Whether the page may be read as a whole, to copy or to move it.
    pub(crate) fn may_be_copied(&self) -> bool {
        self.poison().is_none() && !self.has_failed()
    }

    /// Whether no page table has the page any more, once its failure has been handled.
    pub(crate) fn is_taken_away(&self) -> bool {
        // What was kept until the hardware failed is still mapped.
        matches!(self.poison(), Some(Poison::Simulated | Poison::Hardware)) && !self.is_failing()
    }

    /// Whether the kernel has marked the page as bad.
    fn is_marked(&self) -> bool {
        // SAFETY: The page is valid as long as `self` is.
        unsafe { helpers::anon_rmap_page_hwpoison(self.page().as_ptr()) }
    }

    /// Whether the page is known to have failed, so that it must not be mapped or read although it may be poisoned later only.
    pub(crate) fn has_failed(&self) -> bool {
        self.is_failing() || self.is_marked()
    }

    /// Whether the hardware is known to have failed under the page, but nobody has taken it away yet.
    pub(crate) fn is_failing(&self) -> bool {
        self.0 & Self::FAILED != 0 && self.0 & Self::STATE != Self::KEPT
    }

    /// Notes that the hardware has failed, before the page is poisoned for that. One that was kept no longer is. Does not allocate.
    pub(crate) fn set_failed(&mut self) {
        match self.poison() {
            Some(Poison::Hardware) => (),
            Some(Poison::Kept) => self.set_state(Self::SIMULATED | Self::FAILED),
            // INVARIANT: Only tags change.
            Some(Poison::Simulated) | None => self.0 |= Self::FAILED,
        }
    }

    /// Replaces the tags that say how the page has failed.
    fn set_state(&mut self, state: usize) {
        // INVARIANT: Only tags change.
        self.0 = self.0 & !Self::STATE | state;
    }

    /// Sets or clears the poison. The caller zaps the mappings unless the page is kept, see [`crate::memory_failure`], and for a
    /// failure of the hardware has the frame [marked](Anon::mark) then.
    ///
    /// That of the hardware is final: no caller may replace it. Nor may one keep a page that [has failed](Self::has_failed).
    pub(crate) fn set_poison(&mut self, poison: Option<Poison>) {
        let failed = match self.is_failing() {
            true => Self::FAILED,
            false => 0,
        };
        self.set_state(match poison {
            None => failed,
            Some(Poison::Simulated) => Self::SIMULATED | failed,
            Some(Poison::Kept) => Self::KEPT,
            Some(Poison::Hardware) => Self::HARDWARE,
        });
    }

    /// Whether the page is poisoned by a drill of the kernel's own.
    pub(crate) fn is_kernels_drill(&self) -> bool {
        self.0 & Self::POISON == Self::KERNELS_DRILL
    }

    /// Takes the kernel's mark, if there is one, for that of the drill by which the page is poisoned, and the reference that belongs
    /// to it.
    pub(crate) fn take_mark(&mut self) {
        let is_new = self.0 & Self::POISON == Self::SIMULATED
            && self.is_marked()
            && DeviceMemory::get().is_none();
        if is_new {
            // INVARIANT: Only tags change.
            self.0 |= Self::KERNELS_DRILL;
            // SAFETY: The page is valid as long as `self` is.
            unsafe { helpers::anon_rmap_get_page(self.page().as_ptr()) };
        }
    }

    /// Why the frame stays out of use when the page goes; `None` if it does not.
    fn out_of_use(&self) -> Option<quarantine::Kind> {
        match self.poison() {
            Some(Poison::Hardware) => Some(quarantine::Kind::Hardware),
            _ if self.is_failing() => Some(quarantine::Kind::Hardware),
            _ => self.is_marked().then_some(quarantine::Kind::Software),
        }
    }

    /// Whether the page is about to be replaced by another, so that it must not be mapped now.
    pub(crate) fn is_migrating(&self) -> bool {
        self.0 & Self::MIGRATING != 0
    }

    /// Whether the only amap that holds the page may write to it, in a fault. To be asked under that
    /// amap's lock.
    ///
    /// Not if somebody else has a reference to the page (`vmsplice`, `O_DIRECT`) who may have got it
    /// when the page was shared, or was still empty: he would see what is written. Whoever has got one
    /// since the page is exclusive is to see it.
    ///
    /// # Safety
    ///
    /// `fault` must be valid.
    pub(crate) unsafe fn may_be_written(&self, fault: *const bindings::vm_fault) -> bool {
        let page = self.page().as_ptr();
        // SAFETY: The page is valid as long as `self` is, the caller promises that the fault is.
        self.is_exclusive() || !unsafe { helpers::anon_rmap_page_is_in_use(page, fault) }
    }

    /// Whether the page was mapped for writing and has not been shared since.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.0 & Self::EXCLUSIVE != 0
    }

    /// Notes that the page is mapped for writing, or is to be shared copy-on-write.
    pub(crate) fn set_exclusive(&mut self, exclusive: bool) {
        // INVARIANT: Only tags change.
        self.0 &= !Self::EXCLUSIVE;
        if exclusive {
            self.0 |= Self::EXCLUSIVE;
        }
    }

    /// Whether entries of the page have to say that it was written, as one that was zapped did.
    pub(crate) fn is_soft_dirty(&self) -> bool {
        self.0 & Self::SOFT_DIRTY != 0
    }

    /// Notes that an entry was zapped that said that the page was written. A process that has only read the page may be told that,
    /// too; that it was written is never missed.
    pub(crate) fn set_soft_dirty(&mut self) {
        // INVARIANT: Only tags change.
        self.0 |= Self::SOFT_DIRTY;
    }

    /// Notes that all entries say so that have to.
    pub(crate) fn clear_soft_dirty(&mut self) {
        // INVARIANT: Only tags change.
        self.0 &= !Self::SOFT_DIRTY;
    }

    /// Replaces the page by `page`, and returns the old one.
    fn replace(&mut self, page: OwnedPage) -> OwnedPage {
        let tags = self.0 & Self::TAGS;
        let old = self.raw_page();
        // INVARIANT: The new page is owned, and the old one is the caller's.
        self.0 = page.into_raw().as_ptr() as usize | tags;
        // SAFETY: The ownership was that of the content until now.
        unsafe { OwnedPage::from_raw(old) }
    }

    /// The page's frame number.
    pub(crate) fn pfn(&self) -> u64 {
        // SAFETY: The page is valid as long as `self` is.
        unsafe { helpers::anon_rmap_page_to_pfn(self.page().as_ptr()) as u64 }
    }

    /// The number of page table entries that map the page.
    pub(crate) fn mapcount(&self) -> u64 {
        // SAFETY: The page is valid as long as `self` is.
        unsafe { helpers::anon_rmap_page_mapcount(self.page().as_ptr()) as u64 }
    }

    /// Whether a device may be writing to the page or reading it (`FOLL_PIN`).
    ///
    /// May be wrong in the safe direction: an unpinned page can look pinned.
    pub(crate) fn maybe_dma_pinned(&self) -> bool {
        // SAFETY: The page is valid as long as `self` is.
        unsafe { helpers::anon_rmap_page_maybe_dma_pinned(self.page().as_ptr()) }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // Whoever has pinned the page holds a reference of its own.
        // SAFETY: By the invariant the content owns the page.
        let page = unsafe { OwnedPage::from_raw(self.raw_page()) };
        let Some(kind) = self.out_of_use() else {
            return;
        };
        let has_reference = self.poison() == Some(Poison::Hardware) || self.is_kernels_drill();
        if !self.is_marked() {
            // Nobody has had memory, or a place, to handle the failure.
            // SAFETY: The page is valid.
            unsafe { helpers::anon_rmap_page_set_hwpoison(page.borrow().as_ptr()) };
        }
        quarantine::keep(page, kind, has_reference);
    }
}

/// One physical page that the driver owns, shared copy-on-write between amaps.
///
/// The lock guards the state *and* the installation of page table entries for the page: an entry is
/// installed only under the lock and only when the page [may be mapped](Content::may_be_mapped). So whoever
/// has set a poison with which it may not, and then finds the mappings through the rmap, has found all of them.
///
/// # Invariants
///
/// * `frame` knows the content's page, and no other, as this anon's until the last reference goes.
/// * `shares` is the number of [`Share`]s.
#[pin_data]
pub(crate) struct Anon {
    refs: Refcount,
    shares: Atomic<i32>,
    #[pin]
    content: Mutex<Content>,
    anon_vma: Arc<AnonVma>,
    index: Index,
}

#[cfg(not(CONFIG_DEBUG_MUTEXES))]
static_assert!(size_of::<Anon>() <= 64);

/// Evidence of an anon's lock.
pub(crate) type AnonGuard<'a> = Guard<'a, Content, MutexBackend>;

impl Anon {
    /// A page filled with zeroes, at `index` of `anon_vma`, charged to the memory cgroup of the current
    /// process with `__GFP_ACCOUNT`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`ENOSPC`] if no device memory is left. May sleep if `flags` allow it.
    pub(crate) fn zeroed(anon_vma: Arc<AnonVma>, index: Index, flags: Flags) -> Result<ARef<Self>> {
        loop {
            let page = OwnedPage::alloc(flags | __GFP_ZERO)?;
            if let Some(anon) = Self::new(page, anon_vma.clone(), index, flags)? {
                return Ok(anon);
            }
        }
    }

    /// A copy of the page of `source`, at the same index of `anon_vma`.
    ///
    /// Nobody may write to `source` meanwhile, or the caller has to find out and drop the copy. Takes the
    /// lock of `source`.
    ///
    /// # Errors
    ///
    /// As for [`Self::zeroed`]; [`EHWPOISON`] if `source` is poisoned, or turns out to be while it is
    /// copied.
    pub(crate) fn copy_of(source: &Self, anon_vma: Arc<AnonVma>) -> Result<ARef<Self>> {
        loop {
            let page = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
            let content = source.lock();
            if !content.may_be_copied() {
                return Err(EHWPOISON);
            }
            let copied = copy_page(&page.borrow(), &content.page());
            let pfn = content.pfn();
            drop(content);
            copied.inspect_err(|_| copy::failed(source.into(), pfn))?;
            let flags = GFP_KERNEL_ACCOUNT;
            if let Some(anon) = Self::new(page, anon_vma.clone(), source.index, flags)? {
                stats::COPIES.inc();
                return Ok(anon);
            }
        }
    }

    /// An anon that owns `page`; `None` if the page has failed when it was nobody's yet. [`ENOMEM`].
    fn new(
        page: OwnedPage,
        anon_vma: Arc<AnonVma>,
        index: Index,
        flags: Flags,
    ) -> Result<Option<ARef<Self>>> {
        let raw = page.borrow().as_ptr();
        let anon = KBox::pin_init(
            pin_init!(Self {
                refs: Refcount::new(1),
                shares: Atomic::new(0),
                content <- new_mutex!(Content::new(page), "anon"),
                anon_vma,
                index,
            }),
            flags,
        )?;
        // SAFETY: The anon is not moved out of the pinned box: it is freed as one in `dec_ref`.
        let anon = NonNull::from(KBox::leak(unsafe { Pin::into_inner_unchecked(anon) }));
        // SAFETY: The anon owns the page, and calls `forget` in `dec_ref`, before it is freed.
        unsafe { frame::remember(raw, anon.as_ptr()) };
        stats::ANONS.inc();
        // SAFETY: `refs` started with one, which this reference takes over.
        let anon = unsafe { ARef::from_raw(anon) };
        // Whoever reports a failure from here on finds the anon.
        // SAFETY: The page is the anon's.
        Ok((!unsafe { helpers::anon_rmap_page_hwpoison(raw) }).then_some(anon))
    }

    /// Locks the anon. Sleeps. Comes after the lock of an amap, before that of an anon_vma.
    pub(crate) fn lock(&self) -> AnonGuard<'_> {
        self.content.lock()
    }

    /// Locks the anon if that is possible at once.
    pub(crate) fn try_lock(&self) -> Option<AnonGuard<'_>> {
        self.content.try_lock()
    }

    /// Makes faults wait, so that the page can be replaced once it has been unmapped. Ends when the
    /// result is dropped.
    ///
    /// # Errors
    ///
    /// * [`ENXIO`]: the page is not in frame `pfn` (any more).
    /// * [`EHWPOISON`]: it is poisoned.
    /// * [`EBUSY`]: it is being replaced already.
    pub(crate) fn begin_migration(&self, pfn: u64) -> Result<Migration<'_>> {
        let mut content = self.lock();
        if content.pfn() != pfn {
            return Err(ENXIO);
        }
        if content.poison().is_some() {
            return Err(EHWPOISON);
        }
        if content.is_migrating() {
            return Err(EBUSY);
        }
        // INVARIANT: Only tags change.
        content.0 |= Content::MIGRATING;
        Ok(Migration(self))
    }

    /// Has the frame marked as bad, with all that the kernel does then: the hardware has failed under the page, which is poisoned and
    /// mapped nowhere. With `was_drill`, it was poisoned by a drill of the kernel's own before. Sleeps; the caller must hold no lock.
    ///
    /// Meanwhile no lookup finds the anon.
    pub(crate) fn mark(&self, source: quarantine::Source, was_drill: bool) {
        let marking = quarantine::marking();
        let content = self.lock();
        if content.poison() != Some(Poison::Hardware) {
            return;
        }
        let (page, pfn) = (content.raw_page(), content.pfn());
        // The drill can have been undone right before the poison was set.
        let has_mark = was_drill && content.is_marked();
        drop(content);
        if has_mark {
            quarantine::add(pfn, quarantine::Kind::Hardware);
            return;
        }
        // SAFETY: Nobody replaces the page of an anon that is poisoned for good, and it stays as long as the anon does.
        let page = unsafe { BorrowedPage::from_raw(page) };
        // SAFETY: The page is this anon's, and remembered with it again.
        unsafe { frame::forget(page.as_ptr()) };
        quarantine::mark(&page, source, quarantine::Kind::Hardware, &marking);
        // SAFETY: As above.
        unsafe { frame::remember(page.as_ptr(), self) };
    }

    /// If the page is poisoned by a drill, and the kernel has marked it, takes that for one. Sleeps; the caller must hold no lock.
    pub(crate) fn take_mark(&self) {
        if !self.lock().is_marked() {
            return;
        }
        let _marking = quarantine::marking();
        let pfn = {
            let mut content = self.lock();
            content.take_mark();
            content.is_kernels_drill().then(|| content.pfn())
        };
        if let Some(pfn) = pfn {
            quarantine::add(pfn, quarantine::Kind::Software);
        }
    }

    /// Undoes what the kernel has done to the page in a drill of its own, if that is why it is poisoned. Sleeps; the caller must hold no
    /// lock.
    ///
    /// # Errors
    ///
    /// Those of [`quarantine::unmark`].
    pub(crate) fn unmark(&self) -> Result {
        /// How often a page that is in use is looked at again: who has just marked it may still be unmapping it.
        const ATTEMPTS: usize = 20;

        for _ in 0..ATTEMPTS {
            {
                let marking = quarantine::marking();
                let page = {
                    let content = self.lock();
                    if !content.is_kernels_drill() {
                        return Ok(());
                    }
                    content.raw_page()
                };
                // SAFETY: Nobody replaces the page of an anon that is poisoned, and it stays as long as the anon does.
                let page = unsafe { BorrowedPage::from_raw(page) };
                match quarantine::unmark(&page, &marking) {
                    Ok(()) => {
                        let mut content = self.lock();
                        // Else the hardware has failed meanwhile: who says so has the frame marked, too.
                        if content.is_kernels_drill() {
                            // INVARIANT: Only tags change.
                            content.0 &= !Content::HARDWARE;
                        }
                        return Ok(());
                    }
                    Err(error) if error != EBUSY => return Err(error),
                    Err(_) => (),
                }
            }
            fsleep(Delta::from_millis(1));
        }
        Err(EBUSY)
    }

    /// Where the mappings of this page can be found.
    pub(crate) fn anon_vma(&self) -> &Arc<AnonVma> {
        &self.anon_vma
    }

    /// The page's index.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Takes a reference to `anon`, unless its last one has gone already.
    ///
    /// # Safety
    ///
    /// `anon` must point to an anon whose memory is not freed during the call.
    pub(crate) unsafe fn get_not_zero(anon: *const Self) -> Option<ARef<Self>> {
        // SAFETY: The caller promises that the memory is that of an anon.
        let refs = unsafe { &(*anon).refs };
        // SAFETY: `Refcount` wraps a `refcount_t`, and this one is live.
        if !unsafe { helpers::anon_rmap_refcount_inc_not_zero(ptr::from_ref(refs).cast()) } {
            return None;
        }
        // SAFETY: We have just taken the reference.
        Some(unsafe { ARef::from_raw(NonNull::new_unchecked(anon.cast_mut())) })
    }
}

// SAFETY: `inc_ref` increments `refs`, and the anon is freed only when `refs` drops to zero.
unsafe impl AlwaysRefCounted for Anon {
    fn inc_ref(&self) {
        self.refs.inc();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference, so the anon is live until here.
        let this = unsafe { obj.as_ref() };
        if !this.refs.dec_and_test() {
            return;
        }
        {
            let content = this.content.lock();
            if content.poison().is_some() {
                registry::remove(content.pfn());
            }
            // SAFETY: The page is this anon's.
            unsafe { frame::forget(content.page().as_ptr()) };
        }
        stats::ANONS.dec();
        // SAFETY: The last reference has gone, and `forget` ended the lookups, so the box that was
        // leaked in `new` is ours again. It stays pinned until it is dropped.
        drop(unsafe { Pin::new_unchecked(KBox::from_raw(obj.as_ptr())) });
    }
}

/// The replacement of an anon's page by another, while no fault maps it.
///
/// # Invariants
///
/// The content is tagged as migrating until this is dropped, and nobody else replaces its page.
pub(crate) struct Migration<'a>(&'a Anon);

impl Migration<'_> {
    /// Moves the content, and what it is charged to, to the page `to`. Returns the old one, which is nobody's then.
    ///
    /// # Errors
    ///
    /// * [`EBUSY`]: the page is in use: it is pinned, or has not been unmapped everywhere.
    /// * [`EHWPOISON`]: it has been poisoned meanwhile, or fails now.
    /// * [`ENOMEM`]: `to` has failed.
    ///
    /// `to` is given back then.
    pub(crate) fn move_to(&self, to: OwnedPage) -> Result<OwnedPage, (Error, OwnedPage)> {
        let mut content = self.0.lock();
        if !content.may_be_copied() {
            return Err((EHWPOISON, to));
        }
        // Whoever maps or pins the page has a reference, and one who has unmapped it keeps his until
        // no TLB has it any more. So if ours is the only one, nobody can write to it.
        let from = content.page().as_ptr();
        // SAFETY: The page is the anon's.
        if !unsafe { helpers::anon_rmap_page_freeze(from) } {
            return Err((EBUSY, to));
        }
        let copied = copy_page(&to.borrow(), &content.page());
        // SAFETY: Undoes the above.
        unsafe { helpers::anon_rmap_page_unfreeze(from) };
        if let Err(error) = copied {
            let pfn = content.pfn();
            drop(content);
            copy::failed(self.0.into(), pfn);
            return Err((error, to));
        }
        let new = to.borrow().as_ptr();
        // SAFETY: Both are pages of ours, the new one with no charge of its own. The anon owns it from
        // here on, and forgets it in `dec_ref`, unless it turns out to be bad. As in `Anon::new`, whoever
        // reports that later finds the anon.
        unsafe {
            frame::remember(new, self.0);
            if helpers::anon_rmap_page_hwpoison(new) {
                frame::forget(new);
                return Err((ENOMEM, to));
            }
            helpers::anon_rmap_page_move_charge(from, new);
            frame::forget(from);
        }
        Ok(content.replace(to))
    }

    /// Makes core mm give up references that it only keeps for later: for pages locked in memory
    /// (`mlock`) it collects what is to be done. Sleeps.
    pub(crate) fn shake(&self) {
        let page = self.0.lock().page().as_ptr();
        // SAFETY: The page is the anon's, which nobody else replaces meanwhile.
        unsafe { helpers::anon_rmap_page_shake(page) };
    }
}

impl Drop for Migration<'_> {
    fn drop(&mut self) {
        // INVARIANT: Only tags change.
        self.0.lock().0 &= !Content::MIGRATING;
        wake(self.0);
    }
}

/// A reference to an anon held by a slot of an amap.
///
/// The number of shares says whether the page is copy-on-write; other references (a walk, an
/// injection) do not make it so.
pub(crate) struct Share(ARef<Anon>);

impl Share {
    /// Makes `anon` shared by one amap more.
    pub(crate) fn new(anon: ARef<Anon>) -> Self {
        anon.shares.fetch_add(1, Relaxed);
        Self(anon)
    }

    /// Whether no other slot holds the anon.
    fn is_only(&self) -> bool {
        self.0.shares.load(Acquire) == 1
    }

    /// Whether this is a share of `anon`.
    pub(crate) fn is(&self, anon: &Anon) -> bool {
        ptr::eq::<Anon>(&*self.0, anon)
    }

    /// A reference for use without the amap's lock.
    pub(crate) fn anon(&self) -> ARef<Anon> {
        self.0.clone()
    }
}

impl Slot<'_, Share> {
    /// Whether nobody else can reach the page through an amap. To be asked under the amap's lock.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.unshared && self.value.is_only()
    }
}

impl Deref for Share {
    type Target = Anon;

    fn deref(&self) -> &Anon {
        &self.0
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A process that finds itself alone may write: what the others have read comes before.
        self.0.shares.fetch_sub(1, Release);
    }
}

/// Copies `from` to `to`; a hardware error in `from` is an error here, not a crash.
fn copy_page(to: &Page, from: &Page) -> Result {
    // SAFETY: Both pages are valid; the mappings are undone below in reverse order.
    let source = unsafe { bindings::kmap_local_page(from.as_ptr()) };
    // SAFETY: As above.
    let target = unsafe { bindings::kmap_local_page(to.as_ptr()) };
    // SAFETY: Both are mappings of a whole page; `to` is new, so nobody else reads it. User space
    // may write to `from` only through a mapping, which the caller excludes.
    let left = unsafe { bindings::copy_mc_to_kernel(target, source, PAGE_SIZE as u32) };
    // SAFETY: `target` was mapped last.
    unsafe { bindings::kunmap_local(target) };
    // SAFETY: `source` was mapped before.
    unsafe { bindings::kunmap_local(source) };
    if left == 0 {
        Ok(())
    } else {
        Err(EHWPOISON)
    }
}
