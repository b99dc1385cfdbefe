// SPDX-License-Identifier: GPL-2.0-only
/* Threads and processes that use, change and fail the same memory at the same time. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "lib/fixture.h"

#define PAGES 128
/* How long a test goes on. */
#define MILLISECONDS 600

/* What the threads and processes of a test share, besides the memory of the device. */
struct shared {
	atomic_bool stop;
	/* What has gone wrong. */
	atomic_long errors;
	/* What has been done, to see that something has. */
	atomic_long accesses, changes;
	/* Pages that were poisoned before now. */
	atomic_bool poisoned[PAGES];
};

FIXTURE(threads)
{
	char *memory;
	struct shared *shared;
};

FIXTURE_SETUP(threads)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->shared = map_shared(sizeof(*self->shared));
	ASSERT_NE(MAP_FAILED, self->shared);
}

FIXTURE_LEAVES_NOTHING(threads);

/* What a thread works with. */
struct work {
	char *memory;
	struct shared *shared;
	unsigned int seed;
};

/* Milliseconds since some time. */
static long now(void)
{
	return now_ns() / 1000000;
}

/* Forks a process that calls function(work) and ends with 0. */
static pid_t fork_worker(void *(*function)(void *), struct work *work)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		die_with(parent);
		function(work);
		_exit(0);
	}
	return pid;
}

/* Whether the process has ended with 0. */
static bool ended_well(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

#define COUNTERS 4
#define COUNTED_PAGES 32

/* Counts in its own word of each page. */
static void *count(void *argument)
{
	struct work *work = argument;

	/* For this thread alone: those that fork get ahead meanwhile. */
	if (nice(10) < 0)
		work->shared->errors++;
	while (!work->shared->stop) {
		for (size_t i = 0; i < COUNTED_PAGES; i++)
			((volatile uint64_t *)(work->memory + i * PAGE))[work->seed]++;
		work->shared->accesses++;
	}
	return NULL;
}

TEST_F(threads, no_update_is_lost_while_others_fork)
{
	struct work work[COUNTERS];
	pthread_t threads[COUNTERS];
	uint64_t total = 0;

	for (int i = 0; i < COUNTERS; i++) {
		work[i] = (struct work){ self->memory, self->shared, i };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, count, &work[i]));
	}
	for (int forks = 0; forks < repeats(200); forks++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			/* Makes copies of its own, and sees none of what the threads do meanwhile. */
			for (size_t page = 0; page < COUNTED_PAGES; page += 4) {
				volatile uint64_t *words = (uint64_t *)(self->memory + page * PAGE);
				uint64_t before[COUNTERS];

				for (int j = 0; j < COUNTERS; j++)
					before[j] = words[j];
				words[COUNTERS]++;
				for (int j = 0; j < COUNTERS; j++)
					if (words[j] != before[j])
						_exit(1);
			}
			_exit(0);
		}
		EXPECT_TRUE(ended_well(pid));
	}
	self->shared->stop = true;
	for (int i = 0; i < COUNTERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < COUNTERS; i++) {
		uint64_t rounds = ((uint64_t *)self->memory)[i];

		total += rounds;
		for (size_t page = 0; page < COUNTED_PAGES; page++) {
			EXPECT_EQ(rounds, ((uint64_t *)(self->memory + page * PAGE))[i]);
		}
	}
	for (size_t page = 0; page < COUNTED_PAGES; page++)
		EXPECT_WORD(0, load(self->memory + page * PAGE + COUNTERS * sizeof(uint64_t)));
	EXPECT_EQ((uint64_t)self->shared->accesses, total);
	/* The threads have run between the forks. */
	EXPECT_LE(200, total);
	EXPECT_EQ(0, self->shared->errors);
}

TEST_F(threads, no_update_is_lost_while_shared_memory_is_discarded)
{
	/* What one page table maps: it can be freed when it is empty, and is needed again at once. */
	const size_t table = 512 * PAGE;
	char *memory = map_device(2 * 512, MAP_SHARED);
	char *aligned = (char *)(((uintptr_t)memory + table - 1) & ~(table - 1));
	struct work work[COUNTERS];
	pthread_t threads[COUNTERS];
	uint64_t total = 0;

	ASSERT_NE(MAP_FAILED, memory);
	for (int i = 0; i < COUNTERS; i++) {
		work[i] = (struct work){ aligned, self->shared, i };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, count, &work[i]));
	}
	for (long end = now() + MILLISECONDS; now() < end;) {
		ASSERT_EQ(0, madvise(aligned, table, MADV_DONTNEED));
	}
	self->shared->stop = true;
	for (int i = 0; i < COUNTERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < COUNTERS; i++) {
		uint64_t rounds = ((uint64_t *)aligned)[i];

		total += rounds;
		for (size_t page = 0; page < COUNTED_PAGES; page++) {
			EXPECT_EQ(rounds, ((uint64_t *)(aligned + page * PAGE))[i]);
		}
	}
	EXPECT_EQ((uint64_t)self->shared->accesses, total);
	EXPECT_LT(0, total);
	EXPECT_EQ(0, self->shared->errors);
}

/* Writes the same number to the first and then to the last page. */
static void *count_in_order(void *argument)
{
	struct work *work = argument;
	volatile uint64_t *first = (uint64_t *)work->memory, *last = (uint64_t *)(work->memory + (PAGES - 1) * PAGE);

	while (!work->shared->stop) {
		++*first;
		++*last;
	}
	return NULL;
}

TEST_F(threads, a_child_sees_writes_in_their_order)
{
	struct work work = { self->memory, self->shared, 0 };
	pthread_t thread;
	int moved = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, count_in_order, &work));
	for (long end = now() + MILLISECONDS; now() < end;) {
		uint64_t before = *(volatile uint64_t *)self->memory;
		pid_t pid = fork();

		if (!pid) {
			uint64_t last = *(uint64_t *)(self->memory + (PAGES - 1) * PAGE);
			uint64_t first = *(uint64_t *)self->memory;

			_exit(!(first >= before && (first == last || first == last + 1)));
		}
		EXPECT_TRUE(ended_well(pid));
		moved += *(volatile uint64_t *)self->memory != before;
	}
	self->shared->stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, moved);
}

/* Touches random pages; each is either zero, or as somebody has written it. */
static void *touch(void *argument)
{
	struct work *work = argument;

	while (!work->shared->stop) {
		size_t page = rand_r(&work->seed) % PAGES;
		char *address = work->memory + page * PAGE;
		struct access access = work->seed & 1024 ? load(address) : store(address, word(1, page));

		/* It may be unmapped or read-only just now. */
		if (!access.signal)
			work->shared->errors += access.value && access.value != word(1, page);
		else
			work->shared->errors += access.signal != SIGSEGV;
		work->shared->accesses++;
	}
	return NULL;
}

FIXTURE(threads_touch)
{
	char *memory;
	struct shared *shared;
	struct work work[3];
	pthread_t threads[3];
};

FIXTURE_SETUP(threads_touch)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->shared = map_shared(sizeof(*self->shared));
	ASSERT_NE(MAP_FAILED, self->shared);
	for (int i = 0; i < 3; i++) {
		self->work[i] = (struct work){ self->memory, self->shared, i };
		ASSERT_EQ(0, pthread_create(&self->threads[i], NULL, touch, &self->work[i]));
	}
}

FIXTURE_LEAVES_NOTHING(threads_touch);

/* Lets the threads end, and looks at what has come of them. */
#define END_THREADS() do {					\
	self->shared->stop = true;				\
	for (int thread = 0; thread < 3; thread++)		\
		pthread_join(self->threads[thread], NULL);	\
	EXPECT_EQ(0, self->shared->errors);			\
	EXPECT_LT(0, self->shared->accesses);			\
} while (0)

TEST_F(threads_touch, while_memory_is_split)
{
	unsigned int seed = 1;

	for (long end = now() + MILLISECONDS; now() < end;) {
		size_t first = rand_r(&seed) % PAGES, pages = 1 + rand_r(&seed) % 8;

		if (first + pages > PAGES)
			pages = PAGES - first;
		ASSERT_EQ(0, mprotect(self->memory + first * PAGE, pages * PAGE,
				      seed & 64 ? PROT_READ : PROT_READ | PROT_WRITE));
	}
	END_THREADS();
	EXPECT_GE(PAGES, counter("anons"));
}

TEST_F(threads_touch, while_memory_is_discarded)
{
	unsigned int seed = 2;

	for (long end = now() + MILLISECONDS; now() < end;) {
		size_t first = rand_r(&seed) % PAGES, pages = 1 + rand_r(&seed) % 32;

		if (first + pages > PAGES)
			pages = PAGES - first;
		ASSERT_EQ(0, madvise(self->memory + first * PAGE, pages * PAGE, MADV_DONTNEED));
	}
	END_THREADS();
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, counter("anons"));
}

/* Core mm puts guard markers into page tables without a hook being called, also while a page is mapped there. */
TEST_F(threads_touch, while_guard_pages_come_and_go)
{
	unsigned int seed = 5;

	for (long end = now() + MILLISECONDS; now() < end;) {
		size_t first = rand_r(&seed) % PAGES, pages = 1 + rand_r(&seed) % 32;

		if (first + pages > PAGES)
			pages = PAGES - first;
		ASSERT_EQ(0, madvise(self->memory + first * PAGE, pages * PAGE, MADV_GUARD_INSTALL));
		EXPECT_SIGSEGV(store(self->memory + first * PAGE, 7));
		ASSERT_EQ(0, madvise(self->memory + first * PAGE, pages * PAGE, MADV_GUARD_REMOVE));
	}
	END_THREADS();
}

TEST_F(threads_touch, while_memory_is_moved)
{
	char *target = reserve(PAGES);
	unsigned int seed = 3;

	for (long end = now() + MILLISECONDS; now() < end;) {
		size_t first = rand_r(&seed) % (PAGES - 8), size = 8 * PAGE;
		char *from = self->memory + first * PAGE, *to = target + first * PAGE;

		ASSERT_EQ(to, mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
		for (size_t page = first; page < first + 8; page++) {
			uint64_t value = *(uint64_t *)(target + page * PAGE);

			EXPECT_TRUE(value == 0 || value == word(1, page));
		}
		ASSERT_EQ(from, mremap(to, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, from));
	}
	END_THREADS();
}

TEST_F(threads_touch, while_memory_is_unmapped_and_mapped)
{
	int fd = open(DEVICE, O_RDWR);
	unsigned int seed = 4;

	for (long end = now() + MILLISECONDS; now() < end;) {
		char *place = self->memory + rand_r(&seed) % (PAGES - 8) * PAGE;

		ASSERT_EQ(0, munmap(place, 8 * PAGE));
		ASSERT_EQ(place, mmap(place, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0));
	}
	END_THREADS();
}

TEST_F(threads_touch, while_the_process_forks)
{
	for (long end = now() + MILLISECONDS; now() < end;) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			for (size_t page = 0; page < PAGES; page++) {
				struct access access = store(self->memory + page * PAGE, 0);

				if (access.signal)
					_exit(1);
			}
			_exit(!(load(self->memory).value == 0));
		}
		EXPECT_TRUE(ended_well(pid));
	}
	END_THREADS();
}

TEST_F(threads_touch, while_the_files_of_debugfs_are_read)
{
	struct mapping *mappings;

	for (long end = now() + MILLISECONDS; now() < end;) {
		pid_t pid = fork();

		if (!pid) {
			mprotect(self->memory + PAGE, PAGE, PROT_READ);
			_exit(0);
		}
		EXPECT_EQ(1, read_mappings(getpid(), &mappings));
		EXPECT_LE(1, counter("vmas"));
		EXPECT_TRUE(ended_well(pid));
	}
	END_THREADS();
}

/*
 * Reads all pages over and over. One that was poisoned before the access began must not be read; one
 * that was not must have its content, or be poisoned just now.
 */
static void *read_poisoned_pages(void *argument)
{
	struct work *work = argument;
	bool stop;

	/* Once more after all are poisoned. */
	do {
		stop = work->shared->stop;
		for (size_t i = 0; i < PAGES; i++) {
			char *address = work->memory + i * PAGE;
			bool poisoned = work->shared->poisoned[i];
			struct access access = load(address);

			if (access.signal == SIGBUS)
				work->shared->errors += access.code != BUS_MCEERR_AR || access.address != address;
			else
				work->shared->errors += poisoned || access.signal || access.value != word(1, i);
			work->shared->accesses++;
		}
	} while (!stop);
	return NULL;
}

/* Splits the memory meanwhile, so that its VMAs change. */
static void *read_and_split(void *argument)
{
	struct work *work = argument, reader = *work;
	pthread_t thread;

	if (pthread_create(&thread, NULL, read_poisoned_pages, &reader))
		work->shared->errors++;
	while (!work->shared->stop) {
		size_t page = rand_r(&work->seed) % PAGES;

		if (mprotect(work->memory + page * PAGE, PAGE, work->seed & 64 ? PROT_READ : PROT_READ | PROT_WRITE))
			work->shared->errors++;
		work->shared->changes++;
	}
	pthread_join(thread, NULL);
	return NULL;
}

/* Forks readers one after another. */
static void *fork_readers(void *argument)
{
	struct work *work = argument;
	pid_t parent = getpid();

	while (!work->shared->stop) {
		pid_t pid = fork();

		if (!pid) {
			die_with(parent);
			for (size_t i = 0; i < PAGES; i += 3) {
				bool poisoned = work->shared->poisoned[i];
				struct access access = load(work->memory + i * PAGE);

				if (access.signal ? access.signal != SIGBUS : poisoned || access.value != word(1, i))
					_exit(1);
			}
			_exit(0);
		}
		work->shared->errors += !ended_well(pid);
		work->shared->changes++;
	}
	return read_poisoned_pages(work);
}

/* Moves the memory to and fro, and reads it where it is. */
static void *read_and_move(void *argument)
{
	struct work *work = argument;
	char *places[2] = { work->memory, reserve(PAGES) };

	for (int at = 0; !work->shared->stop || at; at = !at) {
		for (size_t i = 0; i < PAGES; i += 8) {
			char *from = places[at] + i * PAGE, *to = places[!at] + i * PAGE;
			bool poisoned = work->shared->poisoned[i];
			struct access access;

			if (mremap(from, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
				work->shared->errors++;
			access = load(to);
			if (access.signal ? access.signal != SIGBUS : poisoned || access.value != word(1, i))
				work->shared->errors++;
			work->shared->changes++;
		}
	}
	return read_poisoned_pages(work);
}

/* Copies pages on write; its copies stay good. */
static void *write_copies(void *argument)
{
	struct work *work = argument;
	bool copied[PAGES] = {};

	while (!work->shared->stop) {
		size_t i = rand_r(&work->seed) % PAGES;
		char *address = work->memory + i * PAGE;
		bool poisoned = work->shared->poisoned[i] && !copied[i];
		struct access access = store(address, 7);

		if (!access.signal) {
			/* The rest of the page was copied with it. */
			struct access rest = load(address + 8);

			work->shared->errors += poisoned || rest.signal || rest.value != word(1, i) + 1;
			copied[i] = true;
		} else {
			work->shared->errors += access.signal != SIGBUS || copied[i];
		}
		work->shared->changes++;
	}
	return NULL;
}

FIXTURE(threads_poison)
{
	char *memory;
	struct shared *shared;
};

FIXTURE_VARIANT(threads_poison)
{
	void *(*worker)(void *argument);
};

FIXTURE_VARIANT_ADD(threads_poison, with_readers) { .worker = read_poisoned_pages };
FIXTURE_VARIANT_ADD(threads_poison, with_splits) { .worker = read_and_split };
FIXTURE_VARIANT_ADD(threads_poison, with_forks) { .worker = fork_readers };
FIXTURE_VARIANT_ADD(threads_poison, with_moves) { .worker = read_and_move };
FIXTURE_VARIANT_ADD(threads_poison, with_copies) { .worker = write_copies };

FIXTURE_SETUP(threads_poison)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->shared = map_shared(sizeof(*self->shared));
	ASSERT_NE(MAP_FAILED, self->shared);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(threads_poison);

TEST_F(threads_poison, poisoned_content_is_never_served_again)
{
	struct work work[3];
	uint64_t pfns[PAGES];
	pid_t pids[3];

	for (size_t i = 0; i < PAGES; i++) {
		pfns[i] = pfn_of(self->memory + i * PAGE);
		ASSERT_NE(0, pfns[i]);
	}
	for (int i = 0; i < 3; i++) {
		/* One of them only reads. */
		work[i] = (struct work){ self->memory, self->shared, i };
		pids[i] = fork_worker(i ? variant->worker : read_poisoned_pages, &work[i]);
	}
	for (size_t i = 0; i < PAGES; i++) {
		size_t page = i * 101 % PAGES;

		ASSERT_EQ(0, poison_pfn(pfns[page]));
		self->shared->poisoned[page] = true;
		if (i % 8 == 0)
			usleep(MILLISECONDS * 1000 * 8 / PAGES);
	}
	EXPECT_EQ(PAGES, counter("poisoned"));
	self->shared->stop = true;
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(ended_well(pids[i]));
	}
	EXPECT_EQ(0, self->shared->errors);
	EXPECT_LT(PAGES, self->shared->accesses);
	if (variant->worker != read_poisoned_pages) {
		EXPECT_LT(0, self->shared->changes);
	}
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_SIGBUS(self->memory + i * PAGE, load(self->memory + i * PAGE));
	for (size_t i = 0; i < PAGES; i++) {
		ASSERT_EQ(0, unpoison_pfn(pfns[i]));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

/* Reports that pages have failed. */
static void *report(void *argument)
{
	struct work *work = argument;

	while (!work->shared->stop) {
		char *address = work->memory + rand_r(&work->seed) % PAGES * PAGE;
		int error = poison_addr(getppid(), address);

		work->shared->errors += error && error != EHWPOISON;
		work->shared->changes++;
	}
	return NULL;
}

TEST_F(threads, a_page_fails_once_when_many_report_it)
{
	enum { REPORTERS = 4 };
	struct work work[REPORTERS];
	pid_t pids[REPORTERS];
	long poisonings = counter("poisonings_total");

	fill(self->memory, PAGES, 1);
	for (int i = 0; i < REPORTERS; i++) {
		work[i] = (struct work){ self->memory, self->shared, i };
		pids[i] = fork_worker(report, &work[i]);
	}
	usleep(MILLISECONDS * 1000);
	self->shared->stop = true;
	for (int i = 0; i < REPORTERS; i++) {
		EXPECT_TRUE(ended_well(pids[i]));
	}
	EXPECT_EQ(0, self->shared->errors);
	EXPECT_LT(poisonings, counter("poisonings_total"));
	EXPECT_EQ(poisonings + counter("poisoned"), counter("poisonings_total"));
}

/* So many clean pages that discarding them takes a while; core mm still flushes the TLB for all at once, at the end. */
#define DISCARDED 8192UL
#define DISCARD_MILLISECONDS 3000

/* What a child works with that discards what it has inherited. */
struct discard {
	char *memory;
	struct shared *shared;
	/* The frame of the first page, which fails @delay ns after @begun. */
	uint64_t pfn, delay;
	/* How many ns it took to discard. */
	uint64_t duration;
	atomic_bool begun;
	/* The reader has the first page in its TLB. */
	atomic_bool has_read;
};

/* Reads the first page until it is discarded, or has failed. */
static void *read_discarded(void *argument)
{
	struct discard *discard = argument;
	struct access access;

	do {
		bool poisoned = discard->shared->poisoned[0];

		access = load(discard->memory);
		if (!access.signal && access.value == word(1, 0))
			discard->shared->errors += poisoned;
		discard->shared->accesses++;
		discard->has_read = true;
	} while (!access.signal && access.value == word(1, 0) && !discard->shared->errors);
	return NULL;
}

static void *poison_discarded(void *argument)
{
	struct discard *discard = argument;
	struct timespec delay = { .tv_nsec = discard->delay };

	/* Leaves the processors to the others. */
	while (!discard->begun)
		usleep(1);
	nanosleep(&delay, NULL);
	discard->shared->errors += poison_pfn(discard->pfn) != 0;
	discard->shared->poisoned[0] = true;
	return NULL;
}

/*
 * Discards the memory while its first page fails. The threads share an address space with who discards, as one that runs in
 * between would push the entry out of the TLB.
 */
static void discard_while_the_first_page_fails(struct discard *discard)
{
	pthread_t reader, poisoner;
	uint64_t begin;
	int error;

	error = madvise(discard->memory, DISCARDED * PAGE, MADV_POPULATE_READ) ||
		pthread_create(&reader, NULL, read_discarded, discard) ||
		pthread_create(&poisoner, NULL, poison_discarded, discard);
	if (error)
		_exit(1);
	while (!discard->has_read)
		sched_yield();
	discard->begun = true;
	begin = now_ns();
	error = madvise(discard->memory, DISCARDED * PAGE, MADV_DONTNEED);
	discard->duration = now_ns() - begin;
	discard->shared->errors += error != 0;
	pthread_join(poisoner, NULL);
	pthread_join(reader, NULL);
}

/* A page that is in no page table any more can still be in a TLB. */
TEST_F(threads, a_failed_page_is_in_no_tlb_while_memory_is_discarded)
{
	struct discard *discard = map_shared(sizeof(*discard));
	unsigned int seed = 1;
	long rounds = 0;

	ASSERT_NE(MAP_FAILED, discard);
	discard->shared = self->shared;
	discard->memory = map_device(DISCARDED, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, discard->memory);
	ASSERT_EQ(0, madvise(discard->memory, DISCARDED * PAGE, MADV_POPULATE_WRITE));
	EXPECT_WORD(word(1, 0), store(discard->memory, word(1, 0)));
	discard->pfn = pfn_of(discard->memory);
	ASSERT_NE(0, discard->pfn);
	for (long end = now() + DISCARD_MILLISECONDS; now() < end; rounds++) {
		pid_t pid, parent = getpid();

		discard->delay = discard->duration ? rand_r(&seed) % discard->duration : 0;
		discard->begun = false;
		discard->has_read = false;
		self->shared->poisoned[0] = false;
		pid = fork();
		if (!pid) {
			die_with(parent);
			discard_while_the_first_page_fails(discard);
			_exit(0);
		}
		ASSERT_TRUE(ended_well(pid));
		ASSERT_EQ(0, unpoison_pfn(discard->pfn));
	}
	TH_LOG("%ld rounds, a discard takes %lu us", rounds, discard->duration / 1000);
	EXPECT_LT(0, rounds);
	EXPECT_EQ(0, self->shared->errors);
	EXPECT_WORD(word(1, 0), load(discard->memory));
}

TEST_HARNESS_MAIN
