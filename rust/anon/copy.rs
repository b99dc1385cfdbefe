// SPDX-License-Identifier: GPL-2.0-only

//! Copies of pages, some of which turn out to be bad then.

use super::{
    scanned::Merges,
    Anon, //
};
use crate::{
    anon_vma::AnonVma,
    errno::EHWPOISON,
    failure::{
        self,
        Source, //
    },
    helpers,
    page::{
        Frame,
        Page, //
    },
    pool,
    stats, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

impl Anon {
    /// A copy of the page of `source`, at the same index of `anon_vma`; and how often `source` had been merged then.
    ///
    /// Nobody may write to `source` meanwhile, or the caller has to find out and drop the copy. Takes the
    /// lock of `source`.
    ///
    /// # Errors
    ///
    /// As for [`Self::zeroed`]; [`EHWPOISON`] if `source` is poisoned, or turns out to be while it is
    /// copied.
    pub(crate) fn copy_of(source: &Self, anon_vma: &Arc<AnonVma>) -> Result<(ARef<Self>, Merges)> {
        loop {
            let page = pool::alloc(GFP_KERNEL_ACCOUNT)?;
            let content = source.lock();
            if !content.may_be_copied() {
                return Err(EHWPOISON);
            }
            let copied = copy_page(&page, content.page());
            let (pfn, merges) = (content.pfn(), source.scanned.merges());
            drop(content);
            copied.inspect_err(|_| failure::report(pfn, Source::Copy))?;
            let flags = GFP_KERNEL_ACCOUNT;
            if let Some(anon) = Self::new(page, anon_vma, source.index, flags)? {
                stats::COPIES.inc();
                return Ok((anon, merges));
            }
        }
    }
}

/// Copies what is in the frame `from` to `to`; a hardware error in `from` is an error here, not a crash, where the kernel can do that: on
/// x86.
pub(super) fn copy_page(to: &Page, from: &Frame) -> Result {
    // SAFETY: Both are there; `to` is new, so nobody else reads it. User space may write to `from` only through a mapping, which the
    // caller excludes.
    if unsafe { helpers::anon_rmap_copy_page(to.as_ptr(), from.as_ptr()) } {
        Ok(())
    } else {
        Err(EHWPOISON)
    }
}
