// SPDX-License-Identifier: GPL-2.0-only
/* Faults that wait. */

#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>
#include <linux/wait.h>

#include "helpers.h"

/* What faults wait for ends with a change of the counter of its bucket. */
#define ANON_RMAP_BUCKETS 64
static struct anon_rmap_bucket {
	wait_queue_head_t queue;
	atomic_long_t ends;
} anon_rmap_buckets[ANON_RMAP_BUCKETS];

static struct anon_rmap_bucket *anon_rmap_bucket(const void *cause)
{
	return &anon_rmap_buckets[hash_ptr(cause, ilog2(ANON_RMAP_BUCKETS))];
}

void anon_rmap_wait_init(void)
{
	for (int i = 0; i < ANON_RMAP_BUCKETS; i++)
		init_waitqueue_head(&anon_rmap_buckets[i].queue);
}

/* What anon_rmap_vmf_wait() takes; to be asked under the lock that guards @cause. */
long anon_rmap_wait_ticket(const void *cause)
{
	return atomic_long_read(&anon_rmap_bucket(cause)->ends);
}

/* Wakes who waits for @cause, which has ended. */
void anon_rmap_wake(const void *cause)
{
	struct anon_rmap_bucket *bucket = anon_rmap_bucket(cause);

	atomic_long_inc(&bucket->ends);
	if (wq_has_sleeper(&bucket->queue))
		wake_up_all(&bucket->queue);
}

/*
 * Waits until something has ended since @ticket was drawn, and returns what
 * makes core mm try the fault again. The lock that the fault came with is given
 * up, as in handle_userfault(), so nothing of the VMA may be used afterwards.
 */
vm_fault_t anon_rmap_vmf_wait(struct vm_fault *vmf, const void *cause, long ticket)
{
	struct anon_rmap_bucket *bucket = anon_rmap_bucket(cause);

	if (vmf->flags & FAULT_FLAG_ALLOW_RETRY) {
		if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
			return VM_FAULT_RETRY;
		release_fault_lock(vmf);
		wait_event_killable(bucket->queue, atomic_long_read(&bucket->ends) != ticket);
		return VM_FAULT_RETRY;
	}
	/*
	 * Whoever is waited for gets on without the lock that is held here. In
	 * page_mkwrite(), where core mm has a reference to the page besides, it may
	 * need that one: not for long, then.
	 */
	wait_event_killable_timeout(bucket->queue, atomic_long_read(&bucket->ends) != ticket,
				    vmf->flags & FAULT_FLAG_MKWRITE ? 1 : HZ / 10);
	return VM_FAULT_NOPAGE;
}
