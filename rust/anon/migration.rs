// SPDX-License-Identifier: GPL-2.0-only

//! The page of an anon moves to another frame.

use super::{
    copy::copy_page,
    Anon, //
};
use crate::{
    failure::{
        self,
        Source, //
    },
    helpers,
    page::OwnedPage,
    pool::{
        frame,
        quarantine, //
    },
    wait::wake, //
};
use core::ptr;
use kernel::prelude::*;

impl Anon {
    /// Makes faults wait, so that the page can be replaced once it has been unmapped. Ends when the
    /// result is dropped.
    ///
    /// # Errors
    ///
    /// * [`ENXIO`]: the page is not in frame `pfn` (any more).
    /// * [`EHWPOISON`]: it is poisoned.
    /// * [`EBUSY`]: it is being replaced already.
    pub(crate) fn begin_migration(&self, pfn: u64) -> Result<Migration<'_>> {
        let mut content = self.lock();
        if content.pfn() != pfn {
            return Err(ENXIO);
        }
        if content.poison().is_some() {
            return Err(EHWPOISON);
        }
        if content.is_migrating() {
            return Err(EBUSY);
        }
        // INVARIANT: Nobody else had tagged it.
        content.set_migrating(true);
        Ok(Migration(self))
    }
}

/// The replacement of an anon's page by another, while no fault maps it.
///
/// # Invariants
///
/// The content is tagged as migrating until this is dropped, and nobody else replaces its page.
pub(crate) struct Migration<'a>(&'a Anon);

impl Migration<'_> {
    /// Moves the content, and what it is charged to, to the page `to`. Returns the old one, which is nobody's then.
    ///
    /// # Errors
    ///
    /// * [`EBUSY`]: the page is in use: it is pinned, or has not been unmapped everywhere.
    /// * [`EHWPOISON`]: it has been poisoned meanwhile, or fails now.
    /// * [`ENOMEM`]: `to` has failed.
    ///
    /// `to` is given back then, unless it is out of use already.
    pub(crate) fn move_to(&self, to: OwnedPage) -> Result<OwnedPage, (Error, Option<OwnedPage>)> {
        let mut content = self.0.lock();
        if !content.may_be_copied() {
            return Err((EHWPOISON, Some(to)));
        }
        // Whoever maps or pins the page has a reference, and one who has unmapped it keeps that until
        // no TLB has it any more. So if ours is the only one, nobody can write to it.
        let Some(from) = content.freeze() else {
            return Err((EBUSY, Some(to)));
        };
        let copied = copy_page(&to, &from);
        drop(from);
        if let Err(error) = copied {
            let pfn = content.pfn();
            drop(content);
            failure::report(pfn, Source::Copy);
            return Err((error, Some(to)));
        }
        // SAFETY: The anon owns the page from here on, and forgets it when its last reference goes, unless it turns out to be bad.
        let has_failed = unsafe { frame::remember(&to, self.0) };
        // As in `Anon::new`, whoever reports that later finds the anon.
        if to.is_marked() {
            let kind = match has_failed {
                true => quarantine::Kind::Hardware,
                false => quarantine::Kind::Software,
            };
            quarantine::keep(to, kind, false);
            return Err((ENOMEM, None));
        }
        if has_failed {
            let pfn = to.pfn();
            frame::forget(&to);
            quarantine::set_hardware(pfn);
            return Err((ENOMEM, Some(to)));
        }
        let from = content.page();
        // SAFETY: Both are pages of ours, the new one with no charge of its own.
        unsafe { helpers::anon_rmap_page_move_charge(from.as_ptr(), to.as_ptr()) };
        frame::forget(from);
        Ok(content.replace(to))
    }

    /// Makes core mm give up references that it only keeps for later: for pages locked in memory
    /// (`mlock`) it collects what is to be done. Sleeps.
    pub(crate) fn shake(&self) {
        let page = ptr::from_ref(self.0.lock().page());
        // SAFETY: The page is the anon's, which nobody else replaces meanwhile.
        unsafe { &*page }.shake();
    }
}

impl Drop for Migration<'_> {
    fn drop(&mut self) {
        self.0.lock().set_migrating(false);
        wake(self.0);
    }
}
