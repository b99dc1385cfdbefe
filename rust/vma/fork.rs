// SPDX-License-Identifier: GPL-2.0-only

//! fork: a child shares what the parent has, copy-on-write.

use super::{
    locked::{
        VmaMut,
        VmaNew, //
    },
    notifier::Subscription,
    VmaState, //
    VmaStateReservation,
};
use crate::{
    amap::Amap,
    anon::{
        share::Share,
        Anon, //
    },
    anon_vma::{
        family::{
            Sharing,
            MAX_INDEX, //
        },
        AnonVma,
        Links, //
    },
    commit_charge::Charge,
    errno::EHWPOISON,
    index::{
        Index,
        Indices,
        Pages, //
    }, //
};
use core::ops::Range;
use kernel::prelude::*;

impl VmaMut<'_> {
    /// Gives `vma`, in another address space, what this VMA has. [`ENOMEM`].
    pub(super) fn fork(self, vma: &VmaNew<'_>) -> Result {
        // Whatever becomes of the rest: if core mm goes on to copy the page tables, it must find no page there. The child
        // would map it without the rmap knowing. What it copies then are markers, which no zap removes.
        if vma.is_copied_on_fork() {
            self.zap_as_written(self.range());
        }
        let mm_state = Subscription::new_uninterruptible(vma.mm())?;
        let result = self.fork_into(&mm_state, vma);
        if result.is_err() {
            // What is left over must be dropped here, where it may sleep.
            let _amap = mm_state.vmas().lock().forget_fork_if_empty();
        }
        result
    }

    /// As [`Self::fork`], into the address space of `mm_state`.
    fn fork_into(self, mm_state: &Subscription, vma: &VmaNew<'_>) -> Result {
        let parent = self.state();
        let Range { start, end } = vma.range();
        let indices = parent.base().indices(start..end)?;
        if indices.last().0 > MAX_INDEX {
            return Err(ENOMEM);
        }
        // What could not be taken out for want of memory must not be inherited.
        parent.amap().finish_discards()?;
        let family = parent.rmap.family().clone();
        let amap = match parent.amap().sharing() {
            Sharing::Shared => parent.amap().clone(),
            Sharing::Private => mm_state.amap_of_fork(parent.amap().id(), || {
                let anon_vma = AnonVma::new(family.clone())?;
                Amap::new(Sharing::Private, anon_vma, parent.amap().is_mergeable())
            })?,
        };
        if parent.amap().lock().lost {
            amap.lock().lost = true;
        }
        let subscription = Subscription::new(vma.mm())?;
        let windows = [parent.rmap.window(); 2];
        let mut reserved =
            VmaStateReservation::new(subscription, family, amap, parent.base(), windows, 0)?;
        if parent.is_charged() {
            reserved.charge = Some(Charge::for_addresses(start..end)?);
        }
        if parent.amap().sharing() == Sharing::Private {
            self.share_with_child(indices, reserved.state.amap())?;
        }
        let pages = Pages::of(start..end)?;
        // What the parent's entries say is not known here.
        vma.set_soft_dirty();
        VmaState::publish(reserved, vma, pages, Links::new(indices));
        Ok(())
    }

    /// Shares `indices` with `child`, copy-on-write. What the parent may still write is made read-only first: only parts
    /// written since the last fork are looked at, also when its child has ended. The entries stay, as those of anonymous
    /// memory do; the child has none yet.
    fn share_with_child(self, indices: Indices, child: &Amap) -> Result {
        let parent = self.state();
        let mut from = indices.first().0;
        let mut is_settled = true;
        loop {
            let run = parent
                .amap()
                .lock()
                .anons
                .next_unsettled(from, indices.last().0);
            let Some(run) = run.and_then(|(first, last)| Indices::new(Index(first), Index(last)))
            else {
                break;
            };
            is_settled = false;
            let family = parent.rmap.family();
            if !family.write_protect(parent.rmap.window(), run) {
                self.zap_as_written(parent.base().addresses(run));
            }
            if run.last() >= indices.last() {
                break;
            }
            from = run.last().0 + 1;
        }

        // From here on nobody writes through a page table, but a device may, to pages that are
        // pinned: these stay the parent's, and the child gets a copy.
        let pinned = match is_settled {
            true => KVVec::new(),
            false => parent.give_up_exclusivity(indices)?,
        };
        parent.amap().set_forked();
        child.set_forked();
        parent.amap().share_range(indices, child)?;
        for index in pinned {
            if let Err(error) = parent.copy_to_child(index, child) {
                child
                    .remove_range(indices)
                    .inspect_err(|_| child.lock().lost = true)?;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl VmaState {
    /// Makes the pages at `indices`, which nobody can write to through a page table, ones that may be shared, but for those that are
    /// pinned: these are returned. What is settled is neither writable nor exclusive. [`ENOMEM`].
    fn give_up_exclusivity(&self, indices: Indices) -> Result<KVVec<Index>> {
        let mut pinned = KVVec::new();
        loop {
            let mut count = 0;
            pinned.clear();
            {
                let (first, last) = (indices.first().0, indices.last().0);
                let give_up = |index, share: &Share| {
                    let mut content = share.lock();
                    let is_pinned = content.is_exclusive() && content.maybe_dma_pinned();
                    if is_pinned {
                        count += 1;
                        // What finds no room is counted, and found again below.
                        let _ = pinned.push_within_capacity(Index(index));
                    } else {
                        content.set_exclusive(false);
                    }
                    !is_pinned
                };
                self.amap().lock().anons.settle(first, last, give_up);
            }
            if count <= pinned.len() {
                return Ok(pinned);
            }
            pinned.clear();
            pinned.reserve(count, GFP_KERNEL_ACCOUNT)?;
        }
    }

    /// Replaces the page at `index`, which `child` shares with us, by a copy.
    fn copy_to_child(&self, index: Index, child: &Amap) -> Result {
        let Some(anon) = self.amap().lock().anon(index) else {
            return Ok(());
        };
        let copy = match Anon::copy_of(&anon, child.anon_vma()) {
            // Nobody can use it, so that the child inherits it makes no difference to the parent. If it is kept, who writes to it
            // is refused, too, until one of them is left.
            Err(error) if error == EHWPOISON => {
                anon.lock().set_exclusive(false);
                return Ok(());
            }
            result => result?.0,
        };
        child.insert(copy)
    }
}
