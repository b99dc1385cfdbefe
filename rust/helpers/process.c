// SPDX-License-Identifier: GPL-2.0-only
/*
 * How processes are named, and what they have.
 *
 * A process is any of its threads that live: the first one may have ended, and
 * then is a zombie without memory as long as there are others.
 */

#include <linux/memcontrol.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/string.h>

#include "helpers.h"

void anon_rmap_get_pid(struct pid *pid)
{
	get_pid(pid);
}

/*
 * The process that has @nr as its id, or as that of one of its threads, in the
 * pid namespace of the current task. With a reference; NULL if there is none.
 */
struct pid *anon_rmap_find_process(pid_t nr)
{
	struct pid *process = NULL;
	struct task_struct *task;

	rcu_read_lock();
	task = pid_task(find_vpid(nr), PIDTYPE_PID);
	if (task)
		process = get_task_pid(task, PIDTYPE_TGID);
	rcu_read_unlock();
	return process;
}

/* The process that owns @mm, with a reference; NULL if there is none (any more). */
struct pid *anon_rmap_owner(struct mm_struct *mm)
{
	struct pid *process = NULL;

#ifdef CONFIG_MEMCG
	struct task_struct *owner;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	if (owner)
		process = get_task_pid(owner, PIDTYPE_TGID);
	rcu_read_unlock();
#endif
	return process;
}

/*
 * The number of @pid, which names a process or a thread, in the pid namespace
 * of the current task; 0 if it has none there, or nobody has it any more.
 */
pid_t anon_rmap_pid_vnr(struct pid *pid)
{
	return pid_has_task(pid, PIDTYPE_PID) ? pid_vnr(pid) : 0;
}

/* The address space of @task, with a reference that does not count as a user; NULL if it has none. */
static struct mm_struct *anon_rmap_grab_mm_of(struct task_struct *task)
{
	struct mm_struct *mm;

	if (task->flags & PF_KTHREAD)
		return NULL;
	task_lock(task);
	mm = task->mm;
	if (mm)
		mmgrab(mm);
	task_unlock(task);
	return mm;
}

/* The address space of @process, with a reference that does not count as a user; NULL if it has none. */
struct mm_struct *anon_rmap_grab_mm(struct pid *process)
{
	struct task_struct *leader, *thread;
	struct mm_struct *mm = NULL;

	rcu_read_lock();
	leader = pid_task(process, PIDTYPE_TGID);
	if (leader) {
		for_each_thread(leader, thread) {
			mm = anon_rmap_grab_mm_of(thread);
			if (mm)
				break;
		}
	}
	rcu_read_unlock();
	return mm;
}

/* Whether the address space of a process is @mm, which is only compared. */
bool anon_rmap_has_mm(struct pid *process, const struct mm_struct *mm)
{
	struct task_struct *leader, *thread;
	bool has = false;

	rcu_read_lock();
	leader = pid_task(process, PIDTYPE_TGID);
	if (leader && !(leader->flags & PF_KTHREAD)) {
		for_each_thread(leader, thread) {
			const struct mm_struct *its = READ_ONCE(thread->mm);

			if (its) {
				has = its == mm;
				break;
			}
		}
	}
	rcu_read_unlock();
	return has;
}

/* A number that is another one after each execve() of a process; 0 if it has gone. */
u64 anon_rmap_exec_id(struct pid *process)
{
	struct task_struct *leader;
	u64 id = 0;

	rcu_read_lock();
	leader = pid_task(process, PIDTYPE_TGID);
	if (leader)
		id = READ_ONCE(leader->self_exec_id);
	rcu_read_unlock();
	return id;
}

/* The command name of a process, which is that of its first thread; empty if it has gone. */
void anon_rmap_comm(struct pid *process, char *comm)
{
	struct task_struct *leader;

	rcu_read_lock();
	leader = pid_task(process, PIDTYPE_TGID);
	strscpy_pad(comm, leader ? leader->comm : "", TASK_COMM_LEN);
	rcu_read_unlock();
}
