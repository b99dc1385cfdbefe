// SPDX-License-Identifier: GPL-2.0-only

//! The page of an anon, and what may be done with it.

use crate::{
    anon_vma::family::Family,
    failure::Poison,
    loading::Loading,
    page::{
        OwnedPage,
        Page, //
    },
    poisoned,
    pool::{
        device_memory::DeviceMemory,
        frame,
        quarantine, //
    },
    process,
    stats,
    vm_fault::Vmf, //
    word_mutex::{
        WordMutex,
        WordMutexGuard, //
    },
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    new_spinlock,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        global_lock,
        Arc,
        ArcBorrow,
        SpinLock, //
    }, //
};

/// The page of an anon and what may be done with it; guarded by the anon's lock.
///
/// # Invariants
///
/// The word is the address of a page to which the content owns a reference, with tags for the state in the
/// bits that its alignment leaves free. (One word, so that an anon is small.)
///
/// All addresses of the kernel have the two highest bits. Without the second one, the page is that of several anons. Without the
/// highest one, it is the address of what the anon has in common with others, with a reference to that: then all else is
/// [there](Merged::lock), and nothing here is asked for. Or it is 0, while that changes.
pub(crate) struct Content(usize);

impl Content {
    /// The highest bit.
    const IS_PAGE: usize = 1 << (usize::BITS - 1);
    /// The second one.
    const IS_OWN: usize = 1 << (usize::BITS - 2);
    /// Tag for [`Poison::Simulated`].
    const SIMULATED: usize = 1;
    /// Tag for [`Poison::Hardware`].
    const HARDWARE: usize = 2;
    /// Both: a drill of the kernel's own, whose mark is undone with the poison.
    const KERNELS_DRILL: usize = Self::SIMULATED | Self::HARDWARE;
    const POISON: usize = Self::SIMULATED | Self::HARDWARE;
    /// Tag for a page that is being replaced, see [`Anon::begin_migration`](super::Anon::begin_migration).
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
    /// So much of an address is 0: all `struct page`s are in one array, which begins with a page.
    const ALIGNMENT: () = assert!(size_of::<bindings::page>() % (Self::TAGS + 1) == 0);

    pub(super) fn new(page: OwnedPage) -> Self {
        const { Self::ALIGNMENT };
        // INVARIANT: The reference is owned, and given back in `drop`.
        Self(OwnedPage::into_raw(page).as_ptr() as usize)
    }

    /// What the anon has in common with others, if it has joined them.
    pub(super) fn merged(&self) -> Option<ArcBorrow<'_, Merged>> {
        if self.0 & Self::IS_PAGE != 0 {
            return None;
        }
        let merged = (self.0 | Self::IS_PAGE) as *const Merged;
        // SAFETY: By the invariant this is what `into_raw` has returned, and the reference is there as long as `self` is.
        (self.0 != 0).then(|| unsafe { ArcBorrow::from_raw(merged) })
    }

    /// Takes the page out, for others to share it. To be followed by [`Self::join`].
    pub(super) fn take_as_shared(&mut self) -> Self {
        // INVARIANT: The reference goes with the word.
        let content = Self(self.0 & !(Self::MIGRATING | Self::EXCLUSIVE | Self::IS_OWN));
        self.0 = 0;
        content
    }

    /// Has all in common with others from now on.
    pub(super) fn join(&mut self, merged: Arc<Merged>) {
        // INVARIANT: The reference is kept, and given back in `drop`; there was nothing before.
        self.0 = Arc::into_raw(merged) as usize & !Self::IS_PAGE;
    }

    /// The page.
    pub(crate) fn page(&self) -> &Page {
        debug_assert!(
            self.0 & Self::IS_PAGE != 0,
            "what is in common is elsewhere"
        );
        // SAFETY: By the invariant this is the address of a page, which is there as long as `self` is.
        unsafe { &*((self.0 & !Self::TAGS | Self::IS_OWN) as *const Page) }
    }

    /// Whether the page is that of several anons, so that nobody may write to it.
    pub(crate) fn is_common(&self) -> bool {
        self.0 & Self::IS_OWN == 0
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
        match self.poison() {
            None => !self.has_failed(),
            Some(Poison::Kept) => !self.has_failed() && !process::is_dumping_core(),
            Some(_) => false,
        }
    }

    /// Whether the current task may map the page without having asked for it.
    pub(crate) fn may_be_mapped_around(&self) -> bool {
        self.may_be_mapped() && !self.is_migrating() && !self.is_soft_dirty()
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
    pub(crate) fn is_marked(&self) -> bool {
        self.page().is_marked()
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
    /// failure of the hardware has the frame [marked](super::Anon::mark) then.
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

    /// Notes that the kernel has undone its part of a drill of its own: what is left is one like all others.
    pub(super) fn end_kernels_drill(&mut self) {
        if self.is_kernels_drill() {
            // INVARIANT: Only tags change.
            self.0 &= !Self::HARDWARE;
        }
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
            OwnedPage::into_raw(self.page().into());
        }
    }

    /// Whether the page has failed for good.
    pub(super) fn has_failed_for_good(&self) -> bool {
        self.poison() == Some(Poison::Hardware) || self.is_failing()
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

    /// Notes that the page is about to be replaced, or no longer.
    pub(super) fn set_migrating(&mut self, migrating: bool) {
        // INVARIANT: Only tags change.
        self.0 &= !Self::MIGRATING;
        if migrating {
            self.0 |= Self::MIGRATING;
        }
    }

    /// Whether the only amap that holds the page may write to it, in a fault. To be asked under that
    /// amap's lock.
    ///
    /// Not if somebody else has a reference to the page (`vmsplice`, `O_DIRECT`) who may have got it
    /// when the page was shared, or was still empty: that one would see what is written. Whoever has got one
    /// since the page is exclusive is to see it.
    pub(crate) fn may_be_written(&self, vmf: &Vmf<'_>) -> bool {
        self.is_exclusive() || !self.is_common() && !vmf.is_page_in_use(self.page())
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
    pub(super) fn replace(&mut self, page: OwnedPage) -> OwnedPage {
        let old = NonNull::from(self.page());
        // The reference to the new page is owned, and that to the old one is the caller's.
        let page = OwnedPage::into_raw(page).as_ptr() as usize;
        // INVARIANT: All else stays.
        self.0 = page & (self.0 | !Self::IS_OWN) | self.0 & Self::TAGS;
        // SAFETY: The reference was that of the content until now.
        unsafe { OwnedPage::from_raw(old) }
    }

    /// Whether somebody has a reference to the page besides the content and page tables, for now.
    pub(crate) fn is_in_use(&self) -> bool {
        let page = self.page();
        page.count() as u64 > 1 + page.mapcount()
    }

    /// [`EBUSY`] if somebody besides the content has a reference to the page, or it has failed. Else nobody can write to a page that is
    /// mapped nowhere: who has found it in a page table (`get_user_pages_fast()`) takes a reference, and looks there again.
    pub(super) fn check_unused(&self) -> Result {
        if !self.may_be_copied() {
            return Err(EBUSY);
        }
        // Pairs with that reference being taken before: the page has been taken out of the page tables.
        frame::smp_mb();
        if self.page().count() != 1 {
            return Err(EBUSY);
        }
        // Pairs with one being given back: what was written with it is seen.
        frame::smp_mb();
        Ok(())
    }

    /// The page's frame number.
    pub(crate) fn pfn(&self) -> u64 {
        self.page().pfn()
    }

    /// The number of page table entries that map the page.
    pub(crate) fn mapcount(&self) -> u64 {
        self.page().mapcount()
    }

    /// Whether a device may be writing to the page or reading it (`FOLL_PIN`).
    ///
    /// May be wrong in the safe direction: an unpinned page can look pinned.
    pub(crate) fn maybe_dma_pinned(&self) -> bool {
        self.page().maybe_dma_pinned()
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if self.0 & Self::IS_PAGE == 0 {
            if let Some(merged) = self.merged() {
                // SAFETY: By the invariant there is a reference, which is given up here.
                drop(unsafe { Arc::from_raw(ptr::from_ref(&*merged)) });
            }
            return;
        }
        // Whoever has pinned the page holds a reference of its own.
        // SAFETY: By the invariant the content owns the reference.
        let page = unsafe { OwnedPage::from_raw(NonNull::from(self.page())) };
        // Not before the mark has a reference.
        let guard = page.take_guard();
        if let Some(kind) = self.out_of_use() {
            let mut has_reference =
                self.poison() == Some(Poison::Hardware) || self.is_kernels_drill();
            if !self.is_marked() {
                // Nobody has had memory, or a place, to handle the failure.
                quarantine::mark_at_once(&page);
                has_reference = true;
            }
            quarantine::keep(page, kind, has_reference);
        }
        drop(guard);
    }
}

/// What is the same for pages that may share a frame: a hash of the content, and the family, or 0 if that does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    hash: u64,
    family: usize,
}

/// Where a frame is in the order of all: by its key; of those with the same one, the last one that was made comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(Key, u64);

impl Rank {
    /// Before all others.
    pub(crate) const FIRST: Self = Self::first_of(Key { hash: 0, family: 0 });

    /// Before all others with this key.
    pub(crate) const fn first_of(key: Key) -> Self {
        Self(key, 0)
    }

    /// The key.
    pub(crate) fn key(self) -> Key {
        self.0
    }

    /// The next one: behind this, and before all that come later.
    pub(crate) fn next(self) -> Self {
        Self(self.0, self.1.saturating_add(1))
    }
}

impl Key {
    /// The key of what has this `hash`; for pages of `family` only, if there is one.
    pub(crate) fn new(hash: u64, family: Option<&Family>) -> Self {
        let family = family.map_or(0, |family| ptr::from_ref(family) as usize);
        Self { hash, family }
    }
}

/// What anons have in common whose pages are in one frame; see [`super::merge`].
///
/// # Invariants
///
/// * `frame` knows the content's page as this one's until the last reference goes.
/// * `members` are the anons that have joined and not left.
#[pin_data(PinnedDrop)]
pub(super) struct Merged {
    #[pin]
    content: WordMutex<Content>,
    rank: Rank,
    #[pin]
    members: SpinLock<Members>,
}

/// The addresses of anons, and how many these are.
struct Members {
    addresses: RBTree<usize, ()>,
    count: usize,
}

/// A place for an anon among others.
pub(super) type MemberReservation = RBTreeNodeReservation<usize, ()>;

impl Merged {
    /// Without members yet. The `content` has the page.
    pub(super) fn new(content: Content, key: Key) -> impl PinInit<Self> {
        static MADE: Atomic<u64> = Atomic::new(0);

        pin_init!(Self {
            content <- WordMutex::new(content, c"merged", static_lock_class!()),
            rank: Rank(key, u64::MAX - 1 - MADE.fetch_add(1, Relaxed)),
            members <- new_spinlock!(
                Members {
                    addresses: RBTree::new(),
                    count: 0,
                },
                "anon_rmap_members"
            ),
        })
    }

    /// Locks the page and what may be done with it, which comes after the lock of an anon that has joined. Sleeps.
    pub(super) fn lock(&self) -> WordMutexGuard<'_, Content> {
        self.content.lock()
    }

    /// As [`Self::lock`], if that is possible at once.
    pub(super) fn try_lock(&self) -> Option<WordMutexGuard<'_, Content>> {
        self.content.try_lock()
    }

    /// What `get` makes of the first member at the address `from` or behind for which it makes something. O(log n), and those for which it
    /// does not: with a lock, under which no member goes. Does not sleep, nor may `get`.
    pub(super) fn member_from<R>(
        &self,
        from: usize,
        get: impl Fn(usize) -> Option<R>,
    ) -> Option<R> {
        let mut members = self.members.lock();
        let mut cursor = members.addresses.cursor_lower_bound_mut(&from)?;
        loop {
            if let Some(found) = get(*cursor.current().0) {
                return Some(found);
            }
            cursor = cursor.move_next()?;
        }
    }

    /// Adds the anon at `address`, which has a reference, unless there are `most`.
    ///
    /// # Errors
    ///
    /// [`EMLINK`] if there are.
    pub(super) fn add(
        &self,
        address: usize,
        most: usize,
        reservation: MemberReservation,
    ) -> Result {
        let node = reservation.into_node(address, ());
        let mut members = self.members.lock();
        if members.count >= most {
            drop(members);
            drop(node);
            return Err(EMLINK);
        }
        if members.count > 0 {
            stats::PAGES_SHARING.inc();
        }
        // INVARIANT: It has joined.
        members.addresses.insert(node);
        members.count += 1;
        Ok(())
    }

    /// Takes the anon at `address` out. What it had is to be dropped without locks.
    pub(super) fn remove(&self, address: usize) -> Option<RBTreeNode<usize, ()>> {
        let mut members = self.members.lock();
        // INVARIANT: It leaves.
        let node = members.addresses.remove_node(&address)?;
        members.count -= 1;
        if members.count > 0 {
            stats::PAGES_SHARING.dec();
        }
        Some(node)
    }
}

#[pinned_drop]
impl PinnedDrop for Merged {
    fn drop(self: Pin<&mut Self>) {
        let _node = self.unlist();
        let content = self.content.lock();
        if content.poison().is_some() {
            poisoned::remove(content.pfn());
        }
        frame::forget(content.page());
        stats::PAGES_SHARED.dec();
    }
}

/// A frame by the address of what is known of it.
pub(super) struct Listed(NonNull<Merged>);

// SAFETY: Whoever uses the address has the lock of the list, and what is there stays as long as it is listed.
unsafe impl Send for Listed {}

/// A place in the list of frames.
pub(super) type ListedReservation = RBTreeNodeReservation<Rank, Listed>;

global_lock! {
    // SAFETY: Initialised by `init`, which the module calls before it registers anything.
    unsafe(uninit) static LISTED: SpinLock<Option<RBTree<Rank, Listed>>> = None;
}

/// Makes the list of frames usable. Errors as those of [`Loading::init`].
pub(crate) fn init(loading: &mut Loading) -> Result {
    loading.init(&LISTED)
}

impl Merged {
    /// Lists the frame.
    pub(super) fn list(self: &Arc<Self>, reservation: ListedReservation) {
        let node = reservation.into_node(self.rank, Listed(NonNull::from(&**self)));
        let mut listed = LISTED.lock();
        listed.get_or_insert_with(RBTree::new).insert(node);
    }

    /// Takes the frame out of the list; to be dropped without the lock.
    fn unlist(&self) -> Option<RBTreeNode<Rank, Listed>> {
        LISTED.lock().as_mut()?.remove_node(&self.rank)
    }

    /// What `get` makes of the first frame for which it makes something, from `from` on. Does not sleep, nor may `get`: with a lock, under
    /// which no frame goes.
    pub(super) fn first_from<R>(from: Rank, get: impl Fn(Rank, &Self) -> Option<R>) -> Option<R> {
        let mut listed = LISTED.lock();
        let mut cursor = listed.as_mut()?.cursor_lower_bound_mut(&from)?;
        loop {
            let (rank, found) = cursor.current();
            // SAFETY: It is listed, so it is there; with the lock it stays.
            if let Some(found) = get(*rank, unsafe { found.0.as_ref() }) {
                return Some(found);
            }
            cursor = cursor.move_next()?;
        }
    }

    /// What `get` makes of a frame with the key of `from`, from there on, in which there are fewer than `below`: of the first of these that are
    /// looked at, which are not many. Else as [`Self::first_from`].
    pub(super) fn find<R>(
        from: Rank,
        below: usize,
        get: impl Fn(Rank, &Self) -> Option<R>,
    ) -> Option<R> {
        /// How many frames are looked at with the lock: those that were made last have room, as a rule.
        const LOOKS: usize = 16;

        let mut listed = LISTED.lock();
        let mut cursor = listed.as_mut()?.cursor_lower_bound_mut(&from)?;
        for _ in 0..LOOKS {
            let (rank, found) = cursor.current();
            if rank.key() != from.key() {
                break;
            }
            // SAFETY: It is listed, so it is there; with the lock it stays.
            let found = unsafe { found.0.as_ref() };
            if found.members.lock().count < below {
                if let Some(found) = get(*rank, found) {
                    return Some(found);
                }
            }
            cursor = cursor.move_next()?;
        }
        None
    }
}
