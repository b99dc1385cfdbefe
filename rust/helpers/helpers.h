/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Static inlines and macros of the kernel that Rust cannot reach and that the kernel's own rust/helpers does not wrap. Rust has
 * the declarations from here, by bindgen, see Kbuild and helpers.rs.
 */
#ifndef ANON_RMAP_HELPERS_H
#define ANON_RMAP_HELPERS_H

#include <linux/fs.h>
#include <linux/lockdep_types.h>
#include <linux/memcontrol.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/notifier.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/types.h>

#include "../uapi/anon_rmap.h"

/* Macros of that, which bindgen leaves out. */
enum anon_rmap_command {
	ANON_RMAP_COMMAND_POISON = ANON_RMAP_POISON,
	ANON_RMAP_COMMAND_UNPOISON = ANON_RMAP_UNPOISON,
	ANON_RMAP_COMMAND_LIST = ANON_RMAP_LIST,
	ANON_RMAP_COMMAND_MERGE = ANON_RMAP_MERGE,
};

/* page.c */
struct page *anon_rmap_pfn_to_page(unsigned long pfn);
void anon_rmap_unlock_page(struct page *page);
void anon_rmap_clear_page(struct page *page);
bool anon_rmap_copy_page(struct page *to, struct page *from);
void anon_rmap_get_page(struct page *page);
void anon_rmap_put_page(struct page *page);
int anon_rmap_page_count(const struct page *page);
bool anon_rmap_get_page_unless_zero(struct page *page);
bool anon_rmap_page_test_set_guarded(struct page *page);
bool anon_rmap_page_test_clear_guarded(struct page *page);
void anon_rmap_page_set_uncounted(struct page *page);
void anon_rmap_page_clear_uncounted(struct page *page);
bool anon_rmap_page_is_uncounted(const struct page *page);
bool anon_rmap_page_hwpoison(const struct page *page);
void anon_rmap_page_set_hwpoison(struct page *page);
bool anon_rmap_page_test_clear_hwpoison(struct page *page);
struct page *anon_rmap_alloc_frozen_page(gfp_t gfp);
void anon_rmap_page_shake(struct page *page);
void anon_rmap_page_move_charge(struct page *from, struct page *to);
unsigned long anon_rmap_page_to_pfn(const struct page *page);
bool anon_rmap_page_maybe_dma_pinned(struct page *page);
int anon_rmap_page_mapcount(const struct page *page);
bool anon_rmap_page_is_in_use(const struct page *page, const struct vm_fault *fault);
u64 anon_rmap_page_hash(struct page *page, u64 seed);
bool anon_rmap_page_is_equal(struct page *page, struct page *other);
bool anon_rmap_page_is_zeroes(struct page *page);

/* refcount.c */
bool anon_rmap_refcount_inc_not_zero(refcount_t *refs);

/* word_mutex.c */
struct anon_rmap_word_mutex {
	atomic_t word;
	struct lockdep_map map;
};

void anon_rmap_word_mutex_init(struct anon_rmap_word_mutex *lock, const char *name, struct lock_class_key *key);
void anon_rmap_word_mutex_lock(struct anon_rmap_word_mutex *lock);
bool anon_rmap_word_mutex_trylock(struct anon_rmap_word_mutex *lock);
void anon_rmap_word_mutex_unlock(struct anon_rmap_word_mutex *lock);
void anon_rmap_word_mutex_assert_held(const struct anon_rmap_word_mutex *lock);

/* slab.c */
struct kmem_cache *anon_rmap_cache_create(const char *name, size_t size);
void *anon_rmap_cache_alloc(struct kmem_cache *cache, gfp_t flags);
void anon_rmap_cache_destroy(struct kmem_cache *cache);

/* vma.c */
void anon_rmap_mmap_write_lock(struct mm_struct *mm);
void anon_rmap_mmap_write_unlock(struct mm_struct *mm);
void anon_rmap_vma_start_write(struct vm_area_struct *vma);
bool anon_rmap_vma_is_soft_dirty(const struct vm_area_struct *vma);
bool anon_rmap_vma_is_locked(const struct vm_area_struct *vma);
bool anon_rmap_mm_merges_any(const struct mm_struct *mm);
bool anon_rmap_vma_is_write_locked(struct vm_area_struct *vma);
void anon_rmap_vma_set_soft_dirty(struct vm_area_struct *vma);
void anon_rmap_new_vma_set_soft_dirty(struct vm_area_struct *vma);
bool anon_rmap_vma_is_copied_on_fork(struct vm_area_struct *vma);
bool anon_rmap_mmu_notifier_range_blockable(const struct mmu_notifier_range *range);
bool anon_rmap_vma_is_sealed(const struct vm_area_struct *vma);
bool anon_rmap_vma_is_dumped_if_private(const struct vm_area_struct *vma);

/* i_mmap.c */
struct file *anon_rmap_new_file(const char *name, const struct file_operations *operations, bool shared);
void anon_rmap_i_mmap_lock_read(struct file *file);
void anon_rmap_i_mmap_unlock_read(struct file *file);
struct vm_area_struct *anon_rmap_i_mmap_find(struct file *file, unsigned long pgoff, const struct mm_struct *mm,
					     unsigned long address);
bool anon_rmap_i_mmap_may_write_protect(struct file *file, unsigned long first, unsigned long last, unsigned long most);
bool anon_rmap_write_protect(struct file *file, unsigned long first, unsigned long nr, unsigned long *bitmap);
bool anon_rmap_i_mmap_has(struct file *file, unsigned long first, unsigned long last);

/* page_table.c: what anon_rmap_next_entry() finds. */
enum anon_rmap_entry {
	ANON_RMAP_ENTRY_NONE,
	ANON_RMAP_ENTRY_PAGE,
	ANON_RMAP_ENTRY_KNOWN_MARKER,
	ANON_RMAP_ENTRY_ZEROES,
	ANON_RMAP_ENTRY_UNKNOWN,
};

bool anon_rmap_vmf_is_soft_dirty(const struct vm_fault *vmf);
unsigned long anon_rmap_vmf_empty_entries(const struct vm_fault *vmf, unsigned long address, unsigned int nr);
unsigned long anon_rmap_vmf_read_only_entries(const struct vm_fault *vmf, unsigned long address, unsigned int nr);
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write, bool soft_dirty);
bool anon_rmap_vmf_may_map_zeroes(const struct vm_fault *vmf);
bool anon_rmap_vmf_may_map_writable(const struct vm_fault *vmf);
bool anon_rmap_vmf_make_writable(const struct vm_fault *vmf, const struct page *page);
void anon_rmap_vmf_map_zeroes(struct vm_fault *vmf);
bool anon_rmap_vmf_maps_zeroes(const struct vm_fault *vmf);
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn, bool *soft_dirty);
void anon_rmap_set_soft_dirty(struct mm_struct *mm, unsigned long address, unsigned long pfn);
bool anon_rmap_tlb_flush_pending(struct mm_struct *mm);
unsigned long anon_rmap_zero_pfn(void);
unsigned long anon_rmap_next_entry(struct mm_struct *mm, unsigned long address, unsigned long end,
				   enum anon_rmap_entry *kind, unsigned long *pfn);

/* wait.c */
void anon_rmap_wait_init(void);
long anon_rmap_wait_ticket(const void *cause);
void anon_rmap_wake(const void *cause);
vm_fault_t anon_rmap_vmf_wait(struct vm_fault *vmf, const void *cause, long ticket);

/* signal.c */
bool anon_rmap_hide_signals(void);
void anon_rmap_show_signals(bool notify);
bool anon_rmap_is_dumping_core(void);
bool anon_rmap_fatal_signal_pending(void);

/* process.c */
void anon_rmap_get_pid(struct pid *pid);
struct pid *anon_rmap_find_process(pid_t nr);
struct pid *anon_rmap_owner(struct mm_struct *mm);
pid_t anon_rmap_pid_vnr(struct pid *pid);
struct mm_struct *anon_rmap_grab_mm(struct pid *process);
bool anon_rmap_has_mm(struct pid *process, const struct mm_struct *mm);
u64 anon_rmap_exec_id(struct pid *process);
void anon_rmap_comm(struct pid *process, char *comm);

/* accounting.c */
struct file *anon_rmap_charge_file(unsigned long pages);
void anon_rmap_charge_resize(struct file *file, unsigned long pages);
struct mem_cgroup *anon_rmap_charge_to(struct mm_struct *mm, struct mem_cgroup **before);
void anon_rmap_end_charge_to(struct mem_cgroup *group, struct mem_cgroup *before);

/* memory_failure.c */
void anon_rmap_watch_failures(void (*failed)(unsigned long pfn, bool again));
void anon_rmap_unwatch_failures(void);
struct task_struct *anon_rmap_early_kill_thread(struct mm_struct *mm, bool early);
void anon_rmap_trace_action(unsigned long pfn, u64 index, const char *action, const char *source);
void anon_rmap_trace_release(unsigned long pfn, const char *source);
void anon_rmap_trace_hit(unsigned long pfn, pid_t pid, unsigned long address, pid_t tid, const char *signal);

#ifdef CONFIG_X86
/* machine_check.c */
bool anon_rmap_mce_pfn(void *data, unsigned long *pfn);
void anon_rmap_mce_take(void *data);
void anon_rmap_mce_restore(void *data);
void anon_rmap_mce_register(struct notifier_block *nb, bool before);
void anon_rmap_mce_unregister(struct notifier_block *nb);
void anon_rmap_set_mce_nospec(unsigned long pfn);
#endif

/* ghes.c */
bool anon_rmap_ghes_pfn(unsigned long severity, const void *data, unsigned long *pfn);
void anon_rmap_ghes_register(struct notifier_block *nb);
void anon_rmap_ghes_unregister(struct notifier_block *nb);

/* policy.c */
bool anon_rmap_may_take_offline(void);
bool anon_rmap_early_kill(void);

/* quarantine.c */

/*
 * What is known of a frame that is out of use, its value: why, one of the first two; that the kernel has not counted it; and that it was
 * given up, so that nobody has it any more but its mark.
 */
enum anon_rmap_quarantine_value {
	ANON_RMAP_SOFTWARE = 1,
	ANON_RMAP_HARDWARE = 2,
	ANON_RMAP_UNCOUNTED = 4,
	ANON_RMAP_GIVEN_UP = 8,
};

/*
 * What is in `private` of a page of ours in system RAM that no anon has: one that is not an anon's yet, or not any more, with
 * ANON_RMAP_HARDWARE added if that is known to have failed, or ANON_RMAP_WAITING if it waits for its first reference; and one that was given up, with its value added, which the next module to be
 * loaded knows by that.
 */
#define ANON_RMAP_NOBODYS 0x616e6f6e726d6200UL
#define ANON_RMAP_SIGN 0x616e6f6e726d6100UL
#define ANON_RMAP_VALUE_MASK 0xffUL
#define ANON_RMAP_WAITING 0x80UL

int anon_rmap_quarantine_init(bool (*is_owned)(unsigned long pfn), bool (*begin_offline)(unsigned long pfn, unsigned long end),
			      void (*end_offline)(void), void (*keep_marked)(struct page *page));
void anon_rmap_quarantine_exit(void);
bool anon_rmap_page_begin(struct page *page);
void anon_rmap_quarantine_add(unsigned long pfn, int kind);
void anon_rmap_quarantine_try_add(unsigned long pfn, int kind);
int anon_rmap_quarantine_find(unsigned long *pfn);
bool anon_rmap_quarantine_set_hardware(unsigned long pfn);
int anon_rmap_quarantine_release(unsigned long pfn);
void anon_rmap_quarantine_uncharge(struct page *page);
bool anon_rmap_quarantine_is_unused(unsigned long pfn);
void anon_rmap_quarantine_add_signed(void);
void anon_rmap_mark_bad(struct page *page, bool simulated);
int anon_rmap_unmark_bad(struct page *page);

/* device_memory.c */
bool anon_rmap_is_reserved(u64 start, u64 size);

/* journal.c */
void anon_rmap_journal_wait(struct file *file, struct poll_table_struct *table);
void anon_rmap_journal_wake(void);
bool anon_rmap_seq_trylock(struct seq_file *seq);
void anon_rmap_seq_unlock(struct seq_file *seq);

#endif
