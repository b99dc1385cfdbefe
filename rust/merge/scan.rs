// SPDX-License-Identifier: GPL-2.0-only

//! A scan: one time through all memory that may be merged.

use crate::{
    anon::{
        self,
        content::{
            Key,
            Rank, //
        },
        merge::{
            FoundReservation,
            JoinReservation, //
        },
        Anon, //
    },
    anon_vma::family::Sharing,
    detached::{
        Detached,
        Mappings, //
    },
    errno::EHWPOISON,
    gfp,
    helpers,
    index::{
        Index,
        Pages, //
    },
    process::ChargeTo,
    stats,
    vma::{
        mm_state::MmState,
        VmaState, //
    }, //
};
use core::ptr;
use kernel::{
    alloc::Flags,
    bindings,
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// What the user has chosen.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    /// How many pages are looked at between two sleeps.
    pub(super) pages: u32,
    /// Whether pages of different families may share a frame.
    pub(super) across_families: bool,
    /// How many may share one.
    pub(super) most: usize,
}

/// Where the scanner is, and what it has found.
pub(super) struct Scan {
    /// The address space, and the page number of the address there, that are next.
    mm: usize,
    page: u64,
    /// How many pages are left up to the next sleep.
    left: u32,
    /// The number of the scan, of which 0 is none.
    number: u32,
    /// The frames of pages that have not changed since the scan before, by what they contained then. They may have others by now.
    candidates: RBTree<Key, u64>,
    /// How many pages have changed since the scan before.
    volatile: u64,
    /// What hashes begin with, so that nobody can make pages with the same.
    seed: u64,
}

/// A page to be looked at, and its frame then.
struct Seen<'a> {
    mm: &'a Mm,
    state: &'a VmaState,
    anon: &'a Anon,
    pfn: u64,
    most: usize,
}

impl Scan {
    /// How many pages are taken from an amap at a time.
    const BATCH: usize = 16;

    /// How many pages are looked at before others get their turn, and candidates forgotten.
    const PORTION: u32 = 256;

    pub(super) fn new() -> Self {
        Self {
            mm: 0,
            page: 0,
            left: 0,
            number: 1,
            candidates: RBTree::new(),
            volatile: 0,
            // SAFETY: No requirements.
            seed: unsafe { bindings::get_random_u64() },
        }
    }

    /// Looks at some pages. Whether it is time to sleep.
    pub(super) fn go_on(&mut self, chosen: Chosen) -> bool {
        let start = Instant::<Monotonic>::now();
        if self.left == 0 {
            self.left = chosen.pages;
        }
        let mut portion = self.left.min(Self::PORTION);
        self.left -= portion;
        while portion > 0 {
            let Some(mm_state) = MmState::first_from(self.mm) else {
                if self.forget_some() {
                    self.end();
                }
                break;
            };
            let cost = self.scan_some(&mm_state, chosen);
            portion = portion.saturating_sub(cost);
        }
        stats::SCAN_TIME.add(start.elapsed().as_nanos() as u64);
        self.left == 0
    }

    /// Ends the scan; the next one begins.
    fn end(&mut self) {
        stats::PAGES_VOLATILE.set(self.volatile);
        stats::FULL_SCANS.inc();
        (self.mm, self.page, self.volatile, self.left) = (0, 0, 0, 0);
        self.number = self.number.checked_add(1).unwrap_or(1);
    }

    /// Forgets some candidates; whether that was all.
    pub(super) fn forget_some(&mut self) -> bool {
        for _ in 0..Self::PORTION {
            let Some(first) = self.candidates.cursor_front_mut() else {
                return true;
            };
            let _ = first.remove_current();
            stats::PAGES_UNSHARED.dec();
        }
        false
    }

    /// The scanner stops, when all candidates are forgotten. When it goes on, that is with a new scan.
    pub(super) fn stop(&mut self) {
        stats::PAGES_VOLATILE.set(0);
        (self.mm, self.page, self.volatile, self.left) = (0, 0, 0, 0);
        self.number = self.number.checked_add(1).unwrap_or(1);
    }

    /// Looks at some pages of an address space, a batch at most. Returns how many; a VMA without any counts for one.
    fn scan_some(&mut self, mm_state: &MmState, chosen: Chosen) -> u32 {
        if mm_state.key() != self.mm {
            (self.mm, self.page) = (mm_state.key(), 0);
        }
        let next = {
            let vmas = mm_state.vmas().lock();
            let mut behind = vmas.overlapping(Pages::from_first(self.page));
            behind
                .next()
                .map(|(covered, state)| (covered, state.clone()))
        };
        let Some((covered, state)) = next else {
            (self.mm, self.page) = (mm_state.key() + 1, 0);
            return 1;
        };
        let mut batch = [const { None }; Self::BATCH];
        let behind = match self.take(mm_state, &state, covered, &mut batch[..]) {
            Some(last) => last + 1,
            None => covered.last() + 1,
        };
        for anon in batch.iter().flatten() {
            self.look_at(mm_state, &state, anon, chosen);
        }
        self.page = behind;
        (batch.iter().flatten().count() as u32).max(1)
    }

    /// Takes anons of `state` into `batch`, from the next page on. Returns the page number of the last one if there can be more.
    fn take(
        &self,
        mm_state: &MmState,
        state: &Arc<VmaState>,
        covered: Pages,
        batch: &mut [Option<ARef<Anon>>],
    ) -> Option<u64> {
        // Whoever inherits shared memory writes to it.
        if state.amap().sharing() == Sharing::Shared || !is_mergeable(mm_state, state) {
            return None;
        }
        let pages = covered.common(Pages::from_first(self.page))?;
        let asked = state.base().indices(pages.addresses()).ok()?;
        // What is locked in memory (`mlock()`) is to be mapped all the time.
        let vma = state.rmap_vma();
        if vma.is_locked(&vma.family().i_mmap(), asked.first()) {
            return None;
        }
        let slots = state.amap().lock();
        let indices = asked.common(state.links(&slots)?.indices())?;
        let (first, last) = (indices.first().0, indices.last().0);
        let mut places = batch.iter_mut();
        for (index, slot) in slots.anons.iter_range(first, last) {
            let place = places.next()?;
            *place = Some(slot.value.anon());
            if places.len() == 0 {
                return Some((state.base().address(Index(index)) >> PAGE_SHIFT) as u64);
            }
        }
        None
    }

    /// Looks at `anon`, which `state` had a moment ago, and merges it if it can.
    fn look_at(&mut self, mm_state: &MmState, state: &VmaState, anon: &Anon, chosen: Chosen) {
        // Others can have it, too.
        if !anon.scanned.begin(self.number) {
            return;
        }
        stats::PAGES_SCANNED.inc();
        if anon.is_merged() {
            return;
        }
        let (pfn, hash);
        {
            let content = anon.lock();
            if !content.may_be_copied() || content.is_migrating() || content.is_in_use() {
                return;
            }
            pfn = content.pfn();
            hash = content.page().hash(self.seed);
        }
        let family = anon.anon_vma().family();
        let key = Key::new(hash, (!chosen.across_families).then_some(family));
        let seen = Seen {
            mm: mm_state.mm(),
            state,
            anon,
            pfn,
            most: chosen.most,
        };
        // What finds no memory, or is in use, is left for the next scan.
        match seen.join_any(key) {
            Err(error) if error == ENOENT => (),
            _ => return,
        }
        if anon.scanned.note_hash(hash) {
            self.volatile += 1;
            return;
        }
        if seen.is_zeroes() {
            // A VMA that can't be asked just now can be in the next scan.
            match seen.may_go() {
                Some(true) => {
                    let _ = seen.give_up_zeroes();
                    return;
                }
                Some(false) => (),
                None => return,
            }
        }
        if let Some(other_pfn) = self.candidates.get(&key).copied() {
            // By now another page can be there, which may not be merged.
            let is_it = |other: &ARef<Anon>| {
                other.scanned.is_of(self.number)
                    && !ptr::eq::<Anon>(&**other, anon)
                    && !other.is_merged()
                    && (chosen.across_families || Arc::ptr_eq(other.anon_vma().family(), family))
            };
            let other = anon::lookup(other_pfn).filter(is_it);
            if other.is_some_and(|other| seen.merge(&other, other_pfn, key).is_ok()) {
                self.forget_candidate(&key);
                return;
            }
        }
        self.add_candidate(&seen, key);
    }

    fn forget_candidate(&mut self, key: &Key) {
        if self.candidates.remove(key).is_some() {
            stats::PAGES_UNSHARED.dec();
        }
    }

    fn add_candidate(&mut self, seen: &Seen<'_>, key: Key) {
        let _charged = ChargeTo::new(seen.mm);
        // Without memory it is one in the next scan.
        let added = self
            .candidates
            .try_create_and_insert(key, seen.pfn, flags());
        if added.is_ok_and(|old| old.is_none()) {
            stats::PAGES_UNSHARED.inc();
        }
    }
}

/// Whether the pages of `state` may share frames.
fn is_mergeable(mm_state: &MmState, state: &VmaState) -> bool {
    let mm = mm_state.mm().as_raw();
    // SAFETY: The `mm_struct` is live.
    state.amap().is_mergeable() || unsafe { helpers::anon_rmap_mm_merges_any(mm) }
}

/// How memory is allocated for merging: it is charged to who has the page, and nobody reclaims any or is killed for it.
fn flags() -> Flags {
    GFP_NOWAIT | gfp::account() | __GFP_NOWARN
}

impl Seen<'_> {
    /// Whether there are zeroes only, for now.
    fn is_zeroes(&self) -> bool {
        self.anon.lock().page().is_zeroes()
    }

    /// Lets the anon join others in a frame with this key. [`ENOENT`] if there is none that it could ever join; other errors are those of the
    /// parts.
    fn join_any(&self, key: Key) -> Result {
        let mut from = Rank::first_of(key);
        while let Some((rank, other)) = anon::merge::find(from, self.most) {
            match self.join(&other) {
                Err(error) if [EMLINK, EHWPOISON, EINVAL].contains(&error) => from = rank.next(),
                result => return result,
            }
        }
        Err(ENOENT)
    }

    fn join(&self, other: &Anon) -> Result {
        let reservation = {
            let _charged = ChargeTo::new(self.mm);
            JoinReservation::new(flags())?
        };
        let (detached, migration) = Detached::new(self.anon, self.pfn, Mappings::All)?;
        let joined = migration.join(other, self.most, reservation);
        detached.map_again();
        joined
    }

    /// Puts both into one frame, that of `other`, which is `other_pfn`. Errors are those of the parts.
    fn merge(&self, other: &Anon, other_pfn: u64, key: Key) -> Result {
        let (join, found) = {
            let _charged = ChargeTo::new(self.mm);
            (
                JoinReservation::new(flags())?,
                FoundReservation::new(flags())?,
            )
        };
        let (others, others_migration) = Detached::new(other, other_pfn, Mappings::All)?;
        let own = Detached::new(self.anon, self.pfn, Mappings::All);
        let merged = own.and_then(|(own, migration)| {
            let merged = match migration.is_equal(&others_migration) {
                true => others_migration.found(key, found),
                false => Err(EINVAL),
            };
            let joined = merged.and_then(|()| migration.join(other, self.most, join));
            own.map_again();
            joined
        });
        others.map_again();
        merged
    }

    /// Whether nobody finds out that the page has gone: without one, only the VMA can say that it was written (soft-dirty). It does, unless
    /// somebody uses that. `None` if it can't be asked just now.
    fn may_go(&self) -> Option<bool> {
        let vma = self.state.rmap_vma();
        vma.is_soft_dirty(&vma.family().i_mmap(), self.anon.index())
    }

    /// Takes the page, which has only zeroes, out of the amap: whoever reads there finds those that all share. Errors are those of the
    /// parts; [`EBUSY`] if it is in use.
    fn give_up_zeroes(&self) -> Result {
        let (detached, migration) = Detached::new(self.anon, self.pfn, Mappings::All)?;
        // Not if somebody has begun meanwhile to ask what is written.
        let removed = match migration.is_zeroes() && self.may_go() == Some(true) {
            true => {
                let _charged = ChargeTo::new(self.mm);
                self.state.amap().remove(self.anon, flags())
            }
            false => Err(EBUSY),
        };
        drop(migration);
        detached.map_again();
        if removed?.is_some() {
            stats::ZERO_PAGES.inc();
        }
        Ok(())
    }
}
