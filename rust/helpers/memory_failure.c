// SPDX-License-Identifier: GPL-2.0-only
/* Memory failures: who is told, and what is traced. */

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/tracepoint.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static struct tracepoint *anon_rmap_failure_event;
static void (*anon_rmap_failed)(unsigned long pfn, bool again);

static void anon_rmap_find_failure_event(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "memory_failure_event"))
		anon_rmap_failure_event = tracepoint;
}

static void anon_rmap_on_failure(void *unused, unsigned long pfn, int type, int result)
{
	anon_rmap_failed(pfn, type == MF_MSG_ALREADY_POISONED);
}

/* Calls @failed, in a task, for each frame that memory_failure() has marked as bad, or has found marked: @again. */
void anon_rmap_watch_failures(void (*failed)(unsigned long pfn, bool again))
{
	anon_rmap_failed = failed;
	for_each_kernel_tracepoint(anon_rmap_find_failure_event, NULL);
	if (anon_rmap_failure_event &&
	    tracepoint_probe_register(anon_rmap_failure_event, anon_rmap_on_failure, NULL))
		anon_rmap_failure_event = NULL;
	if (!anon_rmap_failure_event)
		pr_warn("anon_rmap: failures that only the kernel meets stay unknown\n");
}

void anon_rmap_unwatch_failures(void)
{
	if (!anon_rmap_failure_event)
		return;
	tracepoint_probe_unregister(anon_rmap_failure_event, anon_rmap_on_failure, NULL);
	tracepoint_synchronize_unregister();
}

/*
 * The thread of the process that owns @mm to be told of a failure that nobody
 * has run into yet, with a reference; NULL if none wants to know. The rules are
 * those of find_early_kill_thread() in mm/memory-failure.c: the first thread
 * that has asked for it (PR_MCE_KILL_EARLY), or, if the policy is @early, that
 * has not asked for anything. But it must be one that can be told: the first
 * thread of a process may have ended, and has no memory then.
 */
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

void anon_rmap_trace_action(unsigned long pfn, u64 index, const char *action, const char *source)
{
	trace_anon_rmap_action(pfn, index, action, source);
}

void anon_rmap_trace_release(unsigned long pfn, const char *source)
{
	trace_anon_rmap_release(pfn, source);
}

void anon_rmap_trace_hit(unsigned long pfn, pid_t pid, unsigned long address, pid_t tid, const char *signal)
{
	trace_anon_rmap_hit(pfn, pid, address, tid, signal);
}
