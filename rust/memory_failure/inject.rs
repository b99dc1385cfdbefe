// SPDX-License-Identifier: GPL-2.0

//! Injection: naming the page that is to fail.

use super::{
    poison,
    unpoison,
    Door, //
};
use crate::{
    anon::Anon,
    frame,
    process,
    vma::VmaState, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef,
    task::Pid, //
};

/// The page of the process `pid` at `address`.
///
/// # Errors
///
/// * [`ESRCH`]: there is no such process, or it has no address space.
/// * [`EFAULT`]: nothing is mapped at the address.
/// * [`ENXIO`]: what is mapped there is not the device's.
/// * [`ENODATA`]: the mapping has no page there, since it was not touched.
fn page_at(pid: Pid, address: usize) -> Result<ARef<Anon>> {
    let mm = process::address_space(pid)?;
    let mmap_lock = mm.mmap_read_lock();
    let vma = mmap_lock.vma_lookup(address).ok_or(EFAULT)?;
    // SAFETY: The VMA is locked by the mmap lock.
    let state = unsafe { VmaState::of(vma.as_ptr()) }.ok_or(ENXIO)?;
    let anon = state.amap().lock().anon(state.base().index(address));
    anon.ok_or(ENODATA)
}

/// Poisons the page of the process `pid` at `address`.
///
/// # Errors
///
/// Those of finding the page, see [`page_at`], and of [`poison`].
pub(crate) fn poison_addr(pid: Pid, address: usize) -> Result {
    let anon = page_at(pid, address)?;
    poison(&anon, Door::PoisonAddr)
}

/// Poisons the page in frame `pfn`.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`poison`].
pub(crate) fn poison_pfn(pfn: u64) -> Result {
    poison(&*frame::lookup(pfn).ok_or(ENXIO)?, Door::PoisonPfn)
}

/// Gives the page in frame `pfn` back.
///
/// # Errors
///
/// [`ENXIO`] if the frame is not the device's; those of [`unpoison`].
pub(crate) fn unpoison_pfn(pfn: u64) -> Result {
    unpoison(&*frame::lookup(pfn).ok_or(ENXIO)?)
}
