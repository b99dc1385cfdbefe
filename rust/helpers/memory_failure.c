// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the reverse map and memory failures need of the kernel and Rust cannot
 * reach. See helpers.rs for the Rust side.
 */

#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/tracepoint.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

/*
 * The entry of @mm's page tables for @address, locked; NULL if there is no
 * page table, and then *@end is where the next one may begin. To be unlocked by
 * anon_rmap_unlock_entry().
 *
 * The caller sees to it that the upper page tables stay. The lowest one can go
 * when it is empty, but is freed by RCU.
 */
static pte_t *anon_rmap_lock_entry(struct mm_struct *mm, unsigned long address, unsigned long *end, spinlock_t **ptl)
{
	pgd_t *pgd;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd, pmdval;

	pgd = pgd_offset(mm, address);
	if (!pgd_present(pgdp_get(pgd))) {
		*end = (address & PGDIR_MASK) + PGDIR_SIZE;
		return NULL;
	}
	p4d = p4d_offset(pgd, address);
	if (!p4d_present(p4dp_get(p4d))) {
		*end = (address & P4D_MASK) + P4D_SIZE;
		return NULL;
	}
	pud = pud_offset(p4d, address);
	if (!pud_present(pudp_get(pud)) || pud_leaf(pudp_get(pud))) {
		*end = (address & PUD_MASK) + PUD_SIZE;
		return NULL;
	}
	*end = (address & PMD_MASK) + PMD_SIZE;
	pmd = pmd_offset(pud, address);

	rcu_read_lock();
	pmdval = pmdp_get_lockless(pmd);
	if (!pmd_present(pmdval) || pmd_leaf(pmdval) || pmd_bad(pmdval))
		goto out;
	*ptl = pte_lockptr(mm, &pmdval);
	spin_lock(*ptl);
	if (pmd_same(pmdval, pmdp_get_lockless(pmd)))
		return pte_offset_kernel(&pmdval, address);
	spin_unlock(*ptl);
out:
	rcu_read_unlock();
	return NULL;
}

static void anon_rmap_unlock_entry(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/*
 * Whether the page table of @mm maps frame @pfn at @address; if so, whether the
 * entry is soft-dirty. The caller sees to it that the upper page tables stay.
 */
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn, bool *soft_dirty);
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn, bool *soft_dirty)
{
	unsigned long end;
	spinlock_t *ptl;
	bool found;
	pte_t *pte;

	pte = anon_rmap_lock_entry(mm, address, &end, &ptl);
	if (!pte)
		return false;
	found = pte_present(ptep_get(pte)) && pte_pfn(ptep_get(pte)) == pfn;
	*soft_dirty = found && pte_soft_dirty(ptep_get(pte));
	anon_rmap_unlock_entry(ptl);
	return found;
}

/* Whether entries of @mm that were cleared can still be in a TLB. To be asked after a look at the entry, see there. */
bool anon_rmap_tlb_flush_pending(struct mm_struct *mm);
bool anon_rmap_tlb_flush_pending(struct mm_struct *mm)
{
	return mm_tlb_flush_pending(mm);
}

/* The frame that is mapped where private memory was read and never written. */
unsigned long anon_rmap_zero_pfn(void);
unsigned long anon_rmap_zero_pfn(void)
{
	return page_to_pfn(ZERO_PAGE(0));
}

enum {
	ANON_RMAP_ENTRY_NONE,
	ANON_RMAP_ENTRY_PAGE,
	ANON_RMAP_ENTRY_KNOWN_MARKER,
	ANON_RMAP_ENTRY_ZEROES,
	ANON_RMAP_ENTRY_UNKNOWN,
};

static int anon_rmap_entry_kind(pte_t pte)
{
	softleaf_t entry;

	if (pte_none(pte))
		return ANON_RMAP_ENTRY_NONE;
	if (pte_present(pte))
		return is_zero_pfn(pte_pfn(pte)) ? ANON_RMAP_ENTRY_ZEROES : ANON_RMAP_ENTRY_PAGE;
	entry = softleaf_from_pte(pte);
	if (softleaf_is_guard_marker(entry) || softleaf_is_uffd_wp_marker(entry))
		return ANON_RMAP_ENTRY_KNOWN_MARKER;
	return ANON_RMAP_ENTRY_UNKNOWN;
}

/*
 * The address of the first entry from @address on that is not empty, with its
 * kind, and the frame if it maps one. If there is none before @end, or in what
 * can be looked at in a bounded time, the kind is that of an empty entry, and
 * the address where to go on. Page tables as for anon_rmap_maps_pfn().
 */
unsigned long anon_rmap_next_entry(struct mm_struct *mm, unsigned long address, unsigned long end, int *kind,
				   unsigned long *pfn);
unsigned long anon_rmap_next_entry(struct mm_struct *mm, unsigned long address, unsigned long end, int *kind,
				   unsigned long *pfn)
{
	unsigned long table_end;
	spinlock_t *ptl;
	pte_t *pte;

	*kind = ANON_RMAP_ENTRY_NONE;
	for (int tables = 0; address < end && tables < PTRS_PER_PMD; tables++) {
		pte = anon_rmap_lock_entry(mm, address, &table_end, &ptl);
		if (!pte) {
			/* Zero at the end of all addresses. */
			address = min(table_end - 1, end - 1) + 1;
			continue;
		}
		for (; address < min(table_end, end); address += PAGE_SIZE, pte++) {
			*kind = anon_rmap_entry_kind(ptep_get(pte));
			if (*kind != ANON_RMAP_ENTRY_NONE) {
				*pfn = pte_pfn(ptep_get(pte));
				break;
			}
		}
		anon_rmap_unlock_entry(ptl);
		if (*kind != ANON_RMAP_ENTRY_NONE)
			break;
	}
	return address;
}

static struct tracepoint *anon_rmap_failure_event;
static void (*anon_rmap_failed)(unsigned long pfn);

static void anon_rmap_find_failure_event(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "memory_failure_event"))
		anon_rmap_failure_event = tracepoint;
}

/* What was marked before is being handled already. */
static void anon_rmap_on_failure(void *unused, unsigned long pfn, int type, int result)
{
	if (type != MF_MSG_ALREADY_POISONED)
		anon_rmap_failed(pfn);
}

/* Calls @failed, in a task, for each frame that memory_failure() has marked as bad. */
void anon_rmap_watch_failures(void (*failed)(unsigned long pfn));
void anon_rmap_watch_failures(void (*failed)(unsigned long pfn))
{
	anon_rmap_failed = failed;
	for_each_kernel_tracepoint(anon_rmap_find_failure_event, NULL);
	if (anon_rmap_failure_event &&
	    tracepoint_probe_register(anon_rmap_failure_event, anon_rmap_on_failure, NULL))
		anon_rmap_failure_event = NULL;
	if (!anon_rmap_failure_event)
		pr_warn("anon_rmap: failures that only the kernel meets stay unknown\n");
}

void anon_rmap_unwatch_failures(void);
void anon_rmap_unwatch_failures(void)
{
	if (!anon_rmap_failure_event)
		return;
	tracepoint_probe_unregister(anon_rmap_failure_event, anon_rmap_on_failure, NULL);
	tracepoint_synchronize_unregister();
}

bool anon_rmap_fatal_signal_pending(void);
bool anon_rmap_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/*
 * The thread of the process that owns @mm to be told of a failure that nobody
 * has run into yet, with a reference; NULL if none wants to know. The rules are
 * those of find_early_kill_thread() in mm/memory-failure.c: the first thread
 * that has asked for it (PR_MCE_KILL_EARLY), or, if the policy is @early, that
 * has not asked for anything. But it must be one that can be told: the first
 * thread of a process may have ended, and has no memory then.
 */
struct task_struct *anon_rmap_early_kill_thread(struct mm_struct *mm, bool early);
struct task_struct *anon_rmap_early_kill_thread(struct mm_struct *mm, bool early)
{
	struct task_struct *found = NULL;
#ifdef CONFIG_MEMCG
	struct task_struct *owner, *thread;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	if (owner) {
		for_each_thread(owner, thread) {
			unsigned int flags = READ_ONCE(thread->flags);
			bool told = flags & PF_MCE_PROCESS ? flags & PF_MCE_EARLY : early;

			if (told && !(flags & PF_EXITING) && READ_ONCE(thread->mm) == mm) {
				found = tryget_task_struct(thread);
				break;
			}
		}
	}
	rcu_read_unlock();
#endif
	return found;
}

void anon_rmap_trace_action(unsigned long pfn, u64 index, const char *action, const char *door);
void anon_rmap_trace_action(unsigned long pfn, u64 index, const char *action, const char *door)
{
	trace_anon_rmap_action(pfn, index, action, door);
}

void anon_rmap_trace_hit(unsigned long pfn, pid_t pid, unsigned long address, pid_t tid, const char *signal);
void anon_rmap_trace_hit(unsigned long pfn, pid_t pid, unsigned long address, pid_t tid, const char *signal)
{
	trace_anon_rmap_hit(pfn, pid, address, tid, signal);
}
