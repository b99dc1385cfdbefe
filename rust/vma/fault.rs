// SPDX-License-Identifier: GPL-2.0-only

//! Page faults: making the page tables say what the amap says.
//!
//! A first touch, a read, a write and a copy-on-write are one operation: find the anon that the address
//! is to map, make one if need be, and install the entry. What must be allocated is found out under
//! the amap's lock and allocated without it; then everything is looked at again.
//!
//! A fault that must [wait](crate::wait) sleeps without the lock that it came with. "The access can be made again"
//! ([`RETRY`]) is said only when the entry is there, or somebody who is about to clear it needs nothing that the faulter
//! may hold; what should not be possible gets a SIGBUS and a line in the log.

use super::{
    locked::VmaRef,
    VmaState, //
};
use crate::{
    amap::{
        Slots,
        SlotsGuard, //
    },
    anon::{
        content::Content,
        scanned::Merges,
        share::Share,
        Anon, //
    },
    anon_vma::{
        family::Sharing,
        AnonVma,
        LinkNeeds,
        LinksReservation, //
    },
    contract,
    errno::EHWPOISON,
    gfp,
    index::{
        Index,
        Indices, //
    },
    process::{
        self,
        ChargeTo, //
    },
    radix_tree::{
        Item,
        NodeReservation, //
    },
    stats,
    vm_fault::{
        VmFault,
        Vmf, //
    },
    wait::{
        wake,
        Wait, //
    }, //
};
use core::{
    ops::{
        ControlFlow,
        Range, //
    },
    ptr, //
};
use kernel::{
    alloc::Flags,
    bindings,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The access can be made again.
const RETRY: VmFault = bindings::vm_fault_reason_VM_FAULT_NOPAGE;
const OOM: VmFault = bindings::vm_fault_reason_VM_FAULT_OOM;
const SIGBUS: VmFault = bindings::vm_fault_reason_VM_FAULT_SIGBUS;
const HWPOISON: VmFault = bindings::vm_fault_reason_VM_FAULT_HWPOISON;

/// The size of what is mapped with a read, as far as there are pages. A power of two, less than a page table covers.
const AROUND: usize = 16 << PAGE_SHIFT;

/// From this number of links on it is worth to look for those that a VMA does not need any more.
const MANY_LINKS: usize = 8;

/// How a fault ends.
enum End {
    /// Core mm is told this.
    Done(VmFault),
    /// It has to wait.
    Wait(Wait),
}

/// A fault on a VMA of the device.
struct Fault<'a> {
    vmf: &'a Vmf<'a>,
    vma: VmaRef<'a>,
    state: &'a VmaState,
    index: Index,
    write: bool,
}

/// Where the content of a new page comes from.
enum Origin {
    Zeroes,
    /// From this one, which had been merged so often when it was copied.
    Copy(ARef<Anon>, Merges),
}

/// What has been allocated for a fault so far.
struct FaultReservation {
    page: Option<(ARef<Anon>, Origin)>,
    nodes: NodeReservation<Share>,
    links: Option<LinksReservation>,
}

/// What a look under the amap's lock came to.
enum Look {
    /// The fault is over.
    Done(VmFault),
    /// Somebody else has to end something first.
    Wait(Wait),
    /// What is to be taken out of the amap has to be taken out first.
    NeedDiscards,
    /// A page is needed.
    NeedZeroes,
    /// A copy is needed.
    NeedCopy(ARef<Anon>),
    /// This many nodes of the amap's tree are needed.
    NeedNodes(usize),
    /// Links are needed.
    NeedLinks(LinkNeeds),
}

/// Handles a fault for `write` or for reading, with or without a page table entry being there.
///
/// Takes O(log n) for what is mapped first, and a copy of the page where one is due.
pub(super) fn handle(vmf: Vmf<'_>, write: bool) -> VmFault {
    stats::FAULTS.inc();
    let resolved = {
        let Some(vma) = VmaRef::of(vmf.vma()) else {
            return SIGBUS;
        };
        if vma.follow_growth(&vmf).is_err() {
            return SIGBUS;
        }
        let state = vma.state();
        let fault = Fault {
            vmf: &vmf,
            vma,
            state: &state,
            index: state.base().index(vmf.address()),
            write,
        };
        fault.resolve()
    };
    let result = match resolved {
        Ok(End::Done(result)) => result,
        Ok(End::Wait(wait)) => {
            stats::WAITS.inc();
            return wait.wait(vmf);
        }
        Err(error) if error == EHWPOISON => HWPOISON,
        // Killing a process would not help.
        Err(error) if error == ENOSPC => SIGBUS,
        Err(_) => OOM,
    };
    if result & HWPOISON != 0 {
        stats::REFUSED.inc();
    }
    result
}

impl Fault<'_> {
    fn resolve(&self) -> Result<End> {
        let mut reservation = FaultReservation {
            page: None,
            nodes: NodeReservation::new(),
            links: None,
        };
        // Who writes to the memory of another process is not charged for it.
        let _charged = ChargeTo::unless_current(self.state.mm_state().mm());
        if self.write && !self.vmf.has_page() && self.state.amap().lacks_what_is_not_mapped() {
            // One look less. It may turn out not to be needed: so nothing is reclaimed for it, and nobody killed.
            let anon = self.zeroed(GFP_NOWAIT | gfp::account() | __GFP_NOWARN).ok();
            reservation.page = anon.map(|anon| (anon, Origin::Zeroes));
        }
        loop {
            match self.look(&mut reservation) {
                Look::Done(result) => return Ok(End::Done(result)),
                Look::Wait(wait) => return Ok(End::Wait(wait)),
                Look::NeedDiscards => self.state.amap().finish_discards()?,
                Look::NeedZeroes => {
                    let anon = self.zeroed(GFP_KERNEL_ACCOUNT)?;
                    reservation.page = Some((anon, Origin::Zeroes));
                }
                Look::NeedCopy(source) => match self.copy_of(&source) {
                    // Another thread has replaced it meanwhile.
                    Err(error) if error == EHWPOISON && !self.is_held(&source) => (),
                    result => {
                        let (anon, merges) = result?;
                        reservation.page = Some((anon, Origin::Copy(source, merges)));
                    }
                },
                Look::NeedNodes(nodes) => reservation.nodes.reserve(nodes, GFP_KERNEL)?,
                Look::NeedLinks(needs) => {
                    // What it has copied since the last time it has no use for any more.
                    if needs.links >= MANY_LINKS && needs.room > 0 {
                        self.state.prune_links();
                    }
                    reservation.links = Some(self.state.reserve_links(needs)?);
                }
            }
        }
    }

    fn zeroed(&self, flags: Flags) -> Result<ARef<Anon>> {
        Anon::zeroed(self.state.amap().anon_vma(), self.index, flags)
    }

    fn copy_of(&self, source: &Anon) -> Result<(ARef<Anon>, Merges)> {
        Anon::copy_of(source, self.state.amap().anon_vma())
    }

    /// Whether the amap holds `anon` at the index.
    fn is_held(&self, anon: &Anon) -> bool {
        let slots = self.state.amap().lock();
        let slot = slots.anons.get(self.index.0);
        slot.is_some_and(|slot| slot.value.is(anon))
    }

    fn look(&self, reservation: &mut FaultReservation) -> Look {
        let amap = self.state.amap();
        let mut slots = amap.lock();
        self.state.look_for_flush(&mut slots);
        if let Some(refusal) = self.refusal(&slots) {
            return refusal;
        }
        if let Some(look) = self.fill_at_once(&mut slots, reservation) {
            return look;
        }
        loop {
            let Some(slot) = slots.anons.get(self.index.0) else {
                return self.fill(slots, reservation);
            };
            if self.write
                && !self.is_written_in_place(&slot, || slot.value.lock().may_be_written(self.vmf))
            {
                let source = slot.value.anon();
                return self.copy(slots, source, reservation);
            }
            let anon_vma = slot.value.anon_vma();
            if self.is_linked(&slots, anon_vma) {
                if self.write {
                    slot.unsettle();
                }
                let look = self.map(slot.value, self.write);
                if matches!(look, Look::Done(RETRY)) {
                    if !self.write {
                        self.map_around(&slots);
                    } else if self.vmf.has_page() {
                        self.map_ahead(&mut slots);
                    }
                }
                return look;
            }
            let anon_vma = anon_vma.clone();
            if let Err(need) = self.link(&mut slots, &anon_vma, &mut reservation.links) {
                return need;
            }
            if let (false, Some(links)) = (self.write, &mut reservation.links) {
                self.link_around(&mut slots, links);
            }
        }
    }

    /// Whether the page of `slot` is written where it is: in private memory only if nobody else has it, and it
    /// [may](Content::may_be_written).
    fn is_written_in_place(&self, slot: &Item<'_, Share>, may: impl FnOnce() -> bool) -> bool {
        self.state.amap().sharing() == Sharing::Shared || slot.is_exclusive() && may()
    }

    /// Why the fault can't go on with the amap as it is, if it can't.
    #[inline(always)]
    fn refusal(&self, slots: &Slots) -> Option<Look> {
        let links = match self.state.links(slots) {
            Some(links) if !slots.lost => links,
            _ => return Some(Look::Done(SIGBUS)),
        };
        if !links.indices().contain(self.index) {
            // A border that has moved without a hook: waiting for it would never end.
            contract::broken("a VMA has a border that no hook has told");
            return Some(Look::Done(SIGBUS));
        }
        if let Some(wait) = self
            .state
            .mm_state()
            .clearings()
            .is_clearing(self.vmf.address())
        {
            return Some(Look::Wait(wait));
        }
        if slots.replacing.has(self.index) {
            return Some(Look::Wait(Wait::new(&**self.state.amap())));
        }
        (!slots.discards.is_empty()).then_some(Look::NeedDiscards)
    }

    /// As [`Self::fill`], for a first write that finds all that it needs: `None` if this is no such.
    fn fill_at_once(&self, slots: &mut Slots, reservation: &FaultReservation) -> Option<Look> {
        let anon = match &reservation.page {
            Some((anon, Origin::Zeroes)) if self.write && !slots.has_mapped_zeroes => anon,
            _ => return None,
        };
        let share = || Share::new(anon.clone());
        (self.is_linked(slots, anon.anon_vma()) && slots.anons.fill(self.index.0, share))
            .then(|| self.map(anon, true))
    }

    /// Puts the reserved page into the amap, where there is none, and maps it; zeroes that all share are enough for who only reads.
    /// A core dump gets nothing, but a hole.
    fn fill<'a>(&'a self, mut slots: SlotsGuard<'a>, reservation: &mut FaultReservation) -> Look {
        let amap = self.state.amap();
        if process::is_dumping_core() {
            return Look::Done(SIGBUS);
        }
        let is_private = amap.sharing() == Sharing::Private;
        // Others could not be told when somebody writes to shared memory.
        if !self.write && is_private && self.vmf.may_map_zeroes() {
            slots.has_mapped_zeroes = true;
            return self.map_zeroes(&slots);
        }
        let FaultReservation { page, nodes, links } = reservation;
        let Some((anon, Origin::Zeroes)) = page else {
            return Look::NeedZeroes;
        };
        if slots.has_mapped_zeroes && self.vmf.maps_zeroes() {
            slots = match self.unmap(slots) {
                Ok(slots) => slots,
                Err(look) => return look,
            };
            if slots.anons.get(self.index.0).is_some() {
                return Look::Done(RETRY);
            }
        }
        if let Err(need) = self.link(&mut slots, anon.anon_vma(), links) {
            return need;
        }
        match self.put(&mut slots, anon.clone(), nodes) {
            // Who has asked for memory (`mlock()`) is going to write to it.
            Ok(_) => {
                let write = self.write || (is_private && self.vmf.may_map_writable());
                self.map(anon, write)
            }
            Err(need) => need,
        }
    }

    /// Maps zeroes for reading, where the amap holds nothing. No anon stands for them, so nothing there can fail.
    fn map_zeroes(&self, slots: &Slots) -> Look {
        self.vmf.map_zeroes();
        if !slots.anons.is_empty() {
            self.map_around(slots);
        }
        Look::Done(RETRY)
    }

    /// Replaces `source`, which the amap holds and others may use too, by the reserved copy, and maps that.
    fn copy(
        &self,
        slots: SlotsGuard<'_>,
        source: ARef<Anon>,
        reservation: &mut FaultReservation,
    ) -> Look {
        let anon = match &reservation.page {
            Some((anon, Origin::Copy(of, _))) if ptr::eq::<Anon>(&**of, &*source) => anon.clone(),
            _ => return Look::NeedCopy(source),
        };
        let was_soft_dirty = self.vmf.is_soft_dirty();
        let unmapped = self.unmap(slots);
        let result = unmapped.and_then(|slots| self.replace(slots, &source, anon, reservation));
        if was_soft_dirty && result.is_err() {
            // The write that was to make an entry that says it has not come to pass.
            source.lock().set_soft_dirty();
        }
        result.unwrap_or_else(|look| look)
    }

    /// Takes what is mapped at the address out of the page table; gives the amap's lock up meanwhile, when others who want to map something
    /// there wait. An error is a look that came to nothing.
    fn unmap<'a>(&'a self, mut slots: SlotsGuard<'a>) -> Result<SlotsGuard<'a>, Look> {
        let amap = self.state.amap();
        if !slots.replacing.begin(self.index) {
            return Err(Look::Wait(Wait::new(&**amap)));
        }
        drop(slots);
        let page = self.state.base().addresses(Indices::one(self.index));
        self.vma.zap(page);
        let mut slots = amap.lock();
        slots.replacing.end(self.index);
        wake(&**amap);
        match self.refusal(&slots) {
            Some(refusal) => Err(refusal),
            None => Ok(slots),
        }
    }

    /// The end of [`Self::copy`], when nothing is mapped any more. An error is a look that came to nothing.
    fn replace(
        &self,
        mut slots: SlotsGuard<'_>,
        source: &ARef<Anon>,
        anon: ARef<Anon>,
        reservation: &mut FaultReservation,
    ) -> Result<Look, Look> {
        let exclusive = match slots.anons.get(self.index.0) {
            Some(slot) if slot.value.is(source) => slot.is_exclusive(),
            _ => return Err(Look::Done(RETRY)),
        };
        {
            let content = source.lock();
            // It has failed since it was copied.
            if content.poison().is_some() {
                return Err(Look::Done(HWPOISON));
            }
            // If nobody else uses it any more another thread can have written to it; which is not to be seen once it has been merged.
            let is_same = match &reservation.page {
                Some((_, Origin::Copy(_, merges))) => source.scanned.merges() == *merges,
                _ => false,
            };
            if !is_same || exclusive && content.is_exclusive() {
                return Err(Look::Done(RETRY));
            }
        }
        self.link(&mut slots, anon.anon_vma(), &mut reservation.links)?;
        let old = self.put(&mut slots, anon.clone(), &mut reservation.nodes)?;
        slots.taken_out += 1;
        let look = self.map(&anon, self.write);
        drop(slots);
        drop(old);
        Ok(look)
    }

    /// Puts `anon` into the amap; returns what was there.
    fn put(
        &self,
        slots: &mut Slots,
        anon: ARef<Anon>,
        nodes: &mut NodeReservation<Share>,
    ) -> Result<Option<Share>, Look> {
        let index = self.index.0;
        slots
            .anons
            .insert(index, Share::new(anon), nodes)
            .map_err(|_| Look::NeedNodes(slots.anons.nodes_for_insert(index)))
    }

    /// Whether a walk from a page of `anon_vma` finds the VMA.
    #[inline]
    fn is_linked(&self, slots: &Slots, anon_vma: &Arc<AnonVma>) -> bool {
        let links = self.state.links(slots);
        links.is_some_and(|links| links.contains(anon_vma))
    }

    /// Makes sure that a walk from a page of `anon_vma` finds the VMA.
    fn link(
        &self,
        slots: &mut Slots,
        anon_vma: &Arc<AnonVma>,
        reservation: &mut Option<LinksReservation>,
    ) -> Result<(), Look> {
        if self.is_linked(slots, anon_vma) {
            return Ok(());
        }
        let Some(links) = self.state.links_mut(slots) else {
            return Err(Look::Done(SIGBUS));
        };
        if reservation
            .as_mut()
            .is_some_and(|reservation| links.link(anon_vma, reservation))
        {
            return Ok(());
        }
        let needs = links.needs(1);
        if self.write {
            return Err(Look::NeedLinks(needs));
        }
        // It takes one fault for all that is around.
        let mut around = 0;
        self.for_unlinked_around(slots, Index(0), |_, _| {
            around += 1;
            ControlFlow::<()>::Continue(())
        });
        let links = self.state.links(slots);
        let needs = links.map_or(needs, |links| links.needs(around.max(1)));
        Err(Look::NeedLinks(needs))
    }

    /// Links the VMA for what a read is going to map around, as far as that has been reserved.
    fn link_around(&self, slots: &mut Slots, reservation: &mut LinksReservation) {
        let mut from = Index(0);
        while !reservation.is_empty() {
            let first = self.for_unlinked_around(slots, from, |index, anon_vma| {
                ControlFlow::Break((index, anon_vma.clone()))
            });
            let Some((index, anon_vma)) = first else {
                break;
            };
            let links = self.state.links_mut(slots);
            if !links.is_some_and(|links| links.link(&anon_vma, reservation)) {
                break;
            }
            from = Index(index.0 + 1);
        }
    }

    /// Calls `f` for pages around the fault, from index `from` on, that can be had at once, but that the VMA is not linked for, until it
    /// breaks, with what is returned; of those in a row that are of one anon_vma only for the first.
    fn for_unlinked_around<R>(
        &self,
        slots: &Slots,
        from: Index,
        mut f: impl FnMut(Index, &Arc<AnonVma>) -> ControlFlow<R>,
    ) -> Option<R> {
        let (first, last) = self.around(slots).filter(|_| !self.vmf.is_remote())?;
        let mut before = None;
        for (index, slot) in slots.anons.iter_range(first.0.max(from.0), last.0) {
            let anon_vma = slot.value.anon_vma();
            let is_new = !before.is_some_and(|before| Arc::ptr_eq(before, anon_vma));
            before = Some(anon_vma);
            if !is_new || self.is_linked(slots, anon_vma) {
                continue;
            }
            let content = slot.value.try_lock();
            if !content.is_some_and(|content| content.may_be_mapped_around()) {
                continue;
            }
            if let ControlFlow::Break(found) = f(Index(index), anon_vma) {
                return Some(found);
            }
        }
        None
    }

    /// The first and the last index of what is mapped with a read: a window in which the VMA has pages.
    fn around(&self, slots: &Slots) -> Option<(Index, Index)> {
        let indices = self.state.links(slots)?.indices();
        let base = self.state.base();
        let window = self.window();
        // It can begin before the VMA, where there are no indices, and end behind it.
        let start = window.start.max(base.address(indices.first()));
        let last = base.index(window.end - 1).min(indices.last());
        Some((base.index(start), last))
    }

    /// The addresses of that. Aligned in addresses, so that the page table is the fault's.
    fn window(&self) -> Range<usize> {
        let address = self.vmf.address();
        address & !(AROUND - 1)..(address | (AROUND - 1)) + 1
    }

    /// Installs the page table entry for `anon`, which the amap, under its lock, holds at the index and which the VMA
    /// is linked for; writable if this is for a `write`, for which the amap's leaf is no longer settled.
    fn map(&self, anon: &Anon, write: bool) -> Look {
        let mut content = anon.lock();
        if !content.may_be_mapped() {
            return Look::Done(HWPOISON);
        }
        if content.is_migrating() {
            return Look::Wait(Wait::new(&*content));
        }
        if write {
            // It has just been merged.
            if content.is_common() {
                return Look::Done(RETRY);
            }
            content.set_exclusive(true);
        }
        // By the amap's rule the entry maps no other page.
        let (page, soft_dirty) = (content.page(), content.is_soft_dirty());
        Look::Done(self.vmf.insert_page(page, write, soft_dirty))
    }

    /// Maps, for reading, the pages around the fault that are there and can be had at once.
    fn map_around(&self, slots: &Slots) {
        let mut around = None;
        let empty = |window: &_| self.vmf.empty_entries(window);
        self.for_each_around(slots, Index(0), empty, |address, _, content| {
            // As in `map`; the address has the page table of the fault's.
            around
                .get_or_insert_with(|| self.vmf.around())
                .insert_page(address, content.page());
        });
    }

    /// Makes what is mapped behind the fault writable, too, where memory is written in order: pages that may be written where they are,
    /// so that this takes no memory. Random writes are worth no look at others.
    fn map_ahead(&self, slots: &mut Slots) {
        let next = Index(self.index.0 + 1);
        if slots.next_write.replace(next) != Some(self.index) {
            return;
        }
        let Some((_, last)) = self.around(slots).filter(|(_, last)| next <= *last) else {
            return;
        };
        slots.next_write = Some(Index(last.0 + 1));
        let mut ahead = None;
        let read_only = |window: &_| self.vmf.read_only_entries(window);
        self.for_each_around(slots, next, read_only, |address, slot, content| {
            if self.is_written_in_place(slot, || content.may_be_written(self.vmf)) {
                let ahead = ahead.get_or_insert_with(|| self.vmf.around());
                if ahead.make_writable(address, content.page()) {
                    // As in `look`: both under the locks that are held.
                    content.set_exclusive(true);
                    slot.unsettle();
                }
            }
        });
    }

    /// Calls `f` for the pages around the fault, from index `from` on, that can be had at once, and of whose entries `entries` says that they
    /// are wanted: with the address, and the content, which is locked. Who accesses the memory of another process says which pages it wants.
    #[inline(always)]
    fn for_each_around(
        &self,
        slots: &Slots,
        from: Index,
        entries: impl FnOnce(&Range<usize>) -> u64,
        mut f: impl FnMut(usize, &Item<'_, Share>, &mut Content),
    ) {
        if self.vmf.is_remote() {
            return;
        }
        let (Some(links), Some((first, last))) = (self.state.links(slots), self.around(slots))
        else {
            return;
        };
        let first = first.max(from);
        if !slots.anons.any_in(first.0, last.0) {
            return;
        }
        let (base, window) = (self.state.base(), self.window());
        // The fault's own is mapped by now.
        let entries = entries(&window);
        for (index, slot) in slots.anons.iter_range(first.0, last.0) {
            let index = Index(index);
            let address = base.address(index);
            let rest = entries >> ((address - window.start) >> PAGE_SHIFT);
            if rest == 0 {
                break;
            }
            if rest & 1 == 0
                || slots.replacing.has(index)
                || !links.contains(slot.value.anon_vma())
                || self
                    .state
                    .mm_state()
                    .clearings()
                    .is_clearing(address)
                    .is_some()
            {
                continue;
            }
            if let Some(mut content) = slot.value.try_lock() {
                if content.may_be_mapped_around() {
                    f(address, &slot, &mut content);
                }
            }
        }
    }
}
