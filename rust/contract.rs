// SPDX-License-Identifier: GPL-2.0-only

//! What the driver takes for granted of core mm, in one place.
//!
//! Each line says what is relied on, which function of the kernel makes it so, and what fails loudly if a kernel
//! no longer does: a check of the driver ([`broken`], `verify`), or a test of `selftests/`. Functions have the names of
//! Linux 7.3; all tests pass on 7.2, too.
//!
//! # Hooks, and the locks under which they come
//!
//! | what is relied on | made so by | fails otherwise |
//! | --- | --- | --- |
//! | `open` of a split comes with the mmap lock for writing, before the borders change, and nothing can fail afterwards; `may_split` comes before | `__split_vma()` | [`broken`]: a border that no hook has told; `mapping` |
//! | `open` of a fork comes before the child's VMA is linked and page tables are copied, with both mmap locks and the parent's VMA locked for writing | `dup_mmap()` | `mapping`, `verify` |
//! | fork copies page tables only with `VM_COPY_ON_FORK`, and then no more than markers, as the parent's are zapped before | `vma_needs_copy()` | `core_mm_limits`, `verify` |
//! | `open` of a move comes before its VMA is linked; the VMA has the source's offset of what is moved | `copy_vma()` | `mremap` |
//! | what mremap moves is announced as `MMU_NOTIFY_UNMAP` between `open` and `mremap`, from the first page that is moved or, for whole page tables, from before the source, up to the last; nothing is announced for an old length of 0 | `move_page_tables()`, `try_realign_addr()` | `mremap` |
//! | the target of a move is linked before entries move, and they move from the source to the target; if they move back, it is with `i_mmap` locked for writing, and the target is closed afterwards | `copy_vma()`, `pmc_revert` in `copy_vma_and_data()` | `memory_failure_race`, `verify` |
//! | in place, a VMA grows at its end only, with the VMA locked for writing, and no hook is called | `vma_merge_extend()` | [`broken`]: a border that no hook has told; `growth` |
//! | VMAs whose offsets don't continue each other, or that have another file, are not merged, and their border is not shifted | `can_vma_merge_before()`, `can_vma_merge_after()`, `is_mergeable_vma()` | [`broken`]: a border that no hook has told; `offsets` |
//! | a child's VMA has the offset of its parent's | `mapping_rmap_tree_insert_after()` in `dup_mmap()` | the kernel's own check, with `CONFIG_DEBUG_VM` |
//! | a file without the operation `mmap` can't be mapped | `can_mmap_file()` in `do_mmap()`, before anything is unmapped | `core_mm_limits` |
//! | `mprotect` comes for each part of a VMA before its protection changes, which then becomes a VMA of its own with exactly these borders | `do_mprotect_pkey()`, `mprotect_fixup()` | `commit_charge` |
//! | private mappings that are writable from the start are charged by core mm, and no others of ours | `accountable_mapping()`, before `mmap` is called; `mprotect_fixup()` | `commit_charge` |
//! | the size of a shmem file is charged when it is made, and what its size is when it goes is given back | `__shmem_file_setup()`, `shmem_evict_inode()` | `commit_charge` |
//! | `close` comes once for each VMA that was opened or mapped, when its page tables have gone | `remove_vma()` | `stats` are not zero at the end of a test |
//!
//! # Page tables
//!
//! | what is relied on | made so by | fails otherwise |
//! | --- | --- | --- |
//! | before a VMA is unlinked from `i_mmap`, its address space is released (exit) or `MMU_NOTIFY_UNMAP` comes for it | `unmap_vmas()`, `exit_mmap()` | [`broken`]: unlinked without notice |
//! | page tables of a VMA that is linked in `i_mmap` are freed under no lock but with `i_mmap` locked for writing; only the lowest ones can go before, by RCU | `free_pgtables()`, `move_pgt_entry()`, `try_to_free_pte()` | KASAN under `memory_failure_race` |
//! | `MMU_NOTIFY_CLEAR` with the VMA locked for reading is `MADV_DONTNEED` (or what amounts to it, as installing a guard over pages), our own zap, or the split of a huge page, which we don't have | `zap_vma_range_batched()`; `grep MMU_NOTIFY_CLEAR mm/` has no other for pages that are in no LRU list | `random_program`, `torture` |
//! | the VMA locked for writing means that nothing is discarded | `vma_adjust_trans_huge()` | `mapping`: a split loses nothing |
//! | start and end of a notification have the same `mmu_notifier_range` | all of its users: it is a local variable | faults in the range wait for ever: `growth` |
//! | between start and end the VMAs in the range stay as they are | who clears holds the mmap lock or the VMA's lock | `growth`, `torture` |
//! | the OOM reaper leaves shared VMAs alone | `__oom_reap_task_mm()` | it is told `EAGAIN` |
//! | an entry that is not empty is a page, a marker of a guard page, or one of userfaultfd's write-protection; the first kind of marker never gets to a fault of ours, the second one does | `handle_pte_marker()` | `verify`: wrong marker; `userfaultfd` |
//! | entries are cleared before TLBs are flushed; a zap that comes in between flushes all of the address space | `mm_tlb_flush_nested()` in `tlb_finish_mmu()` | `threads` |
//! | the page of zeroes, mapped as a special entry, is no page of the VMA: nobody counts it, a write to it comes to `pfn_mkwrite`, and is made again if that returns `VM_FAULT_NOPAGE` | `vm_normal_page()`, `wp_pfn_shared()`; `do_anonymous_page()` maps it so | `zero_page`, `verify` |
//! | the end of `MMU_NOTIFY_CLEAR` comes before TLBs are flushed, with `process_madvise` long before; until they are, the address space says that a flush is pending | `zap_vma_range_batched()`, `vector_madvise()`; `tlb_gather_mmu()` | `rmap_trees`, `threads` |
//! | VMAs of one family have `VM_SHARED` and `VM_MAYWRITE` alike, all their life | `mmap_region()`; nobody clears them | looked at before: `anon_rmap_i_mmap_may_write_protect()` |
//! | `wp_shared_mapping_range()` and `clean_record_shared_mapping_range()` leave soft-dirty and accessed bits, flush TLBs and tell other notifiers; what they have been through stays read-only until a fault of ours | `wp_pte()`, `clean_record_pte()`, `wp_clean_post_vma()` | `page_state` |
//! | a zap without details leaves the markers, and turns the bit of write-protection into one | `zap_install_uffd_wp_if_needed()` | `userfaultfd` |
//!
//! # Faults
//!
//! | what is relied on | made so by | fails otherwise |
//! | --- | --- | --- |
//! | a fault comes with the VMA's lock or the mmap lock, for reading, and may give it up if `FAULT_FLAG_ALLOW_RETRY` is set and `VM_FAULT_RETRY` is returned, also when it was tried before | `handle_userfault()` does so; `do_user_addr_fault()`, `faultin_page()` | lockdep; `waiting` |
//! | after `VM_FAULT_RETRY` a task that is being killed does not come back | `fault_signal_pending()`, `__get_user_pages_locked()` | `waiting` |
//! | `page_mkwrite` comes for each write to an entry that is not writable, with a reference to the page and without the flags of the fault | `wp_page_shared()`, `do_page_mkwrite()` | `threads`, `pins` |
//! | the flags of a fault by which memory is populated (`mlock`, `MAP_POPULATE`) tell it from all others | `populate_vma_page_range()` | `zero_page` |
//! | `memory_failure()` marks a page of a driver, and says so by its trace event `memory_failure_event`, in a task | `action_result()` | `kernel_failure` |
//! | `memory_failure()` takes a clean page of a file that nobody maps out of its page cache by `error_remove_folio`, says "Recovered" if no reference is left but its own, and keeps that | `me_pagecache_clean()`, `has_extra_refcount()` | `kernel_accounting` |
//! | `unpoison_memory()` refuses a page with more than one reference, or with a mapping, drops the one that there is, and takes a page without one as free already; one call at a time | `__get_unpoison_page()` | `kernel_accounting`, `kernel_failure` |
//! | nobody writes to `private` of a frame that is marked as bad | `free_pages_prepare()` keeps it from the page allocator | `unload`: bad frames are listed again |
//! | the kernel handles machine checks of some severities only, and notifiers of one priority are called in the order in which they came | `uc_decode_notifier()`, `notifier_chain_register()` | `machine_check` |
//! | who is told of an error that firmware reports is told before the kernel marks the frame | `ghes_do_proc()` | `firmware` |
//! | a core dump reads memory as a fault of a task with `PF_DUMPCORE`, and has a hole where that fails | `get_dump_page()`, `dump_user_range()` | `core_dump` |
//! | who writes a core dump asks each VMA for its `name` before any is read, with the mmap lock for writing | `vma_dump_size()`, `dump_vma_snapshot()` | `keep` |
//! | the page table of a fault is allocated before `fault` is called, or is there | `__do_fault()` | [`fault`](crate::vma) tries again |
//! | a shared mapping that becomes writable by mprotect keeps its entries read-only as long as they are clean | `can_change_shared_pte_writable()` | `mapping`: copy-on-write after mprotect |

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Says loudly that core mm has done something else than this file says.
#[cold]
pub(crate) fn broken(what: &str) {
    /// Enough to see, and few enough to leave the log readable.
    const REPORTS: usize = 8;
    static REPORTED: Atomic<usize> = Atomic::<usize>::new(0);

    if REPORTED.fetch_add(1, Relaxed) < REPORTS {
        pr_err!("BUG: core mm does not keep to contract.rs: {what}\n");
    }
}
