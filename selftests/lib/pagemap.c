// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"
#include "file.h"
#include "pagemap.h"

#define MAX_PAGES 64

uint64_t pagemap_entry(int fd, const void *address)
{
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), ((uintptr_t)address >> PAGE_SHIFT) * sizeof(entry)) != sizeof(entry))
		return 0;
	return entry;
}

uint64_t own_pagemap_entry(const void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = pagemap_entry(fd, address);

	close(fd);
	return entry;
}

bool read_pagemap(const void *memory, size_t pages, uint64_t *entries)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t size = pages * sizeof(*entries);
	bool is_read = pread(fd, entries, size, ((uintptr_t)memory >> PAGE_SHIFT) * sizeof(*entries)) == size;

	close(fd);
	return is_read;
}

uint64_t pages_that_are(uint64_t flags, const void *memory, size_t pages)
{
	uint64_t entries[MAX_PAGES] = {}, found = 0;

	if (pages > MAX_PAGES || !read_pagemap(memory, pages, entries))
		abort();
	for (size_t i = 0; i < pages; i++)
		if (entries[i] & flags)
			found |= 1ULL << i;
	return found;
}

uint64_t pages_in_core(void *memory, size_t pages)
{
	unsigned char bytes[MAX_PAGES] = {};
	uint64_t found = 0;

	if (pages > MAX_PAGES || mincore(memory, pages * PAGE, bytes))
		abort();
	for (size_t i = 0; i < pages; i++)
		if (bytes[i] & 1)
			found |= 1ULL << i;
	return found;
}

uint64_t frame_in(uint64_t entry)
{
	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}

uint64_t pfn_of(const void *address)
{
	return frame_in(own_pagemap_entry(address));
}

uint64_t pfn_of_zeroes(void)
{
	volatile char *memory = map_private(false, 1);
	uint64_t pfn;

	(void)*memory;
	pfn = pfn_of((const void *)memory);
	munmap((void *)memory, PAGE);
	return pfn;
}

int clear_soft_dirty(void)
{
	return write_text("/proc/self/clear_refs", "4");
}

bool has_soft_dirty(void)
{
	char *memory = map_private(false, 1);
	bool has;

	clear_soft_dirty();
	*(volatile char *)memory = 1;
	has = pages_that_are(PAGEMAP_SOFT_DIRTY, memory, 1);
	munmap(memory, PAGE);
	return has;
}
