// SPDX-License-Identifier: GPL-2.0-only
/* Signals of the current task. */

#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "helpers.h"

/*
 * Lets the current task do something that a pending signal would interrupt.
 * Returns what anon_rmap_show_signals() needs to undo that.
 */
bool anon_rmap_hide_signals(void)
{
	clear_thread_flag(TIF_SIGPENDING);
	return test_and_clear_thread_flag(TIF_NOTIFY_SIGNAL);
}

void anon_rmap_show_signals(bool notify)
{
	spin_lock_irq(&current->sighand->siglock);
	recalc_sigpending();
	spin_unlock_irq(&current->sighand->siglock);
	if (notify)
		set_thread_flag(TIF_NOTIFY_SIGNAL);
}

bool anon_rmap_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/* Whether the current task writes a core dump. */
bool anon_rmap_is_dumping_core(void)
{
	return current->flags & PF_DUMPCORE;
}
