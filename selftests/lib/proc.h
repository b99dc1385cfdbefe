/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc says of processes and their memory. */
#ifndef PROC_H
#define PROC_H

#include <stddef.h>
#include <stdint.h>

/* The state of the first thread of process @pid, by its letter in /proc/PID/stat; 0 if there is none. */
char state_of(uint64_t pid);

/* Calls @see for each line of `smaps` about a VMA that has some of the memory. */
void read_smaps(const char *memory, size_t pages, void (*see)(const char *line, void *argument), void *argument);

/* The kilobytes that `smaps` says under @name about those VMAs. */
long smaps_kilobytes(const char *memory, size_t pages, const char *name);

#endif
