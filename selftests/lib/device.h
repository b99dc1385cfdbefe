/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory of the device, and what is in it. */
#ifndef DEVICE_H
#define DEVICE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "uapi.h"

#define DEVICE "/dev/anon_rmap"
/* The name of the file behind each mapping of the device, in /proc/PID/maps. */
#define MAPPING "anon_inode:[anon_rmap]"
#define PAGE_SHIFT 12
#define PAGE (1UL << PAGE_SHIFT)

/* Maps @size bytes of the device, or of anonymous memory: for tests that both have to pass. As mmap(). */
char *map_memory(bool device, size_t size, int protection, int flags);

/* Maps @pages pages of the device; @flags as for mmap(). */
char *map_device(size_t pages, int flags);

/* Addresses of @pages pages where nothing can be accessed: a place to move to. */
char *reserve(size_t pages);

/* @size bytes of anonymous memory that this process will share with its children. */
void *map_shared(size_t size);

/* Private memory of the device, or anonymous memory. */
char *map_private(bool device, size_t pages);

/* The first word of page @page of memory that was filled with @seed. */
uint64_t word(uint64_t seed, size_t page);

/* Fills @pages pages with words that differ, and that tell @seed. */
void fill(void *memory, size_t pages, uint64_t seed);

/* Whether @pages pages, from page @first on, are as fill() has left them. */
bool filled(const void *memory, size_t first, size_t pages, uint64_t seed);

/* Whether @pages pages contain nothing but zeroes. */
bool zeroed(const void *memory, size_t pages);

#endif
