// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the file `events` needs and Rust cannot reach.
 */

#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/wait.h>

#include "helpers.h"

/* Who has the file open keeps the module, and so this. */
static DECLARE_WAIT_QUEUE_HEAD(anon_rmap_journal_waiters);

void anon_rmap_journal_wait(struct file *file, struct poll_table_struct *table)
{
	poll_wait(file, &anon_rmap_journal_waiters, table);
}

void anon_rmap_journal_wake(void)
{
	if (wq_has_sleeper(&anon_rmap_journal_waiters))
		wake_up_interruptible_poll(&anon_rmap_journal_waiters, EPOLLIN | EPOLLRDNORM);
}

bool anon_rmap_seq_trylock(struct seq_file *seq)
{
	return mutex_trylock(&seq->lock);
}

void anon_rmap_seq_unlock(struct seq_file *seq)
{
	mutex_unlock(&seq->lock);
}
