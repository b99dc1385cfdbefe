/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two arenas that are compared, one with memory of the device and one with anonymous memory, at the
 * same addresses in each process and with nothing else near them, so that holes stay holes.
 */
#ifndef RANDOM_PROGRAM_ARENA_H
#define RANDOM_PROGRAM_ARENA_H

#include "../lib/access.h"
#include "../lib/device.h"
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum side { DEVICE_SIDE, ANONYMOUS_SIDE, NR_SIDES };

/* Has an aligned range of the size of a huge page in its middle, and many nodes of the amap's tree. */
#define ARENA_PAGES 600U
#define PAGES_BEFORE_ALIGNED 40U

static inline char *at(enum side side, unsigned int page)
{
	return (char *)((side + 1UL) << 44) - PAGES_BEFORE_ALIGNED * PAGE + page * PAGE;
}

/* Where @address is in the arena, in pages; OUTSIDE if it is not. */
#define OUTSIDE (-2L)

static inline long page_of(enum side side, const void *address)
{
	uintptr_t offset = (uintptr_t)address - (uintptr_t)at(side, 0);

	return offset < ARENA_PAGES * PAGE ? (long)(offset >> PAGE_SHIFT) : OUTSIDE;
}

static int device_fd;

/* The offset means nothing. */
static inline void *map_side(enum side side, unsigned int page, unsigned int pages, int protection, int flags,
			     off_t offset)
{
	if (side == ANONYMOUS_SIDE)
		return mmap(at(side, page), pages * PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);
	return mmap(at(side, page), pages * PAGE, protection, flags, device_fd, offset);
}

/* A VMA, in pages of the arena. */
struct vma {
	unsigned int start, end;
	bool readable, writable, shared;
	off_t offset;
};

/* A file of the process's own in /proc, which a child must open anew. */
static int maps_fd = -1, mem_fd = -1, pagemap_fd = -1;

/* Write-protects memory of the process that has opened it; -1 as long as none of it was. */
static int uffd = -1;

/* What can't be changed any more, in all that are forked too. */
static bool sealed[ARENA_PAGES];
static unsigned int nr_sealed;

/* How many of @pages from @page on come before one that is sealed. */
static inline unsigned int unsealed_pages(unsigned int page, unsigned int pages)
{
	unsigned int unsealed = 0;

	while (unsealed < pages && !sealed[page + unsealed])
		unsealed++;
	return unsealed;
}

static inline int open_once(int *fd, const char *path)
{
	if (*fd < 0)
		*fd = open(path, O_RDWR | O_CLOEXEC);
	if (*fd < 0)
		*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd;
}

static inline void forget_own_files(void)
{
	close(maps_fd);
	close(mem_fd);
	close(pagemap_fd);
	close(uffd);
	maps_fd = mem_fd = pagemap_fd = uffd = -1;
}

/* The VMA that has @page or is the next one after it; an empty one at the end if there is none. */
static inline struct vma next_vma(enum side side, unsigned int page)
{
	struct procmap_query query = {
		.size = sizeof(query),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		.query_addr = (uintptr_t)at(side, page),
	};
	const uintptr_t first = (uintptr_t)at(side, 0), last = (uintptr_t)at(side, ARENA_PAGES);

	if (ioctl(open_once(&maps_fd, "/proc/self/maps"), PROCMAP_QUERY, &query) || query.vma_start >= last)
		return (struct vma){ .start = ARENA_PAGES, .end = ARENA_PAGES };
	return (struct vma){
		.start = (query.vma_start - first) >> PAGE_SHIFT,
		.end = (query.vma_end - first) >> PAGE_SHIFT,
		.readable = query.vma_flags & PROCMAP_QUERY_VMA_READABLE,
		.writable = query.vma_flags & PROCMAP_QUERY_VMA_WRITABLE,
		.shared = query.vma_flags & PROCMAP_QUERY_VMA_SHARED,
		.offset = query.vma_offset,
	};
}

/* Whether a page reads the same on both sides; if not, @text says how it differs. */
static inline bool same_page(unsigned int page, char *text, size_t size)
{
	struct access device = load(at(DEVICE_SIDE, page)), anonymous = load(at(ANONYMOUS_SIDE, page));
	const uint64_t *words = (void *)at(DEVICE_SIDE, page), *expected = (void *)at(ANONYMOUS_SIDE, page);

	if (device.signal != anonymous.signal || device.code != anonymous.code) {
		snprintf(text, size, "page %u: signal %d code %d, anonymous memory has signal %d code %d", page,
			 device.signal, device.code, anonymous.signal, anonymous.code);
		return false;
	}
	if (device.signal || !memcmp(words, expected, PAGE))
		return true;
	for (unsigned int i = 0; i < PAGE / sizeof(*words); i++) {
		if (words[i] == expected[i])
			continue;
		snprintf(text, size, "page %u word %u: %#lx, anonymous memory has %#lx", page, i, words[i],
			 expected[i]);
		return false;
	}
	/* Different a moment ago, but not now. */
	snprintf(text, size, "page %u changes while nobody writes", page);
	return false;
}

static inline bool same_pages(unsigned int page, unsigned int pages, char *text, size_t size)
{
	for (unsigned int i = 0; i < pages; i++)
		if (!same_page(page + i, text, size))
			return false;
	return true;
}

/* Whether both sides have mapped the same addresses, with the same content. */
static inline bool same_arena(char *text, size_t size)
{
	for (unsigned int page = 0; page < ARENA_PAGES;) {
		struct vma device = next_vma(DEVICE_SIDE, page), anonymous = next_vma(ANONYMOUS_SIDE, page);
		unsigned int start = device.start > page ? device.start : page;
		/* Anonymous VMAs can have been merged. */
		unsigned int end = device.end < anonymous.end ? device.end : anonymous.end;

		if (start != (anonymous.start > page ? anonymous.start : page) ||
		    device.readable != anonymous.readable || device.writable != anonymous.writable ||
		    device.shared != anonymous.shared) {
			snprintf(text, size, "page %u: mapped differently", page);
			return false;
		}
		if (device.readable && !same_pages(start, end - start, text, size))
			return false;
		page = end;
	}
	return true;
}

#endif
