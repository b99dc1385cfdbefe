// SPDX-License-Identifier: GPL-2.0-only

//! Where the mappings of a page can be found: the anon_vma and its links to VMAs.
//!
//! An [`AnonVma`] holds one interval tree. An interval is what one VMA covers of the index space,
//! and belongs to an [`Avc`] (anon_vma_chain), the link of that VMA into that tree. A VMA is linked
//! just before it first maps a page of the anon_vma, so a process that inherits a mapping and never
//! touches it is in no tree.

use crate::{
    index::Indices,
    inline_vec::InlineVec,
    interval_tree::{
        IntervalTree,
        IntervalTreeLink,
        IntervalTreeNode,
        Position, //
    },
    stats, //
};
use core::mem;
use family::Family;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    warn_on, //
};
use rmap_vma::RmapVma;

pub(crate) mod family;
pub(crate) mod rmap_mm;
pub(crate) mod rmap_vma;
pub(crate) mod verify;

/// The link of one VMA into one anon_vma: where the VMA maps an index.
pub(crate) struct Avc {
    vma: Arc<RmapVma>,
}

impl Avc {
    /// Reserves what linking needs; [`ENOMEM`].
    fn reserve(vma: &Arc<RmapVma>) -> Result<IntervalTreeNode<Self>> {
        vma.mm().new_node(Self { vma: vma.clone() })
    }

    /// Links a VMA that covers `indices` into `tree`.
    fn insert(
        tree: &mut IntervalTree<Self>,
        avc: IntervalTreeNode<Self>,
        indices: Indices,
    ) -> IntervalTreeLink<Self> {
        let vma = avc.vma.clone();
        let (link, surplus) = tree.insert(avc, indices.into());
        vma.mm().keep_surplus(surplus);
        stats::AVCS.inc();
        link
    }
}

/// A place where pages may be mapped: a VMA, and its indices of those asked for.
pub(crate) struct Mapping {
    pub(crate) vma: Arc<RmapVma>,
    pub(crate) indices: Indices,
}

/// What a walk has cost so far, or several.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Tree nodes visited.
    pub(crate) nodes: u64,
    /// VMAs in the tree.
    pub(crate) vmas: u64,
    /// VMAs found, which cover an index of those asked for.
    pub(crate) mappings: u64,
}

impl Cost {
    /// Adds what another one has cost.
    pub(crate) fn add(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.vmas += other.vmas;
        self.mappings += other.mappings;
    }
}

/// A walk through a tree, in portions: it holds the tree's lock for one at a time, and needs no memory but this.
///
/// Each link that is there from the first portion to the last is found once, or once more when its VMA has been split
/// meanwhile: what covers an index only moves forward in the order of a tree.
pub(crate) struct Walk {
    range: Indices,
    position: Option<Position>,
    portion: [Option<Mapping>; Self::PORTION],
    pub(crate) cost: Cost,
    /// Whether the last portion has been found.
    pub(crate) is_over: bool,
    /// How many VMAs were in the tree at the start.
    vmas_at_start: u64,
}

impl Walk {
    /// Links that are found at a time. Most pages have one.
    pub(crate) const PORTION: usize = 8;

    /// A walk that is to find what covers a part of `range`.
    pub(crate) fn new(range: Indices) -> Self {
        stats::WALKS.inc();
        Self {
            range,
            position: None,
            portion: [const { None }; Self::PORTION],
            cost: Cost::default(),
            is_over: false,
            vmas_at_start: 0,
        }
    }

    /// Whether more has been found than was there at the start: others link VMAs as fast as this goes on.
    pub(crate) fn is_chasing(&self) -> bool {
        self.cost.mappings > 2 * self.vmas_at_start + Self::PORTION as u64
    }

    /// The next portion, to be taken out one by one. Takes O(log n + k), and the square of the first for each
    /// portion but the first. Takes the tree's lock.
    pub(crate) fn next(&mut self, anon_vma: &AnonVma) -> impl Iterator<Item = Mapping> + '_ {
        {
            let tree = anon_vma.tree.lock();
            let mut found = match self.position {
                None => {
                    self.vmas_at_start = tree.len() as u64;
                    tree.overlapping(self.range)
                }
                Some(position) => tree.overlapping_after(self.range, position),
            };
            for place in &mut self.portion {
                *place = found.next().map(|(covered, avc)| Mapping {
                    vma: avc.vma.clone(),
                    indices: Indices::from(covered)
                        .common(self.range)
                        .unwrap_or(self.range),
                });
                if place.is_none() {
                    self.is_over = true;
                    break;
                }
                self.cost.mappings += 1;
            }
            self.position = found.resume_position().or(self.position);
            self.cost.nodes += found.visited() as u64;
            self.cost.vmas = tree.len() as u64;
            stats::WALK_NODES.add(found.visited() as u64);
        }
        self.portion.iter_mut().map_while(Option::take)
    }
}

/// What anons point to so that their mappings can be found.
///
/// Its lock is the innermost of the driver: mmap lock, amap, anon, anon_vma. Nothing is allocated
/// under it.
#[pin_data(PinnedDrop)]
pub(crate) struct AnonVma {
    family: Arc<Family>,
    #[pin]
    tree: Mutex<IntervalTree<Avc>>,
}

impl AnonVma {
    /// An anon_vma without links, for VMAs of `family`; [`ENOMEM`].
    pub(crate) fn new(family: Arc<Family>) -> Result<Arc<Self>> {
        let new = Arc::pin_init(
            pin_init!(Self {
                family,
                tree <- new_mutex!(IntervalTree::new(), "anon_vma"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        stats::ANON_VMAS.inc();
        Ok(new)
    }

    /// The family whose VMAs are linked here.
    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.family
    }
}

#[pinned_drop]
impl PinnedDrop for AnonVma {
    fn drop(self: Pin<&mut Self>) {
        stats::ANON_VMAS.dec();
    }
}

/// A part of a VMA that is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the VMA keeps.
    Rest,
    /// What becomes another VMA.
    New,
}

/// One link as the VMA sees it.
struct Link {
    anon_vma: Arc<AnonVma>,
    avc: IntervalTreeLink<Avc>,
    /// By which parts of the VMA it is used; means something only from [`Links::note_use`] until links are split or pruned.
    used: [bool; 2],
}

impl Link {
    /// A link of which nothing is known yet.
    fn new(anon_vma: Arc<AnonVma>, avc: IntervalTreeLink<Avc>) -> Self {
        Self {
            anon_vma,
            avc,
            used: [false; 2],
        }
    }

    /// Takes the VMA out of the tree.
    fn unlink(self) {
        // What was linked is dropped without the lock: it can be the last to hold an address space.
        let avc = self.anon_vma.tree.lock().remove(self.avc);
        // The link is one of this tree.
        warn_on!(avc.is_err());
        stats::AVCS.dec();
    }
}

/// The links of one VMA, guarded by the lock of its amap.
///
/// The interval of each is what the VMA covers.
///
/// # Invariants
///
/// They are in the order of the addresses of their anon_vmas.
pub(crate) struct Links {
    indices: Indices,
    links: InlineVec<Link>,
    /// How often pages had been taken away from the VMA when they were pruned last.
    pub(crate) pruned_at: u64,
}

/// What linking a VMA into more trees takes.
#[derive(Clone, Copy)]
pub(crate) struct LinkNeeds {
    /// How many links it has.
    pub(crate) links: usize,
    /// How many it is to get.
    more: usize,
    /// For how many there has to be new room; 0 if there is room.
    pub(crate) room: usize,
}

/// What linking a VMA into some trees needs.
#[derive(Default)]
pub(crate) struct LinksReservation {
    avcs: InlineVec<IntervalTreeNode<Avc>>,
    room: InlineVec<Link>,
}

impl LinksReservation {
    /// Reserves `links` links for a VMA without any; [`ENOMEM`].
    pub(crate) fn new(vma: &Arc<RmapVma>, links: usize) -> Result<Self> {
        Self::with_room(vma, links, links)
    }

    /// Reserves links for a VMA with these `needs`; [`ENOMEM`].
    pub(crate) fn for_more(vma: &Arc<RmapVma>, needs: LinkNeeds) -> Result<Self> {
        Self::with_room(vma, needs.more, needs.room)
    }

    fn with_room(vma: &Arc<RmapVma>, links: usize, room: usize) -> Result<Self> {
        let mut avcs = InlineVec::with_capacity(links, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..links {
            let _ = avcs.push_within_capacity(Avc::reserve(vma)?);
        }
        Ok(Self {
            avcs,
            room: InlineVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// Whether no link is left in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.avcs.is_empty()
    }
}

impl Links {
    /// No links, of a VMA that covers `indices`.
    pub(crate) fn new(indices: Indices) -> Self {
        Self {
            indices,
            links: InlineVec::new(),
            pruned_at: 0,
        }
    }

    /// The number of links.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// What some `more` take. Room doubles, so that links are moved as often as there are of them, together.
    pub(crate) fn needs(&self, more: usize) -> LinkNeeds {
        let links = self.links.len();
        LinkNeeds {
            links,
            more,
            room: match links + more <= self.links.capacity() {
                true => 0,
                false => (2 * links).max(links + more),
            },
        }
    }

    /// What the VMA covers, as far as the rmap knows.
    pub(crate) fn indices(&self) -> Indices {
        self.indices
    }

    /// Whether the VMA is in the tree of `anon_vma`. Takes O(log links).
    #[inline]
    pub(crate) fn contains(&self, anon_vma: &Arc<AnonVma>) -> bool {
        // Most have one.
        if let InlineVec::One(one) = &self.links {
            let is_it = |link: &Link| Arc::ptr_eq(&link.anon_vma, anon_vma);
            return one.as_ref().is_some_and(is_it);
        }
        Self::find(&self.links, anon_vma).is_ok()
    }

    /// Where the link to `anon_vma` is, or would have to be.
    fn find(links: &[Link], anon_vma: &Arc<AnonVma>) -> Result<usize, usize> {
        links.binary_search_by_key(&Arc::as_ptr(anon_vma), |link| Arc::as_ptr(&link.anon_vma))
    }

    /// Links the VMA into the tree of `anon_vma`, in which it is not. False if `reservation` has no link, or too little room for one.
    pub(crate) fn link(
        &mut self,
        anon_vma: &Arc<AnonVma>,
        reservation: &mut LinksReservation,
    ) -> bool {
        let is_full = self.links.len() == self.links.capacity();
        if is_full && reservation.room.capacity() <= self.links.len() {
            return false;
        }
        let Some(avc) = reservation.avcs.pop() else {
            return false;
        };
        if is_full {
            let mut room = mem::take(&mut reservation.room);
            for link in self.links.drain_all() {
                // There is room: checked above.
                let _ = room.push_within_capacity(link);
            }
            self.links = room;
        }
        let avc = Avc::insert(&mut anon_vma.tree.lock(), avc, self.indices);
        let at = Self::find(&self.links, anon_vma).unwrap_or_else(|at| at);
        // There is room: made above.
        let _ = self
            .links
            .push_within_capacity(Link::new(anon_vma.clone(), avc));
        // INVARIANT: All from its place on move by one.
        if let Some(behind) = self.links.get_mut(at..) {
            behind.rotate_right(1);
        }
        true
    }

    /// Notes which links a part of the VMA uses that has pages of `anon_vmas`: all if that takes long to find out.
    pub(crate) fn note_use<'a>(
        &mut self,
        part: Part,
        anon_vmas: impl Iterator<Item = &'a Arc<AnonVma>>,
    ) {
        /// Pages looked at, at most.
        const LOOKS: usize = 8192;

        // A single link is as good as none.
        if let [link] = &mut self.links[..] {
            link.used[part as usize] = true;
            return;
        }
        let mut looks = 0;
        let mut unused = self.links.len();
        for link in self.links.iter_mut() {
            link.used[part as usize] = false;
        }
        for anon_vma in anon_vmas {
            let found = Self::find(&self.links, anon_vma).ok();
            // What was never mapped needs none.
            if let Some(link) = found.and_then(|at| self.links.get_mut(at)) {
                unused -= usize::from(!link.used[part as usize]);
                link.used[part as usize] = true;
            }
            looks += 1;
            if unused == 0 || looks > LOOKS {
                break;
            }
        }
        if looks > LOOKS {
            self.note_all_used(part);
        }
    }

    /// Notes that a part of the VMA may use all links.
    pub(crate) fn note_all_used(&mut self, part: Part) {
        for link in self.links.iter_mut() {
            link.used[part as usize] = true;
        }
    }

    /// Takes the VMA out of trees that [`Part::Rest`], which is all of it, does not use.
    pub(crate) fn prune(&mut self) {
        // INVARIANT: Those that stay, stay in order.
        let mut used = 0;
        for at in 0..self.links.len() {
            if self.links[at].used[Part::Rest as usize] {
                self.links.swap(used, at);
                used += 1;
            }
        }
        while self.links.len() > used {
            if let Some(link) = self.links.pop() {
                link.unlink();
            }
        }
    }

    /// Lets the VMA cover `indices` from now on. Takes O(log n) a link.
    pub(crate) fn resize(&mut self, indices: Indices) {
        self.indices = indices;
        for link in self.links.iter_mut() {
            let updated = link.anon_vma.tree.lock().update(&link.avc, indices.into());
            // The link is one of this tree.
            warn_on!(updated.is_err());
        }
    }

    /// Splits the VMA: it keeps `rest`, and `new` becomes that of another VMA, whose links are
    /// returned. In each tree both happen at once, so a walk finds every index exactly once. Each gets only the links that it uses,
    /// as [noted](Self::note_use).
    ///
    /// Gives the reservation back if it is for fewer links than there are.
    pub(crate) fn split_off(
        &mut self,
        new: Indices,
        rest: Indices,
        reservation: LinksReservation,
    ) -> Result<Self, LinksReservation> {
        let copy = self.copy_with(new, reservation, |link, tree| {
            if link.used[Part::Rest as usize] {
                // The link is one of this tree.
                warn_on!(tree.update(&link.avc, rest.into()).is_err());
            }
            link.used[Part::New as usize]
        })?;
        self.prune();
        self.indices = rest;
        Ok(copy)
    }

    /// Links another VMA, to which pages of this one are about to be moved, wherever this one is
    /// linked. It comes behind this one in each tree.
    ///
    /// Gives the reservation back if it is for fewer links than there are.
    pub(crate) fn copy(
        &mut self,
        new: Indices,
        reservation: LinksReservation,
    ) -> Result<Self, LinksReservation> {
        self.copy_with(new, reservation, |_, _| true)
    }

    /// Links another VMA, that covers `new`, into the trees for which `is_wanted`.
    fn copy_with(
        &mut self,
        new: Indices,
        reservation: LinksReservation,
        mut is_wanted: impl FnMut(&Link, &mut IntervalTree<Avc>) -> bool,
    ) -> Result<Self, LinksReservation> {
        if reservation.avcs.len() < self.links.len() {
            return Err(reservation);
        }
        let LinksReservation { mut avcs, mut room } = reservation;
        for (link, reserved) in self.links.iter().zip(avcs.drain_all()) {
            let mut tree = link.anon_vma.tree.lock();
            if !is_wanted(link, &mut tree) {
                continue;
            }
            let avc = Avc::insert(&mut tree, reserved, new);
            drop(tree);
            // There is room: both vectors were reserved for the same number of links.
            let _ = room.push_within_capacity(Link::new(link.anon_vma.clone(), avc));
        }
        Ok(Self {
            indices: new,
            links: room,
            // Not all may be of use.
            pruned_at: u64::MAX,
        })
    }
}

impl Drop for Links {
    /// Unlinks the VMA from all trees. Must not run under the lock of an anon_vma.
    fn drop(&mut self) {
        while let Some(link) = self.links.pop() {
            link.unlink();
        }
    }
}
