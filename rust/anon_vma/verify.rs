// SPDX-License-Identifier: GPL-2.0

//! What a check of all trees needs to see of them.

use super::{
    AnonVma,
    Links, //
};
use crate::{
    interval_tree::{
        Interval,
        Violation, //
    },
    rmap_vma::RmapVma, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A link of a VMA as a tree has it.
pub(crate) struct SeenAvc {
    pub(crate) vma: Arc<RmapVma>,
    pub(crate) interval: Interval,
}

impl AnonVma {
    /// Checks the tree in itself.
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        self.tree.lock().verify()
    }

    /// The links in the tree; [`ENOMEM`].
    pub(crate) fn avcs(&self) -> Result<KVVec<SeenAvc>> {
        let mut seen = KVVec::new();
        loop {
            let tree = self.tree.lock();
            let len = tree.len();
            if len <= seen.capacity() {
                for (interval, avc) in tree.iter() {
                    // There is room: checked above.
                    let _ = seen.push_within_capacity(SeenAvc {
                        vma: avc.vma.clone(),
                        interval,
                    });
                }
                return Ok(seen);
            }
            drop(tree);
            seen.reserve(len, GFP_KERNEL)?;
        }
    }

    /// Whether the tree has the link `seen`.
    pub(crate) fn has(&self, seen: &SeenAvc) -> bool {
        let tree = self.tree.lock();
        let start = Interval::point(seen.interval.start());
        let mut overlapping = tree.overlapping(start);
        overlapping
            .any(|(interval, avc)| interval == seen.interval && Arc::ptr_eq(&avc.vma, &seen.vma))
    }
}

impl Links {
    /// The trees into which the VMA is linked.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Arc<AnonVma>> {
        self.links.iter().map(|link| &link.anon_vma)
    }

    /// Whether each tree has the link of `vma` with the VMA's interval.
    pub(crate) fn are_right(&self, vma: &Arc<RmapVma>) -> bool {
        self.links.iter().all(|link| {
            let tree = link.anon_vma.tree.lock();
            let right = tree.interval(&link.avc) == Ok(self.interval)
                && tree
                    .value(&link.avc)
                    .is_ok_and(|avc| Arc::ptr_eq(&avc.vma, vma));
            right
        })
    }
}
