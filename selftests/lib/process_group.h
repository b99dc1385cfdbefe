/* SPDX-License-Identifier: GPL-2.0-only */
/* A process group: what its tasks are at, and its end. */
#ifndef PROCESS_GROUP_H
#define PROCESS_GROUP_H

#include <sys/types.h>

/* How long tasks may live on after SIGKILL, as patience.h counts. */
#define KILL_SECONDS 5

/* How long who watches sleeps between two looks. */
void tick(void);

/* Shows where all tasks of a process group are. */
void show_tasks(pid_t group);

/* How a group has ended. */
enum end { IN_TIME, LATE, NEVER };

/*
 * Kills a group until this process has no children left; its descendants have to become its children
 * (PR_SET_CHILD_SUBREAPER). Shows what has not ended in time.
 */
enum end end_group(pid_t group);

#endif
