// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is done to a page, or to memory, takes a time that is bounded by what there is: however many mappings the page
 * has, whoever moves meanwhile, and however large the mapping is. `walk_bounds [MAPPINGS [PROCESSES]]` lets a page with
 * that many mappings fail, in that many processes, and says what memory the walk has taken.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

/* So many mappings, in so many processes. */
static unsigned long nr_mappings = 4000, nr_processes = 40;

/* A walk may take so much memory, whatever it walks over. */
#define KIB_OF_A_WALK 64L
/* What the kernel has free goes up and down by the lists that each processor keeps. */
#define KIB_OF_NOISE 1024L
/* From so many mappings on, that is less than a list of them would take. */
#define MANY_MAPPINGS 100000

/* Lets vm.max_map_count allow for so many VMAs; false if it can't be. */
static bool allow_vmas(unsigned long count)
{
	const char *path = "/proc/sys/vm/max_map_count";
	char *text = read_file(path);
	unsigned long now = text ? strtoul(text, NULL, 10) : 0;

	free(text);
	return now >= count || !print_to_file(path, "%lu", count);
}

/*
 * Moves a page so often that it may be mapped at @places addresses of this process, of which the last one has it;
 * returns that, or NULL.
 */
static char *spread(char *memory, unsigned long places)
{
	for (unsigned long i = 1; i < places; i++) {
		memory = mremap(memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		if (memory == MAP_FAILED)
			return NULL;
	}
	return memory;
}

FIXTURE(places)
{
};

FIXTURE_VARIANT(places)
{
	unsigned long places;
};

FIXTURE_VARIANT_ADD(places, of_300) { .places = 300 };
FIXTURE_VARIANT_ADD(places, of_1200) { .places = 1200 };

FIXTURE_SETUP(places)
{
}

FIXTURE_LEAVES_NOTHING(places);

/* Moves a page to and fro for ever. */
__attribute__((noreturn)) static void move_for_ever(char *memory)
{
	char *area = reserve(1);
	char *places[2] = { memory, area };

	for (int at = 0;; at = !at)
		if (mremap(places[at], PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, places[!at]) != places[!at])
			_exit(1);
}

TEST_F(places, a_failure_ends_while_a_relative_moves_all_the_time)
{
	enum { FAILURES = 5 };

	WATCHED(SECONDS_OF_A_RACE) {
		char *memory = map_device(1, MAP_PRIVATE), *place;
		pid_t parent = getpid(), mover;
		int status;

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_WORD(1, store(memory, 1));
		mover = fork();
		ASSERT_LE(0, mover);
		if (!mover) {
			die_with(parent);
			load(memory);
			move_for_ever(memory);
		}
		EXPECT_WORD(1, load(memory));
		place = spread(memory, variant->places);
		ASSERT_NE(NULL, place);
		for (int i = 0; i < FAILURES; i++) {
			uint64_t pfn;

			EXPECT_WORD(1, load(place));
			pfn = pfn_of(place);
			EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, poison_addr(getpid(), place));
			EXPECT_SIGBUS(place, load(place));
			EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, unpoison_pfn(pfn));
		}
		/* It has moved all the time. */
		EXPECT_EQ(0, waitpid(mover, &status, WNOHANG));
	}
}

/* What the kernel has taken, at most, since a sampler was started; in KiB. */
struct sampler {
	pthread_t thread;
	atomic_bool stop;
	/* What is free does, the others don't, count down. */
	long free, slab, vmalloc;
	atomic_long samples;
};

static long kib(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line ? strtol(line + strlen(name), NULL, 10) : 0;
}

static void *sample(void *argument)
{
	struct sampler *sampler = argument;
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	long free = 0, slab = 0, vmalloc = 0;
	char text[8192];

	do {
		ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
		long now;

		text[size > 0 ? size : 0] = '\0';
		if (!atomic_fetch_add(&sampler->samples, 1)) {
			free = kib(text, "MemFree:");
			slab = kib(text, "Slab:");
			vmalloc = kib(text, "VmallocUsed:");
		}
		now = free - kib(text, "MemFree:");
		sampler->free = now > sampler->free ? now : sampler->free;
		now = kib(text, "Slab:") - slab;
		sampler->slab = now > sampler->slab ? now : sampler->slab;
		now = kib(text, "VmallocUsed:") - vmalloc;
		sampler->vmalloc = now > sampler->vmalloc ? now : sampler->vmalloc;
		usleep(500);
	} while (!atomic_load(&sampler->stop));
	close(fd);
	return NULL;
}

static int start_sampler(struct sampler *sampler)
{
	int error;

	*sampler = (struct sampler){};
	error = pthread_create(&sampler->thread, NULL, sample, sampler);
	while (!error && !atomic_load(&sampler->samples))
		usleep(1000);
	return error;
}

static void stop_sampler(struct sampler *sampler)
{
	atomic_store(&sampler->stop, true);
	pthread_join(sampler->thread, NULL);
}

static long spread_here(void *memory, long places)
{
	if (load(memory).signal)
		return 0;
	return (long)spread(memory, places);
}

FIXTURE(many_mappings)
{
};

FIXTURE_SETUP(many_mappings)
{
	if (!allow_vmas(nr_mappings / nr_processes + 1000))
		SKIP(return, "vm.max_map_count can't be raised");
}

FIXTURE_LEAVES_NOTHING(many_mappings);

TEST_F_TIMEOUT(many_mappings, a_failure_is_seen_by_all, 7200)
{
	enum { LEFT_BEHIND = 8 };
	const unsigned long places = nr_mappings / nr_processes;
	/* A hundred times what one takes by itself. */
	const int limit = SECONDS_OF_A_COMMAND + nr_mappings / 10000;

	WATCHED(SECONDS_OF_A_RACE + nr_mappings / 500) {
		struct peer **sharers = calloc(nr_processes, sizeof(*sharers));
		char *memory = map_device(1, MAP_PRIVATE), **at = calloc(nr_processes, sizeof(*at));
		struct stopwatch stopwatch = start_stopwatch();
		struct sampler idle, busy;
		long wrong = 0, hit = 0, taken, slowest = 0;
		struct poisoned page;
		uint64_t pfn;

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_WORD(1, store(memory, 1));
		for (unsigned long i = 0; i < nr_processes; i++) {
			sharers[i] = fork_peer();
			ASSERT_NE(NULL, sharers[i]);
			at[i] = (char *)peer_call(sharers[i], spread_here, memory, places);
			ASSERT_NE(NULL, at[i]);
		}
		EXPECT_WORD(1, load(memory));
		pfn = pfn_of(memory);
		TH_LOG("%lu processes have %lu mappings, after %ld ms", nr_processes, nr_processes * places,
		       stop_stopwatch(&stopwatch));

		/* For a while in which nothing happens, about as long as the walk, and then during that. */
		ASSERT_EQ(0, start_sampler(&idle));
		usleep(500000 + 3 * nr_mappings);
		stop_sampler(&idle);
		stopwatch = start_stopwatch();
		ASSERT_EQ(0, start_sampler(&busy));
		EXPECT_EQ(0, poison_pfn(pfn));
		stop_sampler(&busy);
		taken = stop_stopwatch(&stopwatch);
		EXPECT_GE(limit * 1000L, taken);
		TH_LOG("the failure took %ld ms: last_walk_nodes %ld, last_walk_vmas %ld, last_walk_mappings %ld", taken,
		       counter("last_walk_nodes"), counter("last_walk_vmas"), counter("last_walk_mappings"));
		TH_LOG("kernel memory, at most: %ld KiB less free, slabs %ld KiB, vmalloc %ld KiB (%ld samples)", busy.free,
		       busy.slab, busy.vmalloc, busy.samples);
		TH_LOG("before, when idle:      %ld KiB less free, slabs %ld KiB, vmalloc %ld KiB (%ld samples)", idle.free,
		       idle.slab, idle.vmalloc, idle.samples);
		if (nr_mappings >= MANY_MAPPINGS) {
			EXPECT_GE(KIB_OF_A_WALK, busy.slab - idle.slab);
			EXPECT_GE(KIB_OF_A_WALK, busy.vmalloc - idle.vmalloc);
			EXPECT_GE(KIB_OF_A_WALK + KIB_OF_NOISE, busy.free - idle.free);
		}

		ASSERT_TRUE(read_poisoned(pfn, &page));
		EXPECT_EQ(1 + nr_processes, page.hit);
		EXPECT_SIGBUS(memory, load(memory));
		for (unsigned long i = 0; i < nr_processes; i++) {
			struct access access = peer_load(sharers[i], at[i]);

			hit += access.signal == SIGBUS && access.code == BUS_MCEERR_AR && access.address == at[i];
		}
		EXPECT_EQ(nr_processes, hit);
		/* The address that a page has moved away from is good. */
		for (unsigned long i = 0; places > 1 && i < nr_processes && i < LEFT_BEHIND; i++) {
			struct access access = peer_load(sharers[i], memory);

			wrong += access.signal || access.value;
		}
		EXPECT_EQ(0, wrong);
		EXPECT_IN_TIME(limit, 0, unpoison_pfn(pfn));
		EXPECT_WORD(1, load(memory));
		for (unsigned long i = 0; i < nr_processes; i++)
			EXPECT_WORD(1, peer_load(sharers[i], at[i]));
		/* One after the other: together they would share the processors. */
		for (unsigned long i = 0; i < nr_processes; i++) {
			int status;

			kill(sharers[i]->pid, SIGKILL);
			stopwatch = start_stopwatch();
			EXPECT_TRUE(reap(sharers[i]->pid, &status, SECONDS_TO_DIE));
			taken = stop_stopwatch(&stopwatch);
			slowest = taken > slowest ? taken : slowest;
		}
		TH_LOG("who had %lu of them died in %ld ms or less", places, slowest);
	}
}

/* Much memory, of which little was touched, as sanitizers and allocators reserve it. */
#define HUGE (4UL << 40)
#define TOUCHED 200
/* What is split off, in the middle. */
#define MIDDLE (HUGE / 2)

static char *map_huge(bool device)
{
	char *memory = map_memory(device, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);

	if (memory == MAP_FAILED)
		return memory;
	madvise(memory, HUGE, MADV_NOHUGEPAGE);
	/* The first and the last page, and some that are far from each other. */
	for (unsigned long i = 0; i < TOUCHED; i++)
		store(memory + HUGE / TOUCHED / PAGE * i * PAGE, i + 1);
	store(memory + HUGE - PAGE, TOUCHED + 1);
	return memory;
}

FIXTURE(huge)
{
};

FIXTURE_VARIANTS_ON_BOTH(huge);

FIXTURE_SETUP(huge)
{
}

FIXTURE_LEAVES_NOTHING(huge);

static pid_t fork_reader(const char *address, uint64_t value)
{
	pid_t pid = fork();

	if (!pid)
		_exit(load(address).value != value);
	return pid;
}

TEST_F(huge, memory_is_inherited)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(variant->device);
		int status = -1;
		pid_t pid;

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, true,
			       (pid = fork_reader(memory + HUGE - PAGE, TOUCHED + 1)) > 0 &&
			       waitpid(pid, &status, 0) == pid);
		EXPECT_EQ(0, status);
		EXPECT_WORD(7, store(memory, 7));
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 0, munmap(memory, HUGE));
	}
}

TEST_F(huge, memory_is_split)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(variant->device);

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 0, mprotect(memory + MIDDLE, PAGE, PROT_READ));
		EXPECT_SIGSEGV(store(memory + MIDDLE, 7));
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 0, mprotect(memory + MIDDLE, PAGE, PROT_READ | PROT_WRITE));
		EXPECT_WORD(1, load(memory));
		EXPECT_WORD(TOUCHED + 1, load(memory + HUGE - PAGE));
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 0, munmap(memory + PAGE, HUGE - 2 * PAGE));
		EXPECT_WORD(TOUCHED + 1, load(memory + HUGE - PAGE));
	}
}

TEST_F(huge, memory_is_moved)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(variant->device), *moved;
		char *target = reserve(MIDDLE / PAGE);

		ASSERT_NE(MAP_FAILED, memory);
		ASSERT_NE(MAP_FAILED, target);
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, target,
			       (moved = mremap(memory + MIDDLE, MIDDLE, MIDDLE, MREMAP_MAYMOVE | MREMAP_FIXED, target)));
		ASSERT_NE(MAP_FAILED, moved);
		EXPECT_WORD(TOUCHED + 1, load(moved + MIDDLE - PAGE));
		EXPECT_WORD(1, load(memory));
		EXPECT_SIGSEGV(load(memory + HUGE - PAGE));
	}
}

TEST_F(huge, memory_is_discarded)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(variant->device);

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 0, madvise(memory, HUGE, MADV_DONTNEED));
		if (variant->device)
			EXPECT_EQ(0, counter("anons"));
		EXPECT_WORD(0, load(memory));
		EXPECT_WORD(0, load(memory + HUGE - PAGE));
	}
}

/* What debugfs does with such memory. */
FIXTURE(huge_device)
{
};

FIXTURE_SETUP(huge_device)
{
}

FIXTURE_LEAVES_NOTHING(huge_device);

TEST_F(huge_device, memory_is_listed)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(true);
		struct mapping *mappings;

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, 1, read_mappings(getpid(), &mappings));
		EXPECT_EQ(TOUCHED + 1, mappings->present);
	}
}

TEST_F(huge_device, memory_is_verified)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(true), *verdict;

		ASSERT_NE(MAP_FAILED, memory);
		ASSERT_EQ(0, mprotect(memory + MIDDLE, PAGE, PROT_READ));
		EXPECT_IN_TIME(SECONDS_OF_A_CALL, true, (verdict = read_file(DEBUGFS "verify")) != NULL);
		EXPECT_EQ(0, strncmp(verdict, "ok ", 3));
	}
}

TEST_F(huge_device, a_page_is_found_in_one_place)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(true), *last = memory + HUGE - PAGE, expected[64];

		ASSERT_NE(MAP_FAILED, memory);
		ASSERT_EQ(0, mprotect(memory + MIDDLE, PAGE, PROT_READ));
		snprintf(expected, sizeof(expected), "pid=%d address=%p\n", getpid(), last);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, ask_rmap(pfn_of(last)));
		EXPECT_STREQ(expected, read_file(DEBUGFS "rmap"));
		/* Everywhere. */
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0,
			       print_to_file(DEBUGFS "rmap", "%#lx 0 0xffffffffffffffff", pfn_of(last)));
		EXPECT_STREQ(expected, read_file(DEBUGFS "rmap"));
	}
}

TEST_F(huge_device, pages_fail_by_chance)
{
	enum { COUNT = 50 };

	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(true);

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0,
			       print_to_file(DEBUGFS "poison_random", "%d %d 1", getpid(), COUNT));
		EXPECT_EQ(COUNT, counter("poisoned"));
	}
}

TEST_F(huge_device, all_fails)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *memory = map_huge(true);

		ASSERT_NE(MAP_FAILED, memory);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0,
			       print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory, memory + HUGE));
		EXPECT_EQ(TOUCHED + 1, counter("poisoned"));
		EXPECT_SIGBUS(memory, load(memory));
		EXPECT_SIGBUS(memory + HUGE - PAGE, load(memory + HUGE - PAGE));
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] != '-') {
		nr_mappings = strtoul(argv[1], NULL, 0);
		if (argc > 2)
			nr_processes = strtoul(argv[2], NULL, 0);
		argc = 1;
	}
	if (!nr_processes || nr_processes >= MAX_PEERS || nr_mappings < nr_processes) {
		fprintf(stderr, "%s [MAPPINGS [PROCESSES]]: from 1 to %d processes, a mapping for each\n", argv[0],
			MAX_PEERS - 1);
		return KSFT_FAIL;
	}
	return test_harness_run(argc, argv);
}
