// SPDX-License-Identifier: GPL-2.0

//! What a check of all trees needs to see of them.

use super::{
    AnonVma,
    Links, //
};
use crate::{
    index::Base,
    interval_tree::{
        Interval,
        Violation, //
    }, //
};
use core::ptr;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A link of a VMA as a tree has it.
pub(crate) struct SeenAvc {
    pub(crate) mm: ARef<Mm>,
    pub(crate) base: Base,
    pub(crate) interval: Interval,
}

impl AnonVma {
    /// Checks the tree in itself.
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        self.avcs.lock().tree.verify()
    }

    /// The links in the tree; [`ENOMEM`].
    pub(crate) fn avcs(&self) -> Result<KVec<SeenAvc>> {
        let mut seen = KVec::new();
        loop {
            let avcs = self.avcs.lock();
            let len = avcs.tree.len();
            if len <= seen.capacity() {
                for (interval, avc) in avcs.tree.iter() {
                    // There is room: checked above.
                    let _ = seen.push_within_capacity(SeenAvc {
                        mm: avc.mm.clone(),
                        base: avc.base,
                        interval,
                    });
                }
                return Ok(seen);
            }
            drop(avcs);
            seen.reserve(len, GFP_KERNEL)?;
        }
    }

    /// Whether the tree has the link `seen`.
    pub(crate) fn has(&self, seen: &SeenAvc) -> bool {
        let avcs = self.avcs.lock();
        let mut overlapping = avcs
            .tree
            .overlapping(Interval::point(seen.interval.start()));
        overlapping.any(|(interval, avc)| {
            interval == seen.interval
                && avc.base == seen.base
                && ptr::eq(avc.mm.as_raw(), seen.mm.as_raw())
        })
    }
}

impl Links {
    /// The trees into which the VMA is linked.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Arc<AnonVma>> {
        self.links.iter().map(|link| &link.anon_vma)
    }

    /// Whether each tree has the VMA's link with the VMA's interval, for `mm` and `base`.
    pub(crate) fn are_right(&self, mm: &Mm, base: Base) -> bool {
        self.links.iter().all(|link| {
            let avcs = link.anon_vma.avcs.lock();
            let right = avcs.tree.interval(&link.avc) == Ok(self.interval)
                && avcs
                    .tree
                    .value(&link.avc)
                    .is_ok_and(|avc| avc.base == base && ptr::eq(avc.mm.as_raw(), mm.as_raw()));
            right
        })
    }
}
