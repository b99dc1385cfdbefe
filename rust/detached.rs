// SPDX-License-Identifier: GPL-2.0-only

//! A page that is mapped nowhere for a moment, so that it can be moved, compared or shared.

use crate::{
    anon::{
        migration::Migration,
        Anon, //
    },
    map_again::Unmapped,
    rmap, //
};
use kernel::prelude::*;

/// Which mappings of a page go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mappings {
    /// All.
    All,
    /// Those of one of the anons that share it.
    OfAnon,
}

/// An anon whose page is mapped nowhere, as faults on it wait. To be [mapped again](Self::map_again).
pub(crate) struct Detached<'a> {
    anon: &'a Anon,
    unmapped: Unmapped,
    was_soft_dirty: bool,
}

impl<'a> Detached<'a> {
    /// Unmaps the page of `anon`, which is in frame `pfn`, until the migration ends.
    ///
    /// Takes the time of a walk as in [`rmap::unmap`], with its locks.
    ///
    /// # Errors
    ///
    /// Those of [`Anon::begin_migration`], and [`ENOMEM`].
    pub(crate) fn new(
        anon: &'a Anon,
        pfn: u64,
        mappings: Mappings,
    ) -> Result<(Self, Migration<'a>)> {
        let migration = anon.begin_migration(pfn)?;
        let (entries, was_soft_dirty);
        {
            let content = anon.lock();
            was_soft_dirty = content.is_soft_dirty();
            // Nobody maps it from here on.
            entries = content.mapcount() as usize;
        }
        let mut unmapped = Unmapped::new(entries)?;
        match mappings {
            Mappings::All => {
                rmap::unmap_each(anon, |vma, index| unmapped.add(vma, index));
            }
            Mappings::OfAnon => {
                rmap::unmap_one(anon, |vma, index| unmapped.add(vma, index));
            }
        }
        let detached = Self {
            anon,
            unmapped,
            was_soft_dirty,
        };
        Ok((detached, migration))
    }

    /// Maps the page where it was, as far as that does not mean to wait. Elsewhere the next fault maps it. To be called when the migration
    /// has ended, whatever has come of it.
    pub(crate) fn map_again(self) {
        if self.unmapped.map(self.anon) && !self.was_soft_dirty {
            let mut content = self.anon.lock();
            // All entries that have to say so do, unless others have some, too.
            if !content.is_common() {
                content.clear_soft_dirty();
            }
        }
    }
}
