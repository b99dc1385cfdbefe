/* SPDX-License-Identifier: GPL-2.0-only */
/* What page tables have, by /proc/PID/pagemap. */
#ifndef PAGEMAP_H
#define PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGEMAP_PRESENT (1UL << 63)
#define PAGEMAP_GUARD (1UL << 58)
#define PAGEMAP_SOFT_DIRTY (1UL << 55)
#define PAGEMAP_FRAME ((1UL << 55) - 1)

/* The entry of an open /proc/PID/pagemap for the page at @address; 0 if there is none. */
uint64_t pagemap_entry(int fd, const void *address);

/* The entry of this process for the page at @address; 0 if there is none. */
uint64_t own_pagemap_entry(const void *address);

/* Reads the entries of this process for @pages pages; false if it can't. */
bool read_pagemap(const void *memory, size_t pages, uint64_t *entries);

/* For which of up to 64 pages this process has an entry with one of @flags: a bit for each. */
uint64_t pages_that_are(uint64_t flags, const void *memory, size_t pages);

/* Which of up to 64 pages mincore() finds: a bit for each. */
uint64_t pages_in_core(void *memory, size_t pages);

/* The frame in an entry, 0 if there is none. */
uint64_t frame_in(uint64_t entry);

/* The frame that is mapped at @address, 0 if there is none. */
uint64_t pfn_of(const void *address);

/* The frame of zeroes that is mapped where private memory was read and never written. */
uint64_t pfn_of_zeroes(void);

/* Forgets what this process has written (soft-dirty bits); returns 0 or the errno. */
int clear_soft_dirty(void);

/* Whether the kernel has such bits, by anonymous memory. What this process has written is forgotten. */
bool has_soft_dirty(void);

#endif
