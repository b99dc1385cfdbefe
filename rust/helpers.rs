// SPDX-License-Identifier: GPL-2.0-only

//! Functions of `helpers/*.c`, which are not in `bindings`; and `THIS_MODULE`.

use kernel::{
    bindings,
    ffi::{
        c_char,
        c_int,
        c_long,
        c_ulong,
        c_void, //
    }, //
};

/// `THIS_MODULE`, for what core mm keeps of ours.
pub(crate) const THIS_MODULE: *mut bindings::module = &raw mut bindings::__this_module;

#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_page_to_pfn(page: *const bindings::page) -> c_ulong;
    pub(crate) fn anon_rmap_page_maybe_dma_pinned(page: *mut bindings::page) -> bool;
    pub(crate) fn anon_rmap_page_is_in_use(
        page: *const bindings::page,
        fault: *const bindings::vm_fault,
    ) -> bool;
    pub(crate) fn anon_rmap_page_mapcount(page: *const bindings::page) -> c_int;
    pub(crate) fn anon_rmap_refcount_inc_not_zero(refs: *const bindings::refcount_t) -> bool;
    pub(crate) fn anon_rmap_mmap_write_lock(mm: *mut bindings::mm_struct);
    pub(crate) fn anon_rmap_mmap_write_unlock(mm: *mut bindings::mm_struct);
    pub(crate) fn anon_rmap_vma_start_write(vma: *mut bindings::vm_area_struct);
    pub(crate) fn anon_rmap_vma_is_write_locked(vma: *mut bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_vma_set_soft_dirty(vma: *mut bindings::vm_area_struct);
    pub(crate) fn anon_rmap_new_vma_set_soft_dirty(vma: *mut bindings::vm_area_struct);
    pub(crate) fn anon_rmap_vma_is_copied_on_fork(vma: *mut bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_hide_signals() -> bool;
    pub(crate) fn anon_rmap_show_signals(notify: bool);
    pub(crate) fn anon_rmap_mmu_notifier_range_blockable(
        range: *const bindings::mmu_notifier_range,
    ) -> bool;
    pub(crate) fn anon_rmap_vmf_install_page_table(vmf: *mut bindings::vm_fault) -> bool;
    pub(crate) fn anon_rmap_vmf_is_soft_dirty(vmf: *const bindings::vm_fault) -> bool;
    pub(crate) fn anon_rmap_vmf_insert_page(
        vmf: *mut bindings::vm_fault,
        page: *mut bindings::page,
        write: bool,
        soft_dirty: bool,
    ) -> bindings::vm_fault_t;
    pub(crate) fn anon_rmap_vmf_may_map_zeroes(vmf: *const bindings::vm_fault) -> bool;
    pub(crate) fn anon_rmap_vmf_map_zeroes(vmf: *const bindings::vm_fault);
    pub(crate) fn anon_rmap_vmf_maps_zeroes(vmf: *const bindings::vm_fault) -> bool;
    pub(crate) fn anon_rmap_wait_init();
    pub(crate) fn anon_rmap_wait_ticket(cause: *const c_void) -> c_long;
    pub(crate) fn anon_rmap_wake(cause: *const c_void);
    pub(crate) fn anon_rmap_vmf_wait(
        vmf: *mut bindings::vm_fault,
        cause: *const c_void,
        ticket: c_long,
    ) -> bindings::vm_fault_t;
    pub(crate) fn anon_rmap_vma_is_sealed(vma: *const bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_new_file(
        name: *const c_char,
        operations: *const bindings::file_operations,
        shared: bool,
    ) -> *mut bindings::file;
    pub(crate) fn anon_rmap_vma_is_dumped_if_private(vma: *const bindings::vm_area_struct) -> bool;
    pub(crate) fn anon_rmap_is_dumping_core() -> bool;
    pub(crate) fn anon_rmap_charge_file(pages: c_ulong) -> *mut bindings::file;
    pub(crate) fn anon_rmap_charge_resize(file: *mut bindings::file, pages: c_ulong);
    pub(crate) fn anon_rmap_i_mmap_lock_read(file: *mut bindings::file);
    pub(crate) fn anon_rmap_i_mmap_unlock_read(file: *mut bindings::file);
    pub(crate) fn anon_rmap_i_mmap_find(
        file: *mut bindings::file,
        pgoff: c_ulong,
        mm: *const bindings::mm_struct,
        address: c_ulong,
    ) -> *mut bindings::vm_area_struct;
    pub(crate) fn anon_rmap_i_mmap_may_write_protect(
        file: *mut bindings::file,
        first: c_ulong,
        last: c_ulong,
        most: c_ulong,
    ) -> bool;
    pub(crate) fn anon_rmap_write_protect(
        file: *mut bindings::file,
        first: c_ulong,
        nr: c_ulong,
        bitmap: *mut c_ulong,
    ) -> bool;
    pub(crate) fn anon_rmap_i_mmap_has(
        file: *mut bindings::file,
        first: c_ulong,
        last: c_ulong,
    ) -> bool;
}

// Functions of `helpers/frame.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_get_page(page: *mut bindings::page);
    pub(crate) fn anon_rmap_put_page(page: *mut bindings::page);
    pub(crate) fn anon_rmap_page_count(page: *const bindings::page) -> c_int;
    pub(crate) fn anon_rmap_page_hwpoison(page: *const bindings::page) -> bool;
    pub(crate) fn anon_rmap_page_set_hwpoison(page: *mut bindings::page);
    pub(crate) fn anon_rmap_page_test_clear_hwpoison(page: *mut bindings::page) -> bool;
    pub(crate) fn anon_rmap_page_freeze(page: *mut bindings::page) -> bool;
    pub(crate) fn anon_rmap_page_unfreeze(page: *mut bindings::page);
    pub(crate) fn anon_rmap_page_shake(page: *mut bindings::page);
    pub(crate) fn anon_rmap_page_move_charge(from: *mut bindings::page, to: *mut bindings::page);
}

// Functions of `helpers/machine_check.c`.
extern "C" {
    pub(crate) fn anon_rmap_mce_pfn(data: *mut c_void, pfn: *mut c_ulong) -> bool;
    pub(crate) fn anon_rmap_mce_take(data: *mut c_void);
    pub(crate) fn anon_rmap_mce_restore(data: *mut c_void);
    pub(crate) fn anon_rmap_mce_register(nb: *mut bindings::notifier_block, before: bool);
    pub(crate) fn anon_rmap_mce_unregister(nb: *mut bindings::notifier_block);
    pub(crate) fn anon_rmap_set_mce_nospec(pfn: c_ulong);
}

// What `anon_rmap_next_entry` finds.
pub(crate) const ENTRY_NONE: u32 = 0;
pub(crate) const ENTRY_PAGE: u32 = 1;
pub(crate) const ENTRY_KNOWN_MARKER: u32 = 2;
pub(crate) const ENTRY_ZEROES: u32 = 3;

// Functions of `helpers/memory_failure.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_maps_pfn(
        mm: *mut bindings::mm_struct,
        address: c_ulong,
        pfn: c_ulong,
        soft_dirty: *mut bool,
    ) -> bool;
    pub(crate) fn anon_rmap_zero_pfn() -> c_ulong;
    pub(crate) fn anon_rmap_watch_failures(failed: unsafe extern "C" fn(pfn: c_ulong));
    pub(crate) fn anon_rmap_unwatch_failures();
    pub(crate) fn anon_rmap_tlb_flush_pending(mm: *mut bindings::mm_struct) -> bool;
    pub(crate) fn anon_rmap_next_entry(
        mm: *mut bindings::mm_struct,
        address: c_ulong,
        end: c_ulong,
        kind: *mut c_int,
        pfn: *mut c_ulong,
    ) -> c_ulong;
    pub(crate) fn anon_rmap_fatal_signal_pending() -> bool;
    pub(crate) fn anon_rmap_early_kill_thread(
        mm: *mut bindings::mm_struct,
        early: bool,
    ) -> *mut bindings::task_struct;
    pub(crate) fn anon_rmap_trace_action(
        pfn: c_ulong,
        index: u64,
        action: *const c_char,
        door: *const c_char,
    );
    pub(crate) fn anon_rmap_trace_hit(
        pfn: c_ulong,
        pid: c_int,
        address: c_ulong,
        tid: c_int,
        signal: *const c_char,
    );
}

// Functions of `helpers/process.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_get_pid(pid: *mut bindings::pid);
    pub(crate) fn anon_rmap_find_process(nr: bindings::pid_t) -> *mut bindings::pid;
    pub(crate) fn anon_rmap_owner(mm: *mut bindings::mm_struct) -> *mut bindings::pid;
    pub(crate) fn anon_rmap_pid_vnr(pid: *mut bindings::pid) -> bindings::pid_t;
    pub(crate) fn anon_rmap_grab_mm(process: *mut bindings::pid) -> *mut bindings::mm_struct;
    pub(crate) fn anon_rmap_has_mm(
        process: *mut bindings::pid,
        mm: *const bindings::mm_struct,
    ) -> bool;
    pub(crate) fn anon_rmap_comm(process: *mut bindings::pid, comm: *mut c_char);
    pub(crate) fn anon_rmap_charge_to(
        mm: *mut bindings::mm_struct,
        before: *mut *mut bindings::mem_cgroup,
    ) -> *mut bindings::mem_cgroup;
    pub(crate) fn anon_rmap_end_charge_to(
        group: *mut bindings::mem_cgroup,
        before: *mut bindings::mem_cgroup,
    );
}

// Functions of `helpers/device_memory.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_is_reserved(start: u64, size: u64) -> bool;
    pub(crate) fn anon_rmap_pfn_to_page(pfn: c_ulong) -> *mut bindings::page;
    pub(crate) fn anon_rmap_unlock_page(page: *mut bindings::page);
    pub(crate) fn anon_rmap_clear_page(page: *mut bindings::page);
}

// Functions of `helpers/policy.c`.
extern "C" {
    pub(crate) fn anon_rmap_may_take_offline() -> bool;
    pub(crate) fn anon_rmap_early_kill() -> bool;
}

// Functions of `helpers/quarantine.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_quarantine_init() -> c_int;
    pub(crate) fn anon_rmap_quarantine_exit();
    pub(crate) fn anon_rmap_quarantine_add(pfn: c_ulong, kind: c_int);
    pub(crate) fn anon_rmap_quarantine_remove(page: *const bindings::page);
    pub(crate) fn anon_rmap_quarantine_find(pfn: *mut c_ulong) -> c_int;
    pub(crate) fn anon_rmap_quarantine_sign(page: *mut bindings::page, kind: c_int);
    pub(crate) fn anon_rmap_quarantine_sign_marked(page: *mut bindings::page, kind: c_int);
    pub(crate) fn anon_rmap_quarantine_add_signed();
    pub(crate) fn anon_rmap_mark_bad(page: *mut bindings::page, simulated: bool);
    pub(crate) fn anon_rmap_unmark_bad(page: *mut bindings::page) -> c_int;
}

// Functions of `helpers/journal.c`.
#[allow(
    improper_ctypes,
    reason = "a lock class key has no fields in a kernel without lockdep"
)]
extern "C" {
    pub(crate) fn anon_rmap_journal_wait(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    );
    pub(crate) fn anon_rmap_journal_wake();
    pub(crate) fn anon_rmap_seq_lock(seq: *mut bindings::seq_file);
    pub(crate) fn anon_rmap_seq_unlock(seq: *mut bindings::seq_file);
}
