/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process that is stuck with its mmap lock for as long as one likes. A thread of it reads, through /proc/self/mem,
 * memory in which a file is mapped, and so waits for the file system with the lock for reading; that is one of this
 * program (FUSE), which does not answer. Then it maps memory, for which it wants the lock for writing: whoever wants the
 * lock from then on waits, too.
 */
#ifndef STUCK_H
#define STUCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STUCK_PAGES 256

/* Such a process. */
struct stuck {
	pid_t pid;
	int fuse;
	char path[32];
	pthread_t server;
	/* What the process and its parent tell each other. */
	struct {
		volatile bool is_read;
		volatile size_t mapped;
		/* The frames of its memory; how often it got the right SIGBUS there, when it is no longer stuck. */
		volatile uint64_t pfns[STUCK_PAGES];
		volatile size_t refused;
		volatile bool ended;
	} *shared;
};

/* Starts a process that gets stuck, and waits until it is; it has none of @memory. Returns 0 or the errno. */
int start_stuck(struct stuck *stuck, char *memory, size_t pages);

/* Whether the first thread of process @pid sleeps and can't be interrupted. */
bool sleeps_deeply(uint64_t pid);

/* Lets the process go on. */
void free_stuck(struct stuck *stuck);

/* Lets the process look at its memory and end; returns how often it got the SIGBUS of failed memory. */
size_t end_stuck(struct stuck *stuck);

#endif
