// SPDX-License-Identifier: GPL-2.0-only

//! The driver's state of one VMA, from `mmap` to `close`.
//!
//! Core mm has no hook for merging two VMAs or shifting their common border. It does neither if their
//! `vm_pgoff` do not continue each other, so each VMA of an address space gets a
//! [window](Family::next_window) of its own.

use crate::{
    amap::{
        Amap,
        Slots, //
    },
    anon_vma::{
        family::{
            Family,
            Sharing,
            Window,
            MAX_INDEX, //
        },
        rmap_vma::RmapVma,
        AnonVma,
        LinkNeeds,
        Links,
        LinksReservation,
        Part, //
    },
    commit_charge::Charge,
    contract,
    index::{
        Base,
        Index,
        Indices,
        Pages, //
    },
    interval_tree::{
        IntervalTreeLink,
        IntervalTreeNode, //
    },
    stats,
    vm_fault::Vmf, //
};
use core::{
    mem,
    ops::Range,
    ptr, //
};
use kernel::{
    bindings,
    mm::virt,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        LockedBy, //
    }, //
};
use locked::{
    VmaMut,
    VmaNew,
    VmaOpen,
    VmaRef, //
};
use mm_state::{
    MmState,
    Vmas, //
};
use notifier::Subscription;

mod charge;
pub(crate) mod clearings;
mod core_dump;
mod fault;
mod fork;
pub(crate) mod locked;
pub(crate) mod mm_state;
mod mremap;
pub(crate) mod notifier;
pub(crate) mod ops;
mod soft_dirty;

/// The driver's state of one VMA; the VMA's `vm_private_data` owns a reference.
///
/// A VMA of the device without state is one for which a hook that cannot fail found no memory: each
/// access to it gets a SIGBUS.
pub(crate) struct VmaState {
    mm_state: Subscription,
    rmap: Arc<RmapVma>,
    amap: Arc<Amap>,
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
    place: Option<IntervalTreeLink<Arc<VmaState>>>,
    /// Whether mremap is moving pages here, see [`Vmas::moving`].
    moving_here: bool,
    /// What the system has promised for the VMA, if core mm has not been charged for it.
    charge: Option<Charge>,
    /// What has been promised for a part of it that mprotect is about to make a VMA of its own; in vain, if it fails then.
    charge_of_part: Option<(Range<usize>, Charge)>,
}

/// A state with all the memory that it takes to publish it, which therefore cannot fail.
struct VmaStateReservation {
    state: Arc<VmaState>,
    place: IntervalTreeNode<Arc<VmaState>>,
    links: LinksReservation,
    /// What becomes of it is the publisher's to say.
    charge: Option<Charge>,
}

/// What a split of a VMA will need.
struct SplitReservation {
    /// The [key](VmaState::key) of that VMA, which takes this along when it is closed.
    of: usize,
    reserved: VmaStateReservation,
}

impl VmaStateReservation {
    /// Reserves a state with up to `links` links; [`ENOMEM`].
    fn new(
        mm_state: Subscription,
        family: Arc<Family>,
        amap: Arc<Amap>,
        base: Base,
        windows: [Window; 2],
        links: usize,
    ) -> Result<Self> {
        let mm = mm_state.rmap_mm().clone();
        let rmap = RmapVma::new(mm, family, amap.clone(), base, windows)?;
        let links = LinksReservation::new(&rmap, links)?;
        let state = Arc::new(
            VmaState {
                known_end: Atomic::new(0),
                links: LockedBy::new(amap.slots(), None),
                registration: LockedBy::new(mm_state.vmas(), Registration::default()),
                mm_state,
                rmap,
                amap,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let place = state.mm_state.rmap_mm().new_node(state.clone())?;
        Ok(Self {
            state,
            place,
            links,
            charge: None,
        })
    }
}

impl VmaState {
    /// The VMA as the rmap knows it.
    pub(crate) fn rmap_vma(&self) -> &Arc<RmapVma> {
        &self.rmap
    }

    /// Whose it is.
    pub(crate) fn mm_state(&self) -> &MmState {
        &self.mm_state
    }

    /// What the VMA holds.
    pub(crate) fn amap(&self) -> &Arc<Amap> {
        &self.amap
    }

    /// Where the VMA puts its indices.
    pub(crate) fn base(&self) -> Base {
        self.rmap.base()
    }

    /// The addresses that the VMA covers, with what it has grown by; `None` if it has been closed. In the middle of a split or a
    /// move they can be those of before or after.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        let vmas = self.mm_state.vmas().lock();
        let now = VmaOpen::of(self, &vmas)?.range();
        let place = self.registration.access(&vmas).place.as_ref()?;
        let mut known = Pages::from(vmas.by_page.interval(place).ok()?).addresses();
        if now.start == known.start {
            known.end = known.end.max(now.end);
        }
        Some(known)
    }

    /// Whether mremap is moving page table entries here, and the amap does not have the pages yet.
    pub(crate) fn is_moving_here(&self) -> bool {
        let vmas = self.mm_state.vmas().lock();
        self.registration.access(&vmas).moving_here
    }

    /// Whether somebody is changing the VMA itself: a split, mremap, fork.
    ///
    /// The answer stays the same as long as the current task holds the VMA's lock or the mmap lock. No if it has been closed.
    pub(crate) fn is_write_locked(&self, vmas: &Vmas) -> bool {
        VmaOpen::of(self, vmas).is_some_and(|vma| vma.is_write_locked())
    }

    /// Whether the current task, which is not known for it, is zapping page table entries of `pages` for the driver's own ends.
    pub(crate) fn is_own_zap(&self, pages: Pages) -> bool {
        if !self.mm_state.rmap_mm().may_be_zapped_by_current() {
            return false;
        }
        if self.rmap.family().is_walked_by_current() {
            return true;
        }
        let indices = self.base().indices(pages.addresses());
        indices.is_ok_and(|indices| self.amap().lock().replacing.has_own(indices))
    }

    /// Whether `mseal()` keeps the content from being discarded. No if the VMA has been closed. The answer stays the same as
    /// [`Self::is_write_locked`] says.
    pub(crate) fn is_sealed(&self, vmas: &Vmas) -> bool {
        VmaOpen::of(self, vmas).is_some_and(|vma| vma.is_sealed())
    }

    /// The VMA; null if it has not been published. Valid until it is closed.
    fn vma(&self) -> *mut bindings::vm_area_struct {
        self.rmap.as_ptr()
    }

    /// The links into interval trees; `None` once the VMA is closed. Guarded by the amap's lock.
    pub(crate) fn links<'a>(&'a self, slots: &'a Slots) -> Option<&'a Links> {
        self.links.access(slots).as_ref()
    }

    /// Whether the VMA covers `index`, as the rmap knows it. Guarded by the amap's lock.
    pub(crate) fn covers(&self, slots: &Slots, index: Index) -> bool {
        let links = self.links(slots);
        links.is_some_and(|links| links.indices().contain(index))
    }

    /// Notes that somebody uses the VMA, who can have waited for a flush.
    #[inline]
    pub(crate) fn look_for_flush(&self, slots: &mut Slots) {
        let _ = slots.is_unflushed(self.mm_state.mm());
    }

    /// As [`Self::links`], to link.
    pub(crate) fn links_mut<'a>(&'a self, slots: &'a mut Slots) -> Option<&'a mut Links> {
        self.links.access_mut(slots).as_mut()
    }

    /// Notes which of `links` the pages at `indices` use.
    fn note_use(&self, links: &mut Links, part: Part, slots: &mut Slots, indices: Indices) {
        if slots.is_unflushed(self.mm_state.mm()) {
            // What was discarded can still be read, so a failure of it has to come here.
            return links.note_all_used(part);
        }
        let anons = slots.anons.iter_range(indices.first().0, indices.last().0);
        links.note_use(part, anons.map(|(_, slot)| slot.value.anon_vma()));
    }

    /// Takes the VMA out of the trees of which it has no page any more. Takes a bounded time, and leaves it in all if that
    /// does not do.
    pub(crate) fn prune_links(&self) {
        // Entries that are moving are ahead of the amap.
        if self.is_moving_here() {
            return;
        }
        let mut slots = self.amap().lock();
        let Some(mut links) = self.links.access_mut(&mut slots).take() else {
            return;
        };
        // Else each was of use when it was made, and is still.
        if links.pruned_at != slots.taken_out {
            links.pruned_at = slots.taken_out;
            let indices = links.indices();
            self.note_use(&mut links, Part::Rest, &mut slots, indices);
            links.prune();
        }
        *self.links.access_mut(&mut slots) = Some(links);
    }

    /// Reserves what more links [`need`](Links::needs); [`ENOMEM`].
    pub(crate) fn reserve_links(&self, needs: LinkNeeds) -> Result<LinksReservation> {
        LinksReservation::for_more(&self.rmap, needs)
    }

    /// Makes `[start, end)` what the rmap and the address space know of the VMA, and the system promise it.
    #[cold]
    fn resize(&self, start: usize, end: usize) -> Result {
        let indices = self.base().indices(start..end)?;
        if indices.last().0 > MAX_INDEX {
            return Err(EINVAL);
        }
        self.charge_growth(start, end, indices)?;
        self.reach(start, end)?;
        // Who finds it finds the links, too.
        self.known_end.store(end, Release);
        Ok(())
    }

    /// Makes `[start, end)` what the rmap and the address space know of the VMA.
    fn reach(&self, start: usize, end: usize) -> Result {
        let indices = self.base().indices(start..end)?;
        if indices.last().0 > MAX_INDEX {
            return Err(EINVAL);
        }
        let pages = Pages::of(start..end)?;
        {
            let mut vmas = self.mm_state.vmas().lock();
            self.reindex(&mut vmas, pages);
        }
        let mut slots = self.amap().lock();
        if let Some(links) = self.links_mut(&mut slots) {
            links.resize(indices);
        }
        Ok(())
    }

    /// Makes `pages` what the address space knows of the VMA.
    fn reindex(&self, vmas: &mut Vmas, pages: Pages) {
        let place = self.registration.access_mut(vmas).place.take();
        if let Some(place) = &place {
            // The place is one in this tree.
            let _ = vmas.by_page.update(place, pages.into());
        }
        self.registration.access_mut(vmas).place = place;
    }

    /// Gives `vma`, which covers `pages`, the state with `links`, and the offset of its window. Cannot fail.
    fn publish(reserved: VmaStateReservation, vma: &VmaNew<'_>, pages: Pages, links: Links) {
        let state = reserved.state.clone();
        *state.links.access_mut(&mut state.amap().lock()) = Some(links);
        let mut vmas = state.mm_state.vmas().lock();
        Self::publish_locked(reserved, vma, pages, &mut vmas);
    }

    /// As [`Self::publish`], for a state that has its links.
    fn publish_locked(
        reserved: VmaStateReservation,
        vma: &VmaNew<'_>,
        pages: Pages,
        vmas: &mut Vmas,
    ) {
        let VmaStateReservation {
            state,
            place,
            charge,
            ..
        } = reserved;
        let Range { start, end } = vma.range();
        let first = state.base().index(start);
        let pgoff = state.rmap.window().pgoff(first.0);
        let (place, surplus) = vmas.by_page.insert(place, pages.into());
        let registration = state.registration.access_mut(vmas);
        registration.place = Some(place);
        if charge.is_some() {
            registration.charge = charge;
        }
        state.note_known(vmas, start, end);
        stats::VMAS.inc();
        state.mm_state.rmap_mm().keep_surplus(surplus);
        vma.publish(state, pgoff);
    }

    /// Sets up a new mapping of the device.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; those of [`Family::new`] and [`Charge::new`].
    pub(crate) fn mmap(vma: &virt::VmaNew) -> Result {
        let shared = vma.flags() & bindings::VM_SHARED as bindings::vm_flags_t != 0;
        let sharing = if shared {
            Sharing::Shared
        } else {
            Sharing::Private
        };
        let base = Base::placing(Index(0), vma.start());
        let indices = base.indices(vma.start()..vma.end())?;
        if indices.last().0 > MAX_INDEX {
            return Err(ENOMEM);
        }
        let pages = Pages::of(vma.start()..vma.end())?;

        let new = VmaNew::new(vma);
        let mm_state = Subscription::new_uninterruptible(new.mm())?;
        let is_reserved = vma.flags() & bindings::VM_NORESERVE as bindings::vm_flags_t == 0;
        let charge = if shared && is_reserved {
            Some(Charge::for_addresses(vma.start()..vma.end())?)
        } else {
            None
        };
        let family = Family::new(sharing, charge)?;
        let amap = Amap::new(sharing, AnonVma::new(family.clone())?, false)?;
        let window = family.next_window()?;
        let reserved = VmaStateReservation::new(mm_state, family, amap, base, [window; 2], 0)?;
        new.set_up(reserved.state.rmap.family());
        Self::publish(reserved, &new, pages, Links::new(indices));
        Ok(())
    }

    /// Makes `vma` a part of this VMA, which covers `source`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if [`VmaMut::may_split`] was not called before.
    fn split(&self, source: Range<usize>, vma: &VmaNew<'_>) -> Result {
        let Range { start, end } = vma.range();
        let (source_start, source_end) = (source.start, source.end);
        let (rest_start, rest_end) = if start == source_start {
            (end, source_end)
        } else {
            (source_start, start)
        };
        let new_indices = self.base().indices(start..end)?;
        let rest_indices = self.base().indices(rest_start..rest_end)?;
        let (new_pages, rest_pages) = (Pages::of(start..end)?, Pages::of(rest_start..rest_end)?);

        let reserved = self.take_split_reservation(&mut self.mm_state.vmas().lock());
        let mut reserved = reserved.ok_or(ENOMEM)?;
        let reservation = mem::take(&mut reserved.links);
        // All at once: each page is at one place, for those who look for it.
        let mut vmas = self.mm_state.vmas().lock();
        {
            let mut slots = self.amap().lock();
            let mut links = self.links.access_mut(&mut slots).take().ok_or(EINVAL)?;
            self.note_use(&mut links, Part::New, &mut slots, new_indices);
            self.note_use(&mut links, Part::Rest, &mut slots, rest_indices);
            let split = links.split_off(new_indices, rest_indices, reservation);
            *self.links.access_mut(&mut slots) = Some(links);
            *reserved.state.links.access_mut(&mut slots) = Some(split.map_err(|_| ENOMEM)?);
        }
        self.reindex(&mut vmas, rest_pages);
        let spare = reserved.charge.take();
        let mut split_off = Registration::default();
        self.registration.access_mut(&mut vmas).split_charge(
            start..end,
            rest_start..rest_end,
            spare,
            &mut split_off,
        );
        *reserved.state.registration.access_mut(&mut vmas) = split_off;
        self.note_known(&vmas, rest_start, rest_end);
        Self::publish_locked(reserved, vma, new_pages, &mut vmas);
        Ok(())
    }

    /// Names the VMA among those of the address space.
    fn key(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// Takes what was reserved for a split of this VMA.
    fn take_split_reservation(&self, vmas: &mut Vmas) -> Option<VmaStateReservation> {
        let reservation = vmas.split.take_if(|split| split.of == self.key())?;
        Some(reservation.reserved)
    }

    /// Ends the part of the VMA, which covered `addresses`, in everything; its page table entries are gone.
    fn close(&self, addresses: Range<usize>) {
        let is_exiting = self.mm_state.rmap_mm().is_exiting();
        // What unmaps a VMA without having announced it would let a walk follow page tables that are freed.
        if !is_exiting && self.rmap.is_settled() {
            contract::broken("a VMA was unlinked without MMU_NOTIFY_UNMAP");
        }
        let (place, registration, _last_fork, _split) = {
            let mut vmas = self.mm_state.vmas().lock();
            let mut registration = mem::take(self.registration.access_mut(&mut vmas));
            let place = registration
                .place
                .take()
                .map(|place| vmas.by_page.remove(place));
            let split = self.take_split_reservation(&mut vmas);
            (place, registration, vmas.forget_fork_if_empty(), split)
        };
        if let Some(Ok(mut place)) = place {
            self.mm_state.rmap_mm().keep_surplus(place.take_surplus());
        }
        if registration.moving_here {
            self.end_move();
        }
        let _links = self.links.access_mut(&mut self.amap().lock()).take();
        // An amap goes with the last VMA of an address space that is taken down.
        if self.amap().sharing() == Sharing::Private && !is_exiting {
            if let Ok(indices) = self.base().indices(addresses.start..addresses.end) {
                if self.amap().remove_range(indices).is_err() {
                    self.amap().lock().lost = true;
                }
            }
        }
        stats::VMAS.dec();
    }
}

impl VmaRef<'_> {
    /// Lets the rmap know how far the VMA reaches by now: mremap can grow a VMA in place, for which
    /// there is no hook. Must be called by each fault in it, before anything is mapped.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the VMA is not one; those of [`Charge::new`].
    fn follow_growth(self, vmf: &Vmf<'_>) -> Result {
        self.state().rmap.settle(vmf);
        self.catch_up()
    }

    /// As [`Self::follow_growth`], by somebody who is not a fault.
    #[inline]
    fn catch_up(self) -> Result {
        let Range { start, end } = self.range();
        if self.state().known_end.load(Acquire) >= end {
            return Ok(());
        }
        self.state().resize(start, end)
    }

    /// As [`Self::catch_up`], whatever the system promises: what it does not is left to the first fault, which asks again.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the VMA is not one.
    fn catch_up_uncharged(self) -> Result {
        self.catch_up().or_else(|_| {
            let Range { start, end } = self.range();
            self.state().reach(start, end)
        })
    }
}

impl VmaMut<'_> {
    /// Reserves what [`Self::open`] will need if the VMA is split; [`ENOMEM`].
    fn may_split(self) -> Result {
        // Threads may be in a fault, with only the VMA's lock, and link it to more. Core mm waits for
        // them too, but later.
        self.start_write();
        self.catch_up_uncharged()?;
        let state = self.state();
        let links = state.links(&state.amap().lock()).map_or(0, Links::len);
        let needs_charge = {
            let vmas = state.mm_state.vmas().lock();
            state.registration.access(&vmas).is_charged()
        };
        let mm_state = Subscription::new(self.mm())?;
        let family = state.rmap.family().clone();
        let window = family.next_window()?;
        let amap = state.amap().clone();
        let windows = [window, state.rmap.window()];
        let mut reserved =
            VmaStateReservation::new(mm_state, family, amap, state.base(), windows, links)?;
        if needs_charge {
            reserved.charge = Some(Charge::new(0)?);
        }
        let of = state.key();
        let reservation = SplitReservation { of, reserved };
        let old = state.mm_state.vmas().lock().split.replace(reservation);
        drop(old);
        Ok(())
    }

    /// Gives `vma`, which core mm has copied from this one, a state of its own: for a split, fork or mremap.
    ///
    /// If that fails the VMA has none. What the copy was to take over is lost with it, and nothing
    /// maps it any more.
    fn open(self, vma: VmaNew<'_>) {
        let (source, covered) = (self.range(), vma.range());
        let is_fork = !ptr::eq(vma.mm().as_raw(), self.mm().as_raw());
        let is_part = source.start <= covered.start && covered.end <= source.end;
        let new_window = || self.state().rmap.family().next_window();
        let result = if is_fork {
            self.fork(&vma)
        } else if is_part {
            self.state().split(source, &vma)
        } else {
            // It is elsewhere, so it is to get pages moved.
            self.begin_move(&vma).inspect_err(|_| {
                // Core mm does not know yet that this fails: it must find nothing to move to where the rmap does not look.
                self.zap_as_written(source.clone());
            })
        };
        if result.is_err() {
            kernel::pr_warn_once!("out of memory: a mapping has been lost\n");
            // Without a state it must not be merged with one that has.
            if let (false, Ok(window)) = (is_fork, new_window()) {
                vma.set_pgoff(window.pgoff(0));
            }
        }
    }
}
