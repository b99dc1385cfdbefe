// SPDX-License-Identifier: GPL-2.0

//! Functions of `helpers/helpers.c`, which are not in `bindings`.

use kernel::{
    bindings,
    ffi::{
        c_int,
        c_ulong, //
    }, //
};

#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_page_to_pfn(page: *const bindings::page) -> c_ulong;
    pub(crate) fn anon_rmap_page_maybe_dma_pinned(page: *mut bindings::page) -> bool;
    pub(crate) fn anon_rmap_page_mapcount(page: *const bindings::page) -> c_int;
    pub(crate) fn anon_rmap_refcount_inc_not_zero(refs: *const bindings::refcount_t) -> bool;
    pub(crate) fn anon_rmap_mmap_write_lock(mm: *mut bindings::mm_struct);
    pub(crate) fn anon_rmap_mmap_write_unlock(mm: *mut bindings::mm_struct);
    pub(crate) fn anon_rmap_vma_start_write(vma: *mut bindings::vm_area_struct);
    pub(crate) fn anon_rmap_vma_is_write_locked(vma: *mut bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_vma_is_copied_on_fork(vma: *mut bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_hide_signals() -> bool;
    pub(crate) fn anon_rmap_show_signals(notify: bool);
    pub(crate) fn anon_rmap_mmu_notifier_range_blockable(
        range: *const bindings::mmu_notifier_range,
    ) -> bool;
    pub(crate) fn anon_rmap_mm_owner_get(
        mm: *mut bindings::mm_struct,
    ) -> *mut bindings::task_struct;
    pub(crate) fn anon_rmap_vmf_install_page_table(vmf: *mut bindings::vm_fault) -> bool;
    pub(crate) fn anon_rmap_current_mremap(start: *mut c_ulong, len: *mut c_ulong) -> bool;
}
