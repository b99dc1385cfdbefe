// SPDX-License-Identifier: GPL-2.0
/*
 * What the reverse map and memory failures need of the kernel and Rust cannot
 * reach. See helpers.rs for the Rust side.
 */

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

/* vm.memory_failure_early_kill is not for modules to read. */
static bool memory_failure_early_kill;
module_param(memory_failure_early_kill, bool, 0644);
MODULE_PARM_DESC(memory_failure_early_kill,
		 "Signal processes that hold a failed page at once, unless they have chosen otherwise (prctl PR_MCE_KILL)");

/*
 * Whether the page table of @mm maps frame @pfn at @address. The caller holds
 * the mmap lock, and there is a VMA at the address: that keeps the upper page
 * tables. The lowest one can go when it is empty, but is freed by RCU.
 */
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn);
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn)
{
	bool found = false;
	spinlock_t *ptl;
	pgd_t *pgd;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd, pmdval;
	pte_t pte;

	pgd = pgd_offset(mm, address);
	if (!pgd_present(pgdp_get(pgd)))
		return false;
	p4d = p4d_offset(pgd, address);
	if (!p4d_present(p4dp_get(p4d)))
		return false;
	pud = pud_offset(p4d, address);
	if (!pud_present(pudp_get(pud)) || pud_leaf(pudp_get(pud)))
		return false;
	pmd = pmd_offset(pud, address);

	rcu_read_lock();
	pmdval = pmdp_get_lockless(pmd);
	if (!pmd_present(pmdval) || pmd_leaf(pmdval) || pmd_bad(pmdval))
		goto out;
	ptl = pte_lockptr(mm, &pmdval);
	spin_lock(ptl);
	if (pmd_same(pmdval, pmdp_get_lockless(pmd))) {
		pte = ptep_get(pte_offset_kernel(&pmdval, address));
		found = pte_present(pte) && pte_pfn(pte) == pfn;
	}
	spin_unlock(ptl);
out:
	rcu_read_unlock();
	return found;
}

/*
 * The thread of the process that owns @mm to be told of a failure that nobody
 * has run into yet, with a reference; NULL if none wants to know. The rules are
 * those of find_early_kill_thread() in mm/memory-failure.c: the first thread
 * that has asked for it (PR_MCE_KILL_EARLY), or, if that is the policy, that
 * has not asked for anything.
 */
struct task_struct *anon_rmap_early_kill_thread(struct mm_struct *mm);
struct task_struct *anon_rmap_early_kill_thread(struct mm_struct *mm)
{
	struct task_struct *found = NULL;
#ifdef CONFIG_MEMCG
	struct task_struct *owner, *thread;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	if (owner) {
		for_each_thread(owner, thread) {
			unsigned int flags = READ_ONCE(thread->flags);
			bool early = flags & PF_MCE_PROCESS ? flags & PF_MCE_EARLY :
					READ_ONCE(memory_failure_early_kill);

			if (early && READ_ONCE(thread->mm) == mm) {
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
