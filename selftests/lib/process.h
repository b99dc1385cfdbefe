/* SPDX-License-Identifier: GPL-2.0-only */
/* What processes do first and last. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Lets this process, which was just forked, die with @parent. */
void die_with(pid_t parent);

/* Whether a child of this process has died. */
bool is_dead(pid_t pid);

/* Gives up all rights, for good; returns 0 or the errno. */
int become_nobody(void);

#endif
