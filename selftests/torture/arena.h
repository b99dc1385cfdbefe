/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory of a process, and what is known of it: who may have written what is there, and what a thread that has written
 * a word must find again.
 */
#ifndef TORTURE_ARENA_H
#define TORTURE_ARENA_H

#include "world.h"
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static int device_fd = -1;

/* Far from all else, so that holes stay holes. */
static inline char *at(enum arena arena, unsigned int page)
{
	return (char *)((arena + 1UL) << 44) - 40 * PAGE + page * PAGE;
}

struct range {
	enum arena arena;
	unsigned int page, pages;
};

static inline char *start_of(const struct range *range)
{
	return at(range->arena, range->page);
}

static inline size_t size_of(const struct range *range)
{
	return range->pages * PAGE;
}

static inline void set_range(struct note *note, const struct range *range)
{
	note->arena = range->arena;
	note->page = range->page;
	note->pages = range->pages;
}

static inline unsigned int at_most(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static inline void *map_range(const struct range *range, int protection, int flags, off_t offset)
{
	flags |= range->arena == SHARED ? MAP_SHARED : MAP_PRIVATE;
	if (world->anonymous)
		return mmap(start_of(range), size_of(range), protection, flags | MAP_ANONYMOUS, -1, 0);
	return mmap(start_of(range), size_of(range), protection, flags, device_fd, offset);
}

/*
 * The changes of a place that can drop or replace its page, begun and ended. While they are equal and stay what they are,
 * nothing of that kind goes on.
 */
struct changes {
	atomic_uint begun, ended;
};

static struct changes changes[NR_ARENAS][ARENA_PAGES];

/* A word that a thread must find at a place as long as no change has begun. */
struct memory {
	bool known;
	unsigned char word;
	unsigned int begun;
	uint64_t value;
	/* What has made it known. */
	const char *since;
};

static struct memory memories[MAX_THREADS][NR_ARENAS][ARENA_PAGES];

/* Up to which version a process may see words of each process in private memory: until it was forked. */
static unsigned int visible[MAX_NUMBERS];

/* Who acts: a thread of a member, or a child that it has forked. */
struct actor {
	unsigned int slot, thread, number;
	/* 0 for a member. */
	unsigned int depth;
	struct worker *worker;
	/* The operation that it is in. */
	const char *doing;
	/* Of its own, as a child can't share it with its parent. */
	int pipe[2];
	/* In place i of a range that is changed: what begun is while nobody else changes it; 0 if somebody does. */
	unsigned int alone[2][ARENA_PAGES];
};

/* Files of the process's own, which a child must open anew. */
static int maps_fd = -1, mem_fd = -1, pagemap_fd = -1, uffd = -1;

static inline int open_once(int *fd, const char *path)
{
	if (*fd < 0)
		*fd = open(path, O_RDWR | O_CLOEXEC);
	if (*fd < 0)
		*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		fail("%s: %s", path, strerror(errno));
	return *fd;
}

/* The userfaultfd of this process; without one, what it is for fails. */
static inline int open_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0)
		ioctl(fd, UFFDIO_API, &api);
	return fd;
}

static inline void open_own_files(void)
{
	int *const files[] = { &maps_fd, &mem_fd, &pagemap_fd, &uffd };

	for (unsigned int i = 0; i < sizeof(files) / sizeof(*files); i++) {
		if (*files[i] >= 0)
			close(*files[i]);
		*files[i] = -1;
	}
	open_once(&maps_fd, "/proc/self/maps");
	open_once(&mem_fd, "/proc/self/mem");
	open_once(&pagemap_fd, "/proc/self/pagemap");
	uffd = open_uffd();
}

static inline void open_pipe(struct actor *actor)
{
	if (pipe2(actor->pipe, O_CLOEXEC | O_NONBLOCK))
		fail("pipe: %s", strerror(errno));
}

static inline void close_pipe(struct actor *actor)
{
	close(actor->pipe[0]);
	close(actor->pipe[1]);
}

/* Forgets what the threads know of an arena. */
static inline void forget(enum arena arena)
{
	for (unsigned int thread = 0; thread < MAX_THREADS; thread++)
		memset(memories[thread][arena], 0, sizeof(memories[thread][arena]));
}

/* Keeps what the thread that has forked knows of private memory: of that the child has a copy. */
static inline void inherit(unsigned int thread)
{
	forget(SHARED);
	for (unsigned int i = 0; i < MAX_THREADS; i++)
		if (i != thread)
			memset(memories[i], 0, sizeof(memories[i]));
	for (unsigned int page = 0; page < ARENA_PAGES; page++) {
		struct changes *place = &changes[PRIVATE][page];

		/* Another thread may be about to change it. */
		if (atomic_load(&place->begun) != atomic_load(&place->ended))
			memories[thread][PRIVATE][page].known = false;
	}
}

/* A process that was just forked by @parent; it is the only thread, and no change of its parent's goes on in it. */
static inline unsigned int be_born(unsigned int parent)
{
	unsigned int number = atomic_fetch_add(&world->numbers, 1);

	if (number >= MAX_NUMBERS)
		_exit(0);
	visible[parent] = atomic_load(&world->version);
	visible[number] = MAX_VERSION;
	for (enum arena arena = 0; arena < NR_ARENAS; arena++)
		for (unsigned int page = 0; page < ARENA_PAGES; page++)
			atomic_store(&changes[arena][page].ended, atomic_load(&changes[arena][page].begun));
	open_own_files();
	return number;
}

static inline void begin_change(struct actor *actor, unsigned int which, const struct range *range)
{
	for (unsigned int i = 0; i < range->pages; i++) {
		struct changes *place = &changes[range->arena][range->page + i];
		unsigned int ended = atomic_load(&place->ended);
		unsigned int begun = atomic_fetch_add(&place->begun, 1);

		actor->alone[which][i] = begun == ended ? begun + 1 : 0;
	}
}

static inline void end_change(const struct range *range)
{
	for (unsigned int i = 0; i < range->pages; i++)
		atomic_fetch_add(&changes[range->arena][range->page + i].ended, 1);
}

/* Whether nobody else has changed place i of a range since begin_change(). */
static inline bool is_alone(const struct actor *actor, unsigned int which, const struct range *range, unsigned int i)
{
	return actor->alone[which][i] &&
	       actor->alone[which][i] == atomic_load(&changes[range->arena][range->page + i].begun);
}

static inline unsigned int own_word(const struct actor *actor)
{
	return actor->slot * MAX_THREADS + actor->thread;
}

static inline struct memory *memory_of(const struct actor *actor, enum arena arena, unsigned int page)
{
	return &memories[actor->thread][arena][page];
}

/* The word at a place is known to be @value if no change has begun since @begun was read, and none was under way then. */
static inline void remember(const struct actor *actor, enum arena arena, unsigned int page, unsigned int word,
			    uint64_t value, unsigned int begun)
{
	*memory_of(actor, arena, page) = (struct memory){ true, word, begun, value, actor->doing };
}

/* The place was emptied by this actor: of which it knows its own word. */
static inline void remember_emptied(struct actor *actor, unsigned int which, const struct range *range)
{
	for (unsigned int i = 0; i < range->pages; i++)
		if (is_alone(actor, which, range, i))
			remember(actor, range->arena, range->page + i, own_word(actor), 0, actor->alone[which][i]);
}

/*
 * Whether a word may be where it was read; @stranger if it is another process's memory, of whose ancestors nothing is known.
 * What was read is older than what world->version is now.
 */
static inline bool may_be_at(uint64_t value, enum arena arena, unsigned int page, unsigned int word, bool stranger)
{
	struct mark mark = mark_of(value);

	if (!value)
		return true;
	if (word >= NR_WORDS || mark.word != word || mark.column != page % LANE || !mark.version ||
	    mark.version > atomic_load(&world->version) || mark.number >= atomic_load(&world->numbers))
		return false;
	if (mark.tag != (word == FOREIGN_WORD ? FOREIGN_TAG : arena == SHARED ? SHARED_TAG : PRIVATE_TAG))
		return false;
	return mark.tag != PRIVATE_TAG || stranger || mark.version <= visible[mark.number];
}

/* A VMA, in pages of an arena. */
struct vma {
	unsigned int start, end;
	bool readable, writable, shared;
	uint64_t offset;
};

/* The VMA that has @page or is the next one after it; an empty one at the end if there is none. */
static inline struct vma next_vma(enum arena arena, unsigned int page)
{
	struct procmap_query query = {
		.size = sizeof(query),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		.query_addr = (uintptr_t)at(arena, page),
	};
	const uintptr_t first = (uintptr_t)at(arena, 0), last = (uintptr_t)at(arena, ARENA_PAGES);

	if (page >= ARENA_PAGES || ioctl(maps_fd, PROCMAP_QUERY, &query) || query.vma_start >= last)
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

#endif
