/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The operations that are done on both sides, and what is compared of their results.
 *
 * What core mm does not let a driver do is left out where it is said here; each such difference is
 * shown as it is in core_mm_limits.c.
 */
#ifndef RANDOM_PROGRAM_OPERATIONS_H
#define RANDOM_PROGRAM_OPERATIONS_H

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "arena.h"
#include "../lib/random.h"
#include "../lib/slow_write.h"

struct operation {
	const struct kind *kind;
	/* The range. */
	unsigned int page, pages;
	/* A second range, of mremap. */
	unsigned int to, to_pages;
	/* Protection, advice or flags. */
	int argument;
	/* The process whose memory it is. */
	pid_t target;
	/* What is written, and what else varies. */
	uint64_t value;
};

/* No padding: compared as a whole. */
struct outcome {
	long value;
	/* Of the last access: the first one that fails is the last. */
	long page;
	int signal, code;
	/* Of the data that was read. */
	uint64_t digest;
	long error;
};

struct kind {
	const char *name;
	unsigned int weight;
	void (*choose)(struct operation *operation, struct random *random);
	void (*perform)(const struct operation *operation, enum side side, struct outcome *outcome);
	/* Instead of perform, if it is for both sides together; false if @failure says what is wrong. */
	bool (*perform_once)(const struct operation *operation, char *failure, size_t size);
};

static void set_result(struct outcome *outcome, long value)
{
	outcome->value = value;
	outcome->error = value == -1 ? errno : 0;
}

/* False if the access has failed. */
static bool add_access(struct outcome *outcome, unsigned int page, struct access access)
{
	outcome->page = page;
	outcome->signal = access.signal;
	outcome->code = access.code;
	return !access.signal;
}

static void add_data(struct outcome *outcome, const void *data, size_t size)
{
	const uint64_t *words = data;

	for (size_t i = 0; i < size / sizeof(*words); i++)
		outcome->digest = (outcome->digest ^ words[i]) * 0x100000001b3;
}

static char *start_of(const struct operation *operation, enum side side)
{
	return at(side, operation->page);
}

static size_t size_of(const struct operation *operation)
{
	return operation->pages * PAGE;
}

static unsigned int random_length(struct random *random)
{
	return 1 + below(random, one_in(random, 16) ? ARENA_PAGES : 8);
}

static unsigned int at_most(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static void choose_range(struct operation *operation, struct random *random)
{
	/* Where many operations meet, or anywhere. */
	operation->page = below(random, one_in(random, 3) ? ARENA_PAGES : 128);
	operation->pages = at_most(random_length(random), ARENA_PAGES - operation->page);
	operation->value = next(random);
}

/* For what copies: not more than a pipe takes. */
#define MAX_COPIED_PAGES 16U

static void choose_short_range(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->pages = at_most(operation->pages, MAX_COPIED_PAGES);
}

/* PROT_WRITE alone lets system calls read what happens to be in page tables: not the same twice. */
static int random_protection(struct random *random)
{
	static const int protections[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
	};

	return protections[below(random, sizeof(protections) / sizeof(*protections))];
}

/* A word in each page. */
static void perform_write(const struct operation *operation, enum side side, struct outcome *outcome)
{
	for (unsigned int i = 0; i < operation->pages; i++) {
		uint64_t value = operation->value + i;
		uint64_t *words = (void *)at(side, operation->page + i);

		if (!add_access(outcome, operation->page + i,
				store(&words[value % (PAGE / sizeof(*words))], value)))
			return;
	}
}

static struct access fill_page(char *page, int byte)
{
	struct access access = {};

	ATTEMPT(access, memset(page, byte, PAGE));
	return access;
}

static void perform_fill(const struct operation *operation, enum side side, struct outcome *outcome)
{
	for (unsigned int i = 0; i < operation->pages; i++)
		if (!add_access(outcome, operation->page + i,
				fill_page(at(side, operation->page + i), operation->value >> 32)))
			return;
}

static void perform_read(const struct operation *operation, enum side side, struct outcome *outcome)
{
	for (unsigned int i = 0; i < operation->pages; i++) {
		uint64_t *words = (void *)at(side, operation->page + i);
		struct access access = load(&words[(operation->value + i) % (PAGE / sizeof(*words))]);

		if (!add_access(outcome, operation->page + i, access))
			return;
		add_data(outcome, &access.value, sizeof(access.value));
	}
}

static void choose_mmap(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->to_pages = random_protection(random);
	operation->argument = one_in(random, 5) ? MAP_SHARED : MAP_PRIVATE;
	operation->argument |= one_in(random, 4) ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	if (one_in(random, 6))
		operation->argument |= MAP_POPULATE;
	if (one_in(random, 10))
		operation->argument |= MAP_LOCKED;
	if (one_in(random, 10))
		operation->argument |= MAP_NORESERVE;
}

/* Any offset, or one that continues what is mapped before or behind. */
static off_t offset_for(const struct operation *operation)
{
	unsigned int page = operation->page;
	struct vma before = next_vma(DEVICE_SIDE, page ? page - 1 : 0);
	struct vma behind = next_vma(DEVICE_SIDE, page + operation->pages);

	switch (operation->value & 3) {
	case 0:
		return 0;
	case 1:
		return (operation->value >> 24) * PAGE;
	case 2:
		return before.start < page ? before.offset + (page - before.start) * PAGE : 0;
	default:
		return behind.offset > size_of(operation) ? behind.offset - size_of(operation) : 0;
	}
}

static void perform_mmap(const struct operation *operation, enum side side, struct outcome *outcome)
{
	void *memory = map_side(side, operation->page, operation->pages, operation->to_pages, operation->argument,
				offset_for(operation));

	set_result(outcome, memory == MAP_FAILED ? -1 : page_of(side, memory));
}

static void perform_munmap(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, munmap(start_of(operation, side), size_of(operation)));
}

static void choose_mprotect(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->argument = random_protection(random);
}

static void perform_mprotect(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, mprotect(start_of(operation, side), size_of(operation), operation->argument));
}

/*
 * Neighbouring VMAs of the device are never merged, those of anonymous memory are; and mremap moves
 * several VMAs only if it is told where to and does not resize. All else is done within one VMA of the
 * device. A shared mapping is neither grown nor duplicated (old size 0): the device has no object of a
 * fixed size behind it that could be seen twice, or have an end.
 */
static void choose_mremap(struct operation *operation, struct random *random)
{
	bool resize = one_in(random, 2);
	struct vma vma;

	choose_range(operation, random);
	operation->argument = one_in(random, 4) ? 0 : MREMAP_MAYMOVE;
	if (one_in(random, 2))
		operation->argument |= MREMAP_FIXED;
	if (!resize && one_in(random, 3))
		operation->argument |= MREMAP_DONTUNMAP;
	vma = next_vma(DEVICE_SIDE, operation->page);
	if (vma.start <= operation->page && (resize || !(operation->argument & MREMAP_FIXED)))
		operation->pages = at_most(operation->pages, vma.end - operation->page);
	operation->to_pages = operation->pages;
	if (resize)
		operation->to_pages = at_most(random_length(random), ARENA_PAGES - operation->page);
	if (vma.shared)
		operation->to_pages = at_most(operation->to_pages, operation->pages);
	else if (one_in(random, 50)) {
		/*
		 * Without MREMAP_MAYMOVE it is another error; and with MREMAP_FIXED core mm unmaps the target before
		 * it asks the device, which refuses.
		 */
		operation->argument = MREMAP_MAYMOVE;
		operation->pages = 0;
	}
	operation->to = below(random, ARENA_PAGES - operation->to_pages + 1);
	/* Core mm moves one VMA after the other, and anonymous memory has fewer: how much comes before a target that is sealed differs. */
	if (vma.end < operation->page + operation->pages &&
	    unsealed_pages(operation->to, operation->to_pages) < operation->to_pages)
		operation->pages = operation->to_pages = 0;
}

static void perform_mremap(const struct operation *operation, enum side side, struct outcome *outcome)
{
	size_t size = operation->to_pages * PAGE;
	char *to = at(side, operation->to);
	void *moved = mremap(start_of(operation, side), size_of(operation), size, operation->argument, to);

	set_result(outcome, moved == MAP_FAILED ? -1 : page_of(side, moved));
	if (outcome->value != OUTSIDE)
		return;
	/* Where the kernel has chosen. */
	moved = mremap(moved, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	outcome->page = page_of(side, moved);
}

/*
 * Not here: MADV_FREE, MADV_WIPEONFORK and MADV_REMOVE, which a driver's mapping refuses. MADV_GUARD_INSTALL lets a
 * driver know only of pages that are in page tables: it is done where all pages are, or where there are none. Where there
 * are markers of write protection it does not end, but for private anonymous memory.
 */
static const int advices[] = {
	MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_DONTFORK, MADV_DOFORK,
	MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD,
	MADV_PAGEOUT, MADV_WILLNEED, MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_GUARD_REMOVE,
};

/* As is_discard() of mm/madvise.c. */
static bool is_discard(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_GUARD_INSTALL ||
	       advice == MADV_DONTFORK;
}

static void choose_madvise(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->argument = advices[below(random, sizeof(advices) / sizeof(*advices))];
	/* Core mm refuses it for sealed anonymous memory, and drivers' memory is to be as if it had. */
	if (is_discard(operation->argument))
		operation->pages = unsealed_pages(operation->page, operation->pages);
	if (operation->argument == MADV_GUARD_INSTALL && uffd >= 0)
		operation->argument = MADV_GUARD_REMOVE;
}

static void perform_madvise(const struct operation *operation, enum side side, struct outcome *outcome)
{
	char *start = start_of(operation, side);
	size_t size = size_of(operation);

	if (operation->argument == MADV_GUARD_INSTALL &&
	    (operation->value & 1 || madvise(start, size, MADV_POPULATE_READ)))
		madvise(start, size, MADV_DONTNEED_LOCKED);
	set_result(outcome, madvise(start, size, operation->argument));
}

/* Private memory, which some processes have sealed: what is read-only is not discarded. */
#define MAX_SEALED 64

static void choose_seal(struct operation *operation, struct random *random)
{
	struct vma vma;

	choose_range(operation, random);
	operation->pages = at_most(operation->pages, 6);
	vma = next_vma(DEVICE_SIDE, operation->page);
	if (vma.start > operation->page || vma.shared || nr_sealed >= MAX_SEALED)
		operation->pages = 0;
	operation->pages = at_most(operation->pages, vma.end - operation->page);
}

static void perform_seal(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, syscall(SYS_mseal, start_of(operation, side), size_of(operation), 0));
	for (unsigned int i = 0; !outcome->error && i < operation->pages; i++) {
		nr_sealed += !sealed[operation->page + i];
		sealed[operation->page + i] = true;
	}
}

/* What is sealed, or some of it. */
static void choose_sealed(struct operation *operation, struct random *random)
{
	unsigned int page;

	choose_range(operation, random);
	for (page = 0; page < ARENA_PAGES && !sealed[page]; page++)
		;
	operation->page = at_most(page, ARENA_PAGES - 1);
	for (operation->pages = 0; page < ARENA_PAGES && sealed[page]; page++)
		operation->pages++;
	if (operation->pages) {
		unsigned int skipped = below(random, operation->pages);

		operation->page += skipped;
		operation->pages -= skipped;
	}
}

/*
 * Sealed memory is discarded if it can be written. If not core mm refuses that for anonymous memory, and drivers' memory
 * is as if it had: only what is then there is compared.
 */
static void perform_discard_sealed(const struct operation *operation, enum side side, struct outcome *outcome)
{
	(void)outcome;
	for (unsigned int i = 0; i < operation->pages; i++)
		madvise(at(side, operation->page + i), PAGE, MADV_DONTNEED);
}

static void choose_mlock(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->argument = one_in(random, 3) ? MLOCK_ONFAULT : 0;
}

static void perform_mlock(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, mlock2(start_of(operation, side), size_of(operation), operation->argument));
}

static void perform_munlock(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, munlock(start_of(operation, side), size_of(operation)));
}

/* Its own pages go through a pipe. */
static void perform_vmsplice(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct iovec pages = { start_of(operation, side), size_of(operation) };
	static char copy[MAX_COPIED_PAGES * PAGE];
	int ends[2];
	long size;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		abort();
	size = vmsplice(ends[1], &pages, 1, 0);
	set_result(outcome, size);
	if (size > 0 && read(ends[0], copy, sizeof(copy)) == size)
		add_data(outcome, copy, size);
	close(ends[0]);
	close(ends[1]);
}

static void perform_process_vm_readv(const struct operation *operation, enum side side, struct outcome *outcome)
{
	static char copy[MAX_COPIED_PAGES * PAGE];
	struct iovec local = { copy, size_of(operation) }, remote = { start_of(operation, side), local.iov_len };

	set_result(outcome, process_vm_readv(operation->target, &local, 1, &remote, 1, 0));
	if (outcome->value > 0)
		add_data(outcome, copy, outcome->value);
}

static char *pattern(const struct operation *operation)
{
	static uint64_t words[MAX_COPIED_PAGES * PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < size_of(operation) / sizeof(*words); i++)
		words[i] = operation->value + i;
	return (char *)words;
}

static void perform_process_vm_writev(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct iovec local = { pattern(operation), size_of(operation) };
	struct iovec remote = { start_of(operation, side), local.iov_len };

	set_result(outcome, process_vm_writev(operation->target, &local, 1, &remote, 1, 0));
}

static void perform_proc_mem_read(const struct operation *operation, enum side side, struct outcome *outcome)
{
	static char copy[MAX_COPIED_PAGES * PAGE];

	set_result(outcome, pread(open_once(&mem_fd, "/proc/self/mem"), copy, size_of(operation),
				  (off_t)start_of(operation, side)));
	if (outcome->value > 0)
		add_data(outcome, copy, outcome->value);
}

/* A driver's pages can't be written by force: only where the process itself could. */
static void choose_writable(struct operation *operation, struct random *random)
{
	struct vma vma;

	choose_short_range(operation, random);
	vma = next_vma(DEVICE_SIDE, operation->page);
	if (vma.start <= operation->page && vma.writable)
		operation->pages = at_most(operation->pages, vma.end - operation->page);
	else
		operation->pages = 0;
}

static void perform_proc_mem_write(const struct operation *operation, enum side side, struct outcome *outcome)
{
	set_result(outcome, pwrite(open_once(&mem_fd, "/proc/self/mem"), pattern(operation), size_of(operation),
				   (off_t)start_of(operation, side)));
}

/* A file in memory, for read() and write(); or a pipe. */
static int file_fd;

static void perform_write_from(const struct operation *operation, enum side side, struct outcome *outcome)
{
	static char copy[MAX_COPIED_PAGES * PAGE];

	set_result(outcome, pwrite(file_fd, start_of(operation, side), size_of(operation), 0));
	if (outcome->value > 0 && pread(file_fd, copy, outcome->value, 0) == outcome->value)
		add_data(outcome, copy, outcome->value);
}

static void perform_read_to(const struct operation *operation, enum side side, struct outcome *outcome)
{
	if (pwrite(file_fd, pattern(operation), size_of(operation), 0) < 0)
		abort();
	set_result(outcome, pread(file_fd, start_of(operation, side), size_of(operation), 0));
}

static void perform_write_to_pipe(const struct operation *operation, enum side side, struct outcome *outcome)
{
	static char copy[MAX_COPIED_PAGES * PAGE];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		abort();
	set_result(outcome, write(ends[1], start_of(operation, side), size_of(operation)));
	if (outcome->value > 0 && read(ends[0], copy, sizeof(copy)) == outcome->value)
		add_data(outcome, copy, outcome->value);
	close(ends[0]);
	close(ends[1]);
}

static void perform_read_from_pipe(const struct operation *operation, enum side side, struct outcome *outcome)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		abort();
	if (write(ends[1], pattern(operation), size_of(operation)) != size_of(operation))
		abort();
	set_result(outcome, read(ends[0], start_of(operation, side), size_of(operation)));
	close(ends[0]);
	close(ends[1]);
}

/*
 * Asynchronous write protection by userfaultfd, which nobody but a scan of the pagemap notices. A child has none.
 */
static int open_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};

	if (uffd >= 0)
		return uffd;
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	/* A kernel without markers for that refuses it, and all that follows. */
	if (uffd >= 0)
		ioctl(uffd, UFFDIO_API, &api);
	return uffd;
}

enum { REGISTER, UNREGISTER, PROTECT, UNPROTECT, NR_UFFD };

static void choose_uffd(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->argument = below(random, NR_UFFD);
}

static void perform_uffd(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct uffdio_range range = { (uintptr_t)start_of(operation, side), size_of(operation) };
	struct uffdio_register registration = { .range = range, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protection = { .range = range };

	switch (operation->argument) {
	case REGISTER:
		set_result(outcome, ioctl(open_uffd(), UFFDIO_REGISTER, &registration));
		break;
	case UNREGISTER:
		/* Core mm refuses it where a driver's memory is not registered. */
		set_result(outcome, ioctl(open_uffd(), UFFDIO_REGISTER, &registration));
		if (!outcome->error)
			set_result(outcome, ioctl(open_uffd(), UFFDIO_UNREGISTER, &range));
		break;
	default:
		protection.mode = operation->argument == PROTECT ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
		set_result(outcome, ioctl(open_uffd(), UFFDIO_WRITEPROTECT, &protection));
	}
}

/* Write-protects the pages of a range that were written, and adds which ones these were. */
static void scan_written(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct page_region regions[MAX_COPIED_PAGES] = {};
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)start_of(operation, side),
		.end = (uintptr_t)start_of(operation, side) + size_of(operation),
		.vec = (uintptr_t)regions,
		.vec_len = MAX_COPIED_PAGES,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	set_result(outcome, ioctl(open_once(&pagemap_fd, "/proc/self/pagemap"), PAGEMAP_SCAN, &scan));
	for (long i = 0; i < outcome->value; i++) {
		uint64_t pages[] = {
			page_of(side, (void *)(uintptr_t)regions[i].start),
			(regions[i].end - regions[i].start) >> PAGE_SHIFT,
		};

		add_data(outcome, pages, sizeof(pages));
	}
}

/* One that can be written, in a VMA of its own on neither side. */
static void choose_scan(struct operation *operation, struct random *random)
{
	choose_writable(operation, random);
	operation->argument = below(random, 3);
}

/*
 * Which pages were written between two scans. All are there at the first: of others core mm has another opinion if they
 * are not private and anonymous.
 */
static void perform_scan(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct uffdio_register registration = {
		.range = { (uintptr_t)start_of(operation, side), size_of(operation) },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct operation part = *operation;

	perform_write(operation, side, outcome);
	if (!operation->pages || outcome->signal)
		return;
	if (ioctl(open_uffd(), UFFDIO_REGISTER, &registration)) {
		set_result(outcome, -1);
		return;
	}
	scan_written(operation, side, outcome);
	part.page += operation->pages / 3;
	part.pages -= operation->pages / 2;
	if (operation->argument == 0)
		perform_write(&part, side, outcome);
	else if (operation->argument == 1)
		perform_read_from_pipe(&part, side, outcome);
	else
		perform_read(&part, side, outcome);
	scan_written(operation, side, outcome);
}

static bool perform_compare(const struct operation *operation, char *failure, size_t size)
{
	(void)operation;
	return same_arena(failure, size);
}

/*
 * Pipes that keep pages (not copies of them) from one step to another, and from parents to children: whether a write
 * shows in there depends on who else has the page, and has had it. What is put there was written before: an empty
 * page is there or not, depending on who has locked it when.
 */
static int pipes[NR_SIDES][2];

static void perform_hold(const struct operation *operation, enum side side, struct outcome *outcome)
{
	struct iovec pages = { start_of(operation, side), size_of(operation) };

	perform_write(operation, side, outcome);
	if (!outcome->signal)
		set_result(outcome, vmsplice(pipes[side][1], &pages, 1, SPLICE_F_NONBLOCK));
}

static void perform_read_held(const struct operation *operation, enum side side, struct outcome *outcome)
{
	static char copy[MAX_COPIED_PAGES * PAGE];

	set_result(outcome, read(pipes[side][0], copy, size_of(operation)));
	if (outcome->value > 0)
		add_data(outcome, copy, outcome->value);
}

/* All that is mapped now or later; not for writing, which would populate stacks of threads. */
static void choose_mlockall(struct operation *operation, struct random *random)
{
	static const int flags[] = { MCL_CURRENT, MCL_CURRENT | MCL_ONFAULT, MCL_FUTURE | MCL_ONFAULT };

	choose_range(operation, random);
	operation->argument = flags[below(random, sizeof(flags) / sizeof(*flags))];
}

static bool perform_mlockall(const struct operation *operation, char *failure, size_t size)
{
	if (!mlockall(operation->argument))
		return true;
	snprintf(failure, size, "mlockall: %s", strerror(errno));
	return false;
}

static bool perform_munlockall(const struct operation *operation, char *failure, size_t size)
{
	(void)operation;
	if (!munlockall())
		return true;
	snprintf(failure, size, "munlockall: %s", strerror(errno));
	return false;
}

/* A child that has the parent's memory, not a copy. */
static bool perform_vfork(const struct operation *operation, char *failure, size_t size)
{
	pid_t pid = vfork();

	if (!pid) {
		for (enum side side = 0; side < NR_SIDES; side++)
			store(start_of(operation, side), operation->value);
		_exit(0);
	}
	if (pid < 0) {
		snprintf(failure, size, "vfork: %s", strerror(errno));
		return false;
	}
	return same_page(operation->page, failure, size);
}

/*
 * Threads that write, each its own words of the same pages, and see that nobody else's write changes
 * them, while VMAs are split and joined around them, the process forks, and other pages are dropped.
 */
#define NR_THREADS 3

struct writer {
	const struct operation *operation;
	unsigned int number;
	/* Addresses whose content got lost. */
	void *lost;
};

static void *write_as_thread(void *argument)
{
	struct writer *writer = argument;
	const struct operation *operation = writer->operation;

	for (unsigned int round = 0; round < 4; round++) {
		for (unsigned int i = 0; i < operation->pages; i++) {
			uint64_t value = operation->value + round * NR_THREADS + writer->number;
			/* Each thread another way. */
			unsigned int page = operation->page + (writer->number & 1 ? operation->pages - 1 - i : i);

			for (enum side side = 0; side < NR_SIDES; side++) {
				uint64_t *word = (uint64_t *)at(side, page) + writer->number;

				if (!store(word, value).signal && load(word).value != value)
					writer->lost = word;
			}
		}
	}
	return NULL;
}

static bool perform_threads(const struct operation *operation, char *failure, size_t size)
{
	unsigned int other = operation->page >= ARENA_PAGES / 2 ? 0 : operation->page + operation->pages;
	unsigned int other_pages = at_most(8, ARENA_PAGES - other);
	struct writer writers[NR_THREADS];
	pthread_t threads[NR_THREADS];

	if (!other)
		other_pages = at_most(8, operation->page);
	for (unsigned int i = 0; i < other_pages; i++)
		if (sealed[other + i])
			other_pages = i;
	for (enum side side = 0; side < NR_SIDES; side++)
		mprotect(start_of(operation, side), size_of(operation), PROT_READ | PROT_WRITE);
	for (unsigned int i = 0; i < NR_THREADS; i++) {
		writers[i] = (struct writer){ operation, i, NULL };
		if (pthread_create(&threads[i], NULL, write_as_thread, &writers[i]))
			abort();
	}
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int skipped = at_most(i, operation->pages - 1);

		if (i == 1 && !fork())
			_exit(0);
		for (enum side side = 0; side < NR_SIDES; side++) {
			madvise(start_of(operation, side) + skipped * PAGE, size_of(operation) - skipped * PAGE,
				i & 1 ? MADV_DODUMP : MADV_DONTDUMP);
			madvise(at(side, other), other_pages * PAGE, MADV_DONTNEED);
		}
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < NR_THREADS; i++) {
		if (!writers[i].lost)
			continue;
		snprintf(failure, size, "a thread's write to %p got lost", writers[i].lost);
		return false;
	}
	return same_pages(operation->page, operation->pages, failure, size) &&
	       same_pages(other, other_pages, failure, size);
}

#endif
