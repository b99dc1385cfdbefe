/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A write by the kernel to memory of this process that takes as long as one likes: process_vm_writev() has pinned the
 * pages (FOLL_PIN, as a device's driver would), and waits for the data, which is in memory that user space has yet to
 * provide.
 */
#ifndef SLOW_WRITE_H
#define SLOW_WRITE_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

/* At most; process_vm_writev() pins so many at once. */
#define SLOW_WRITE_PAGES 16UL

/* Such a write. */
struct slow_write {
	char *target, *source;
	size_t size;
	/* What process_vm_writev() returned. */
	ssize_t written;
	int error;
	pthread_t thread;
	int uffd, ended;
};

/* For a child that was forked meanwhile: the write is the parent's. */
void forget_slow_write(struct slow_write *write);

/*
 * Begins to write @size bytes, at most SLOW_WRITE_PAGES pages, to @target. Returns 0 or the errno. If the target can't
 * be written the write has ended already.
 */
int begin_slow_write(struct slow_write *write, void *target, size_t size);

/* Lets the write end, with what is at @data (SLOW_WRITE_PAGES pages); returns 0 or the errno. */
int end_slow_write(struct slow_write *write, const void *data);

#endif
