// SPDX-License-Identifier: GPL-2.0-only

//! A physical page of the driver, with its state.

use crate::{
    anon_vma::{
        rmap_vma::PageId,
        AnonVma, //
    },
    failure::{
        self,
        Poison,
        Source, //
    },
    helpers,
    index::Index,
    loading::Loading,
    page::{
        OwnedPage,
        Page, //
    },
    poisoned,
    pool::{
        self,
        frame,
        quarantine, //
    },
    process,
    slab_cache::{
        Created,
        SlabCache, //
    },
    stats, //
    word_mutex::{
        WordMutex,
        WordMutexGuard, //
    },
};
use content::{
    Content,
    Merged, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    static_lock_class,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::Atomic,
        Arc,
        Refcount, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use scanned::Scanned;

pub(crate) mod content;
pub(crate) mod copy;
pub(crate) mod merge;
pub(crate) mod migration;
pub(crate) mod scanned;
pub(crate) mod share;

/// One physical page that the driver owns, shared copy-on-write between amaps.
///
/// The lock guards the state *and* the installation of page table entries for the page: an entry is
/// installed only under the lock and only when the page [may be mapped](Content::may_be_mapped). So whoever
/// has set a poison with which it may not, and then finds the mappings through the rmap, has found all of them.
///
/// # Invariants
///
/// * `frame` knows the content's page, and no other, as this anon's until the last reference goes; or the anon has [joined](merge) others.
/// * `shares` is the number of [`Share`](share::Share)s.
#[pin_data]
pub(crate) struct Anon {
    refs: Refcount,
    shares: Atomic<i32>,
    #[pin]
    content: WordMutex<Content>,
    anon_vma: Arc<AnonVma>,
    index: Index,
    /// What the [scanner](crate::merge) has seen of the content last.
    pub(crate) scanned: Scanned,
}

#[cfg(not(CONFIG_DEBUG_LOCK_ALLOC))]
static_assert!(size_of::<Anon>() == 48);

static CACHE: SlabCache<Anon> = SlabCache::new();

/// As long as this lives, anons come from a slab cache, charged to the memory cgroup.
pub(crate) struct AnonCache {
    _cache: Created<Anon>,
}

impl AnonCache {
    /// Creates the cache; [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        Ok(Self {
            _cache: CACHE.create(c"anon_rmap_anon", loading)?,
        })
    }
}

/// Evidence of an anon's lock.
pub(crate) type AnonGuard<'a> = WordMutexGuard<'a, Content>;

impl Anon {
    /// A page filled with zeroes, at `index` of `anon_vma`, charged to the memory cgroup of the current
    /// process with `__GFP_ACCOUNT`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; [`ENOSPC`] if no device memory is left. May sleep if `flags` allow it.
    pub(crate) fn zeroed(
        anon_vma: &Arc<AnonVma>,
        index: Index,
        flags: Flags,
    ) -> Result<ARef<Self>> {
        loop {
            let page = pool::alloc(flags | __GFP_ZERO)?;
            if let Some(anon) = Self::new(page, anon_vma, index, flags)? {
                return Ok(anon);
            }
        }
    }

    /// An anon that owns `page`; `None` if the page has failed when it was nobody's yet. [`ENOMEM`].
    fn new(
        page: OwnedPage,
        anon_vma: &Arc<AnonVma>,
        index: Index,
        flags: Flags,
    ) -> Result<Option<ARef<Self>>> {
        let raw = ptr::from_ref(&*page);
        let anon = CACHE.allocate(flags)?.write_pin_init(pin_init!(Self {
            refs: Refcount::new(1),
            shares: Atomic::new(0),
            content <- WordMutex::new(Content::new(page), c"anon", static_lock_class!()),
            anon_vma: anon_vma.clone(),
            index,
            scanned: Scanned::new(),
        }))?;
        // SAFETY: The anon is not moved out of the pinned box: it is freed as one in `dec_ref`.
        let anon = NonNull::from(KBox::leak(unsafe { Pin::into_inner_unchecked(anon) }));
        // SAFETY: `refs` started with one, which this reference takes over.
        let anon = unsafe { ARef::from_raw(anon) };
        // SAFETY: The page is the anon's, and nobody replaces it yet.
        let page = unsafe { &*raw };
        // SAFETY: The anon owns the page, and forgets it when its last reference goes.
        let has_failed = unsafe { frame::remember(page, owner_of(&anon)) };
        stats::ANONS.inc();
        if has_failed {
            let pfn = {
                let mut content = anon.lock();
                content.set_failed();
                content.pfn()
            };
            failure::report(pfn, Source::MachineCheck);
        }
        // Whoever reports a failure from here on finds the anon.
        Ok((!has_failed && !page.is_marked()).then_some(anon))
    }

    /// Locks the anon, or what it has in [common](merge) with others. Sleeps. Comes after the lock of an amap, before that of an anon_vma.
    pub(crate) fn lock(&self) -> AnonGuard<'_> {
        let own = self.content.lock();
        // SAFETY: Its lock is taken before `own` is given up.
        match unsafe { self.common(&own) } {
            None => own,
            Some(merged) => merged.lock(),
        }
    }

    /// As [`Self::lock`], if that is possible at once.
    pub(crate) fn try_lock(&self) -> Option<AnonGuard<'_>> {
        let own = self.content.try_lock()?;
        // SAFETY: As in `lock`.
        match unsafe { self.common(&own) } {
            None => Some(own),
            Some(merged) => merged.try_lock(),
        }
    }

    /// What the anon, by whose `own` lock it is known, has in common with others.
    ///
    /// # Safety
    ///
    /// The result must not be used without `own`, or without its lock, taken before `own` is given up: whoever leaves takes both.
    #[inline]
    unsafe fn common<'a>(&'a self, own: &AnonGuard<'_>) -> Option<&'a Merged> {
        let merged = NonNull::from(&*own.merged()?);
        // SAFETY: The anon has a reference as long as the caller may use the result.
        Some(unsafe { merged.as_ref() })
    }

    /// Has the frame marked as bad, with all that the kernel does then: the hardware has failed under the page, which is poisoned and
    /// mapped nowhere. With `was_drill`, it was poisoned by a drill of the kernel's own before. Sleeps; the caller must hold no lock.
    ///
    /// Meanwhile no lookup finds the anon. Whether somebody who has looked for it just then has said that the hardware has failed.
    pub(crate) fn mark(&self, cause: quarantine::Cause, was_drill: bool) -> bool {
        let marking = quarantine::marking();
        let content = self.lock();
        if content.poison() != Some(Poison::Hardware) {
            return false;
        }
        let (page, pfn) = (ptr::from_ref(content.page()), content.pfn());
        // The drill can have been undone right before the poison was set.
        let has_mark = was_drill && content.is_marked();
        drop(content);
        if has_mark {
            quarantine::add(pfn, quarantine::Kind::Hardware);
            return false;
        }
        // SAFETY: Nobody replaces the page of an anon that is poisoned for good, and it stays as long as the anon does.
        let page = unsafe { &*page };
        quarantine::mark(page, cause, &marking);
        // SAFETY: The page is the owner's, which forgets it when its last reference goes; for good, as it is poisoned.
        let has_failed = unsafe { frame::remember(page, self.owner()) };
        quarantine::add(pfn, quarantine::Kind::Hardware);
        has_failed
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
    /// Those of [`quarantine::unmark`]; [`EINTR`] if the task is being killed.
    pub(crate) fn unmark(&self) -> Result {
        /// How often a page that is in use is looked at again: who has just marked it may still be unmapping it.
        const ATTEMPTS: usize = 100;

        for _ in 0..ATTEMPTS {
            {
                let marking = quarantine::marking();
                let page = {
                    let content = self.lock();
                    if !content.is_kernels_drill() {
                        return Ok(());
                    }
                    ptr::from_ref(content.page())
                };
                // SAFETY: Nobody replaces the page of an anon that is poisoned, and it stays as long as the anon does.
                let page = unsafe { &*page };
                // The mark has its reference.
                drop(page.take_guard());
                match quarantine::unmark(page, &marking) {
                    Ok(()) => {
                        let mut content = self.lock();
                        // Else the hardware has failed meanwhile: who says so has the frame marked, too.
                        content.end_kernels_drill();
                        return Ok(());
                    }
                    Err(error) if error != EBUSY => return Err(error),
                    Err(_) => (),
                }
            }
            if process::is_current_killed() {
                return Err(EINTR);
            }
            fsleep(Delta::from_millis(1));
        }
        Err(EBUSY)
    }

    /// Where the mappings of this page can be found.
    pub(crate) fn anon_vma(&self) -> &Arc<AnonVma> {
        &self.anon_vma
    }

    /// The page's name for who does not know anons.
    pub(crate) fn id(&self) -> PageId {
        PageId::of(self)
    }

    /// The page's index.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Takes what has gone with the last reference from where it could be found.
    fn end_lookups(&self) {
        stats::ANONS.dec();
        let content = self.content.lock();
        if let Some(merged) = content.merged() {
            let _node = merged.remove(ptr::from_ref(self) as usize);
            return;
        }
        if content.poison().is_some() {
            poisoned::remove(content.pfn());
        }
        frame::forget(content.page());
    }
}

impl Anon {
    /// What the anon's frame is remembered with. It changes when the anon joins others or leaves them.
    fn owner(&self) -> NonNull<c_void> {
        match self.content.lock().merged() {
            Some(merged) => merged_owner(&merged),
            None => owner_of(self),
        }
    }
}

/// What the frame of one anon is remembered with.
fn owner_of(anon: &Anon) -> NonNull<c_void> {
    NonNull::from(anon).cast()
}

/// What the frame of several is remembered with.
fn merged_owner(merged: &Merged) -> NonNull<c_void> {
    let owner = NonNull::from(merged).cast();
    owner.map_addr(|address| address | MERGED)
}

/// Tells the one from the other.
const MERGED: usize = 1;

/// A reference to an anon in a frame that was found to be remembered with `owner` just now, unless all are about to go.
///
/// # Safety
///
/// `owner` must come from [`owner_of`] or [`merged_owner`], and what that was of must not be freed meanwhile.
unsafe fn upgrade(owner: NonNull<c_void>) -> Option<ARef<Anon>> {
    let address = owner.addr().get();
    if address & MERGED == 0 {
        // SAFETY: The caller promises that it is there.
        return unsafe { upgrade_at(address) };
    }
    let merged = (address & !MERGED) as *const Merged;
    // SAFETY: The caller promises that it is there.
    member_from(unsafe { &*merged }, 0)
}

/// A reference to the first anon at the address `from` or behind that is one of those in a frame, and not about to go. Does not sleep.
fn member_from(merged: &Merged, from: usize) -> Option<ARef<Anon>> {
    // SAFETY: By its invariant these are anons that have not left, which takes the lock under which this is called.
    merged.member_from(from, |address| unsafe { upgrade_at(address) })
}

/// A reference to the anon at `address`, unless the last one has gone.
///
/// # Safety
///
/// There must be one, and it must not be freed meanwhile.
unsafe fn upgrade_at(address: usize) -> Option<ARef<Anon>> {
    let anon = NonNull::new(address as *mut Anon)?;
    // SAFETY: The caller promises that it is there.
    let is_live = inc_not_zero(unsafe { &(*anon.as_ptr()).refs });
    // SAFETY: The reference has just been taken.
    is_live.then(|| unsafe { ARef::from_raw(anon) })
}

/// Takes a reference, unless the last one has gone already.
fn inc_not_zero(refs: &Refcount) -> bool {
    // SAFETY: `Refcount` wraps a `refcount_t`, and this one is live.
    unsafe { helpers::anon_rmap_refcount_inc_not_zero(ptr::from_ref(refs).cast_mut().cast()) }
}

/// The anon in page frame `pfn`, if there is one. Takes O(1), does not sleep.
pub(crate) fn lookup(pfn: u64) -> Option<ARef<Anon>> {
    // SAFETY: Frames are remembered with such owners, whose memory is not freed before `forget` has got the lock.
    frame::with_owner(pfn, |_, owner| unsafe { upgrade(owner) })
}

/// Whose a page is that the kernel has marked.
pub(crate) enum Owner {
    /// An anon's. The reference to the page is for the mark, unless nobody may have one just now.
    Anon(ARef<Anon>, Option<OwnedPage>),
    /// That of an anon that is about to go. It gives the page up as it has to.
    GoingAnon,
}

/// Whose the page in frame `pfn` is, which the kernel has marked; `None` if it is no anon's. Takes O(1), does not sleep.
pub(crate) fn lookup_marked(pfn: u64) -> Option<Owner> {
    frame::with_owner(pfn, |page, owner| {
        let guard = page.try_get();
        // SAFETY: As in `lookup`.
        Some(match (unsafe { upgrade(owner) }, guard) {
            (Some(anon), guard) => Owner::Anon(anon, guard),
            (None, guard) => {
                // Whoever drops the content is still to come, and finds it.
                if let Some(guard) = guard {
                    Page::leave_guard(guard);
                }
                Owner::GoingAnon
            }
        })
    })
}

/// Frees an anon.
///
/// # Safety
///
/// It must come from [`Anon::new`], and have no reference any more.
#[inline(never)]
unsafe fn free(anon: NonNull<Anon>) {
    // SAFETY: The caller promises that it is there, and that it is done with.
    unsafe { anon.as_ref() }.end_lookups();
    // SAFETY: `end_lookups` ended the lookups, so the box that was leaked in `new` is ours again. It stays pinned until it is dropped.
    drop(unsafe { Pin::new_unchecked(KBox::from_raw(anon.as_ptr())) });
}

// SAFETY: `inc_ref` increments `refs`, and the anon is freed only when `refs` drops to zero.
unsafe impl AlwaysRefCounted for Anon {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(anon: NonNull<Self>) {
        // SAFETY: The caller gives up a reference, so the anon is live until here.
        let this = unsafe { anon.as_ref() };
        if this.refs.dec_and_test() {
            // SAFETY: The last reference has gone.
            unsafe { free(anon) };
        }
    }
}
