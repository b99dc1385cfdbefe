// SPDX-License-Identifier: GPL-2.0-only

//! A check of the whole rmap: each interval tree in itself, its links against the VMAs, and the page tables against the
//! amaps.
//!
//! Processes go on meanwhile. A link that looks wrong may be on its way out, and is looked at again when its
//! process is not changing its mappings: the only place where the driver takes the mmap lock of another process. That
//! each entry of a page table maps what the amap holds is a rule with the amap locked, and is checked so.

use crate::{
    anon_vma::{
        family::Sharing,
        rmap_vma::Entry,
        verify::SeenAvc,
        AnonVma, //
    },
    failure::Place,
    helpers,
    index::Pages,
    interval_tree::Violation,
    memory_failure,
    process,
    vma::{
        mm_state::MmState,
        VmaState, //
    }, //
};
use core::ops::ControlFlow;
use kernel::{
    mm::MmWithUser,
    prelude::*,
    rbtree::RBTree,
    sync::Arc, //
};

/// Trees by the address of their anon_vma.
type Trees = RBTree<usize, Arc<AnonVma>>;

/// Something that is wrong.
pub(crate) enum Wrong {
    /// A tree, in itself.
    Tree(Violation),
    /// The links of the VMA at this place: their intervals are not the VMA's, or a tree lacks one.
    Links(Place),
    /// A link in a tree, for this place, where no VMA has it.
    Avc(Place),
    /// A page table entry at this place, which maps what the amap does not hold there.
    Entry(Place),
    /// A page table entry at this place of a kind that the driver does not know.
    Marker(Place),
    /// A page table entry at this place, which maps a page that has failed.
    Poisoned(Place),
}

/// What came of a check.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) vmas: usize,
    pub(crate) trees: usize,
    pub(crate) avcs: usize,
    pub(crate) entries: usize,
    /// What is wrong, the first [`MAX_WRONG`] of it.
    pub(crate) wrong: KVec<Wrong>,
    /// How much more is.
    pub(crate) more_wrong: usize,
}

/// Things that are wrong which are described; all are counted. Their lines fit into a page.
const MAX_WRONG: usize = 24;

impl Report {
    /// Adds something that is wrong; [`ENOMEM`].
    fn add(&mut self, wrong: Wrong) -> Result {
        if self.wrong.len() < MAX_WRONG {
            self.wrong.push(wrong, GFP_KERNEL_ACCOUNT)?;
        } else {
            self.more_wrong += 1;
        }
        Ok(())
    }
}

/// Checks everything; [`ENOMEM`].
///
/// Takes O(n log n) for n links and n page table entries, and for each tree once the time of going through it under its lock.
/// Sleeps; takes the mmap lock of a process where something looks wrong, so the caller must hold none.
///
/// # Errors
///
/// [`ENOMEM`]; [`EINTR`] if the current task is being killed.
pub(crate) fn check() -> Result<Report> {
    let mut report = Report::default();
    let mut trees = Trees::new();
    for mm_state in MmState::all() {
        for state in mm_state.states() {
            report.vmas += 1;
            check_entries(&state, &mut report)?;
            if let Some(place) = check_links(&mm_state, &state, &mut trees)? {
                report.add(Wrong::Links(place))?;
            }
        }
    }
    for tree in trees.values() {
        report.trees += 1;
        if let Err(violation) = tree.verify() {
            report.add(Wrong::Tree(violation))?;
        }
        tree.each_avc(|avc| {
            if process::is_current_killed() {
                return Err(EINTR);
            }
            report.avcs += 1;
            if !has_vma(tree, avc) {
                let place = avc.vma.place(avc.indices.first());
                report.add(Wrong::Avc(place))?;
            }
            Ok(())
        })?;
    }
    Ok(report)
}

/// Checks the page table entries of one VMA.
fn check_entries(state: &VmaState, report: &mut Report) -> Result {
    let vma = state.rmap_vma();
    let Some(addresses) = state.range() else {
        return Ok(());
    };
    let mut rest = Some(state.base().indices(addresses)?);
    while let Some(indices) = rest {
        if process::is_current_killed() {
            return Err(EINTR);
        }
        // While entries are moving, they are ahead of the amap.
        if state.is_moving_here() {
            return Ok(());
        }
        let mut wrong = None;
        {
            let i_mmap = vma.family().i_mmap();
            let slots = state.amap().lock();
            rest = vma.entries(&i_mmap, indices, |index, entry| {
                report.entries += 1;
                let place = || vma.place(index);
                wrong = match entry {
                    Entry::KnownMarker => None,
                    // It stands for what nobody has written.
                    Entry::Zeroes => (slots.anons.get(index.0).is_some()
                        || !slots.has_mapped_zeroes
                        || state.amap().sharing() == Sharing::Shared)
                        .then(|| Wrong::Entry(place())),
                    Entry::Unknown => Some(Wrong::Marker(place())),
                    Entry::Page(pfn) => {
                        let slot = slots.anons.get(index.0);
                        let content = slot.as_ref().map(|slot| slot.value.lock());
                        match content {
                            // When no failure is under way any more, and the entry is still there.
                            Some(content) if content.pfn() == pfn => (content.is_taken_away()
                                && !memory_failure::is_under_way()
                                && vma.maps(&i_mmap, index, pfn))
                            .then(|| Wrong::Poisoned(place())),
                            _ => Some(Wrong::Entry(place())),
                        }
                    }
                };
                if wrong.is_some() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        if let Some(wrong) = wrong {
            report.add(wrong)?;
        }
    }
    Ok(())
}

/// Checks the links of one VMA, and adds their trees to `trees`. Returns where the VMA is if they are
/// wrong; [`ENOMEM`].
fn check_links(mm_state: &MmState, state: &VmaState, trees: &mut Trees) -> Result<Option<Place>> {
    let right = links_are_right(state, trees)?;
    if right.is_none_or(|right| right) {
        return Ok(None);
    }
    let Some(mm) = mm_state.mm().mmget_not_zero() else {
        return Ok(None);
    };
    let mm = MmWithUser::into_mmput_async(mm);
    let mmap_lock = mm.mmap_read_lock();
    let right = links_are_right(state, trees)?;
    drop(mmap_lock);
    Ok(state
        .range()
        .filter(|_| right == Some(false))
        .map(|addresses| Place::in_mm(mm_state.mm(), addresses.start)))
}

/// Whether the links of a VMA have its interval; `None` if it has been closed. Adds their trees to `trees`.
fn links_are_right(state: &VmaState, trees: &mut Trees) -> Result<Option<bool>> {
    let Some(addresses) = state.range() else {
        return Ok(None);
    };
    let indices = state.base().indices(addresses)?;
    let right = {
        let slots = state.amap().lock();
        let Some(links) = state.links(&slots) else {
            return Ok(None);
        };
        // A VMA that has grown is known to have when it maps something there.
        let known = links.indices();
        known.first() == indices.first()
            && known.last() <= indices.last()
            && links.are_right(state.rmap_vma())
    };
    let mut add = |tree: Arc<AnonVma>| -> Result {
        let key = Arc::as_ptr(&tree) as usize;
        if trees.get(&key).is_none() {
            trees.try_create_and_insert(key, tree, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    };
    let nth_linked = |n| {
        let slots = state.amap().lock();
        state.links(&slots)?.tree(n)
    };
    add(state.amap().anon_vma().clone())?;
    for tree in (0..).map_while(nth_linked) {
        add(tree)?;
    }
    Ok(Some(right))
}

/// Whether a VMA has the link `avc` of `tree`.
fn has_vma(tree: &Arc<AnonVma>, avc: &SeenAvc) -> bool {
    if has_vma_now(tree, avc) {
        return true;
    }
    // A process without users is unlinking all.
    let Some(mm) = avc.vma.mm().mmget_not_zero() else {
        return true;
    };
    let mm = MmWithUser::into_mmput_async(mm);
    // Whoever closes, splits or moves a VMA has the mmap lock.
    // SAFETY: `mm` has users, and the lock is not held.
    unsafe { helpers::anon_rmap_mmap_write_lock(mm.as_raw()) };
    let gone_or_found = !tree.has(avc) || has_vma_now(tree, avc);
    // SAFETY: Locked above.
    unsafe { helpers::anon_rmap_mmap_write_unlock(mm.as_raw()) };
    gone_or_found
}

fn has_vma_now(tree: &Arc<AnonVma>, avc: &SeenAvc) -> bool {
    let first = avc.vma.base().address(avc.indices.first());
    let state = MmState::of(avc.vma.mm()).and_then(|mm_state| {
        let vmas = mm_state.vmas().lock();
        let mut here = vmas.overlapping(Pages::at(first));
        let state = here.find(|(_, state)| Arc::ptr_eq(state.rmap_vma(), &avc.vma));
        state.map(|(_, state)| state.clone())
    });
    state.is_some_and(|state| {
        let slots = state.amap().lock();
        state
            .links(&slots)
            .is_some_and(|links| links.indices() == avc.indices && links.contains(tree))
    })
}
