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
    page::{
        Frame,
        Page, //
    },
    pool,
    stats, //
};
use kernel::{
    bindings,
    page::PAGE_SIZE,
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

/// Copies what is in the frame `from` to `to`; a hardware error in `from` is an error here, not a crash.
pub(super) fn copy_page(to: &Page, from: &Frame) -> Result {
    // SAFETY: The frame is there; the mappings are undone below in reverse order.
    let source = unsafe { bindings::kmap_local_page(from.as_ptr()) };
    // SAFETY: The page is there.
    let target = unsafe { bindings::kmap_local_page(to.as_ptr()) };
    // SAFETY: Both are mappings of a whole page; `to` is new, so nobody else reads it. User space
    // may write to `from` only through a mapping, which the caller excludes.
    let left = unsafe { bindings::copy_mc_to_kernel(target, source, PAGE_SIZE as u32) };
    // SAFETY: `target` was mapped last.
    unsafe { bindings::kunmap_local(target) };
    // SAFETY: `source` was mapped before.
    unsafe { bindings::kunmap_local(source) };
    if left == 0 {
        Ok(())
    } else {
        Err(EHWPOISON)
    }
}
