// SPDX-License-Identifier: GPL-2.0-only

//! What a check of all trees needs to see of them.

use super::{
    rmap_vma::RmapVma,
    AnonVma,
    Links, //
};
use crate::{
    index::Indices,
    interval_tree::Violation, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A link of a VMA as a tree has it.
pub(crate) struct SeenAvc {
    pub(crate) vma: Arc<RmapVma>,
    pub(crate) indices: Indices,
}

impl AnonVma {
    /// Checks the tree in itself.
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        self.tree.lock().verify()
    }

    /// Calls `examine` for the links in the tree, without its lock. Takes a portion at a time, as a [`Walk`](super::Walk) does: a
    /// link that stays is found once, or once more when its VMA has been split meanwhile. Ends early if others link VMAs as fast
    /// as this goes on.
    ///
    /// # Errors
    ///
    /// What `examine` returns.
    pub(crate) fn each_avc(&self, mut examine: impl FnMut(&SeenAvc) -> Result) -> Result {
        const PORTION: usize = 32;

        let mut portion = [const { None }; PORTION];
        let mut position = None;
        let mut rest = 2 * self.tree.lock().len() + PORTION;
        while rest >= PORTION {
            {
                let tree = self.tree.lock();
                let mut found = match position {
                    None => tree.iter(),
                    Some(position) => tree.overlapping_after(.., position),
                };
                for place in &mut portion {
                    *place = found.next().map(|(interval, avc)| SeenAvc {
                        vma: avc.vma.clone(),
                        indices: interval.into(),
                    });
                }
                position = found.resume_position();
            }
            for place in &mut portion {
                match place.take() {
                    Some(avc) => examine(&avc)?,
                    None => return Ok(()),
                }
                rest -= 1;
            }
        }
        Ok(())
    }

    /// Whether the tree has the link `seen`.
    pub(crate) fn has(&self, seen: &SeenAvc) -> bool {
        let tree = self.tree.lock();
        let start = Indices::one(seen.indices.first());
        let mut overlapping = tree.overlapping(start);
        overlapping.any(|(interval, avc)| {
            Indices::from(interval) == seen.indices && Arc::ptr_eq(&avc.vma, &seen.vma)
        })
    }
}

impl Links {
    /// The `n`th tree into which the VMA is linked, from 0 on.
    pub(crate) fn tree(&self, n: usize) -> Option<Arc<AnonVma>> {
        self.links.get(n).map(|link| link.anon_vma.clone())
    }

    /// Whether each tree has the link of `vma` with the VMA's interval.
    pub(crate) fn are_right(&self, vma: &Arc<RmapVma>) -> bool {
        self.links.iter().all(|link| {
            let tree = link.anon_vma.tree.lock();
            let right = tree.interval(&link.avc) == Ok(self.indices.into())
                && tree
                    .value(&link.avc)
                    .is_ok_and(|avc| Arc::ptr_eq(&avc.vma, vma));
            right
        })
    }
}
