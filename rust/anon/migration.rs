// SPDX-License-Identifier: GPL-2.0-only

//! The page of an anon moves to another frame.

use super::{
    copy::copy_page,
    Anon, //
};
use crate::{
    errno::EHWPOISON,
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
use core::{
    mem,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    ffi::c_void,
    prelude::*, //
};

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

/// Makes `to`, which has a copy of the content, known as the page of `owner`. What has failed meanwhile is given back, unless it is out of
/// use already: [`ENOMEM`].
///
/// # Safety
///
/// As for [`frame::remember`], unless this fails.
pub(super) unsafe fn adopt(
    to: OwnedPage,
    owner: NonNull<c_void>,
) -> Result<OwnedPage, (Error, Option<OwnedPage>)> {
    // SAFETY: The caller promises that for a page that is good; any other one is forgotten below.
    let has_failed = unsafe { frame::remember(&to, owner) };
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
    Ok(to)
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
        // As long as this is under way the anon joins nobody, and leaves nobody.
        let owner = self.0.owner();
        let mut content = self.0.lock();
        if !content.may_be_copied() {
            return Err((EHWPOISON, Some(to)));
        }
        // Whoever maps or pins the page has a reference, and one who has unmapped it keeps that until
        // no TLB has it any more. So if ours is the only one, nobody can write to it.
        if let Err(error) = content.check_unused() {
            return Err((error, Some(to)));
        }
        let copied = copy_page(&to, content.page());
        if let Err(error) = copied {
            let pfn = content.pfn();
            drop(content);
            failure::report(pfn, Source::Copy);
            return Err((error, Some(to)));
        }
        // SAFETY: The owner has the page from here on, and forgets it when its last reference goes.
        let to = unsafe { adopt(to, owner)? };
        let from = content.page();
        // SAFETY: Both are pages of ours, the new one with no charge of its own.
        unsafe { helpers::anon_rmap_page_move_charge(from.as_ptr(), to.as_ptr()) };
        frame::forget(from);
        Ok(content.replace(to))
    }

    /// The anon.
    pub(super) fn anon(&self) -> &Anon {
        self.0
    }

    /// Notes that the tag has gone already.
    pub(super) fn has_ended(self) {
        mem::forget(self);
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
        let mut content = self.0.lock();
        content.set_migrating(false);
        wake(&*content);
    }
}
