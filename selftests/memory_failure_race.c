// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that carry a magic word fail while writers, splitters, forkers, movers and unmappers are at work. After an
 * injection has returned nobody reads that magic word again, and each who touches the page gets BUS_MCEERR_AR with
 * the address that was touched. `memory_failure_race [INJECTIONS [SEED]]`: that many in each of the first two tests, a
 * tenth in the third.
 */
#include "lib/access.h"
#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/pagemap.h"
#include "lib/random.h"
#include "lib/stats.h"
#include "lib/usage.h"
#include "kselftest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_INJECTIONS (1 << 20)
#define PAGES 32UL
#define MAGIC (0xdeadUL << 48)

/* What is known of a page: how often it was replaced, and one of these. */
enum phase { GOOD, CHANGING, FAILED, PHASES };

/* Shared with all that are forked. */
static struct {
	/* Counts the injections that have returned. */
	atomic_ulong epoch;
	/* The epoch since when nobody may read a magic word; 0 while one may. */
	atomic_ulong dead_since[MAX_INJECTIONS];
	atomic_ulong phases[2 * PAGES];
	atomic_bool stop;
	atomic_ulong wrong, touches, refused, forks, splits, moves, unmaps;
	char first_wrong[256];
} *world;

static uint64_t seed;
static long injections;

static void wrong(const char *what, const struct access *access, const void *address)
{
	if (!atomic_fetch_add(&world->wrong, 1))
		snprintf(world->first_wrong, sizeof(world->first_wrong),
			 "%s: at %p: value %#lx, signal %d, code %d, address %p, lsb %d", what, address,
			 access->value, access->signal, access->code, access->address, access->lsb);
}

/* Judges an access to @address that began when @epoch injections had returned. */
static void judge(const struct access *access, const void *address, unsigned long epoch, bool hole_allowed)
{
	unsigned long number = access->value & ~MAGIC, since;

	atomic_fetch_add_explicit(&world->touches, 1, memory_order_relaxed);
	if (access->signal == SIGBUS) {
		atomic_fetch_add_explicit(&world->refused, 1, memory_order_relaxed);
		if (access->code != BUS_MCEERR_AR || access->address != address || access->lsb != PAGE_SHIFT)
			wrong("a wrong signal", access, address);
	} else if (access->signal) {
		if (!hole_allowed)
			wrong("an unexpected signal", access, address);
	} else if ((access->value & MAGIC) == MAGIC && number < MAX_INJECTIONS) {
		since = atomic_load(&world->dead_since[number]);
		if (since && since <= epoch)
			wrong("a magic word was read after the failure", access, address);
	}
}

/* Judges an access to a page of a known phase, the same before and after. */
static void judge_phase(const struct access *access, const void *address, unsigned long phase)
{
	if (phase % PHASES == FAILED && access->signal != SIGBUS)
		wrong("a failed page was not refused", access, address);
	if (phase % PHASES == GOOD && access->signal == SIGBUS)
		wrong("a good page was refused", access, address);
}

/* Reads a word of page @page of @memory, of which world->phases[@phase] is known. */
static void touch(const char *memory, unsigned int page, unsigned int phase)
{
	const char *address = memory + page * PAGE;
	unsigned long before = atomic_load(&world->phases[phase]), epoch = atomic_load(&world->epoch);
	struct access access = load(address);

	judge(&access, address, epoch, false);
	if (before == atomic_load(&world->phases[phase]))
		judge_phase(&access, address, before);
}

static void set_phase(unsigned int page, enum phase phase)
{
	unsigned long old = atomic_load(&world->phases[page]);

	atomic_store(&world->phases[page], old / PHASES * PHASES + PHASES + phase);
}

static void bury(unsigned long number)
{
	atomic_store(&world->dead_since[number], atomic_fetch_add(&world->epoch, 1) + 1);
}

/* The random numbers of a thread that gets in the way of injections, and which leaves them the most time. */
static struct random disturb(void *thread)
{
	setpriority(PRIO_PROCESS, gettid(), 10);
	return (struct random){ seed * 64 + (uintptr_t)thread };
}

/*
 * Pages that stay where they are. Those of `own` are not inherited, so their page is written in place all the time.
 * Those of `shared` are inherited, and written only by who then reads what was written.
 */
static char *own, *shared;

/* The page @page of both, own first. */
static char *page_at(unsigned int page)
{
	return page < PAGES ? own + page * PAGE : shared + (page - PAGES) * PAGE;
}

static void *write_own(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop)) {
		unsigned int page = below(&random, PAGES);
		char *address = own + page * PAGE + (uintptr_t)thread * sizeof(uint64_t);
		unsigned long before = atomic_load(&world->phases[page]), epoch = atomic_load(&world->epoch);
		struct access access = store(address, next(&random) >> 16);

		/* It may be read-only just now. */
		judge(&access, address, epoch, true);
		if (before == atomic_load(&world->phases[page]) && access.signal != SIGSEGV)
			judge_phase(&access, address, before);
		touch(own, page, page);
	}
	return NULL;
}

static void *read_all(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop)) {
		unsigned int page = below(&random, 2 * PAGES);

		touch(page_at(page), 0, page);
	}
	return NULL;
}

static void *split(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop)) {
		unsigned int page = below(&random, 2 * PAGES);

		mprotect(page_at(page), PAGE, below(&random, 2) ? PROT_READ : PROT_READ | PROT_WRITE);
		atomic_fetch_add(&world->splits, 1);
		/* Not so often that nobody else gets at the mappings. */
		usleep(below(&random, 200));
	}
	return NULL;
}

/* What a child does that inherits pages which were in these phases before the fork. */
static void live_as_child(const unsigned long *before, struct random random)
{
	for (unsigned int page = 0; page < PAGES; page++) {
		char *address = shared + page * PAGE;
		unsigned long epoch = atomic_load(&world->epoch);
		bool write = !below(&random, 4);
		struct access access = write ? store(address, page) : load(address);

		judge(&access, address, epoch, write);
		if (before[page] % PHASES == FAILED && access.signal != SIGSEGV)
			judge_phase(&access, address, before[page]);
		if (write && !access.signal) {
			/* The parent's page can fail now without it being ours. */
			access = load(address);
			if (!access.signal && access.value != page)
				wrong("a write was lost", &access, address);
		}
	}
}

static void *fork_and_wait(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop)) {
		unsigned long before[PAGES];
		struct random childs = { next(&random) };
		pid_t pid;

		for (unsigned int page = 0; page < PAGES; page++)
			before[page] = atomic_load(&world->phases[PAGES + page]);
		pid = fork();
		if (!pid) {
			for (unsigned int page = 0; page < PAGES; page++)
				if (before[page] != atomic_load(&world->phases[PAGES + page]))
					before[page] = CHANGING;
			live_as_child(before, childs);
			/* A grandchild inherits what the child has. */
			if (!below(&childs, 4) && !fork()) {
				for (unsigned int page = 0; page < PAGES; page++)
					before[page] = CHANGING;
				live_as_child(before, childs);
			}
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
		atomic_fetch_add(&world->forks, 1);
	}
	return NULL;
}

/* Writes @word to @address, which may be read-only just now. */
static void write_there(char *address, uint64_t word)
{
	while (store(address, word).signal)
		mprotect(address, PAGE, PROT_READ | PROT_WRITE);
}

static void start(pthread_t *thread, void *(*function)(void *), long number)
{
	if (pthread_create(thread, NULL, function, (void *)number))
		ksft_exit_fail_msg("no thread\n");
}

#define NR_THREADS 6

static void fail_pages_in_place(void)
{
	struct random random = { seed };
	pthread_t threads[NR_THREADS];

	own = map_device(PAGES, MAP_PRIVATE);
	shared = map_device(PAGES, MAP_PRIVATE);
	madvise(own, PAGES * PAGE, MADV_DONTFORK);
	start(&threads[0], write_own, 1);
	start(&threads[1], write_own, 2);
	start(&threads[2], read_all, 3);
	start(&threads[3], split, 4);
	start(&threads[4], fork_and_wait, 5);
	start(&threads[5], fork_and_wait, 6);
	for (long i = 1; i <= injections; i++) {
		unsigned int page = below(&random, 2 * PAGES);
		char *address = page_at(page);
		struct access access;
		int error;

		set_phase(page, CHANGING);
		madvise(address, PAGE, MADV_DONTNEED);
		write_there(address, MAGIC | i);
		set_phase(page, GOOD);
		if (below(&random, 2))
			sched_yield();
		set_phase(page, CHANGING);
		error = poison_addr(getpid(), address + below(&random, PAGE));
		if (error) {
			access = (struct access){ .value = error };
			wrong("the injection failed", &access, address);
		}
		bury(i);
		set_phase(page, FAILED);
		touch(address, 0, page);
	}
	atomic_store(&world->stop, true);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* Pages that are moved between two slots, and unmapped. The mutex guards where each of them is. */
static char *slots[2];
static unsigned int slot_of[PAGES];
static pthread_mutex_t places = PTHREAD_MUTEX_INITIALIZER;

static char *place_of(unsigned int page)
{
	return slots[slot_of[page]] + page * PAGE;
}

static void read_slot(struct random *random)
{
	char *address = slots[below(random, 2)] + below(random, PAGES) * PAGE;
	unsigned long epoch = atomic_load(&world->epoch);
	struct access access = load(address);

	judge(&access, address, epoch, true);
}

static void *read_slots(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop))
		read_slot(&random);
	return NULL;
}

static void *move(void *thread)
{
	struct random random = { seed * 64 + (uintptr_t)thread };

	while (!atomic_load(&world->stop)) {
		unsigned int page = below(&random, PAGES), to;
		int flags;

		pthread_mutex_lock(&places);
		to = !slot_of[page];
		/* Now and then something stays where it was, but not the page. */
		flags = MREMAP_MAYMOVE | MREMAP_FIXED | (below(&random, 2) ? MREMAP_DONTUNMAP : 0);
		if (mremap(place_of(page), PAGE, PAGE, flags, slots[to] + page * PAGE) != MAP_FAILED)
			slot_of[page] = to;
		pthread_mutex_unlock(&places);
		atomic_fetch_add(&world->moves, 1);
		usleep(below(&random, 200));
	}
	return NULL;
}

static char *map_there(void *address, size_t pages)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	char *memory = mmap(address, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);

	close(fd);
	return memory;
}

static void *unmap(void *thread)
{
	struct random random = { seed * 64 + (uintptr_t)thread };

	while (!atomic_load(&world->stop)) {
		unsigned int page = below(&random, PAGES - 4);

		pthread_mutex_lock(&places);
		/* Several pages in one mapping, so that moves split it. */
		munmap(slots[0] + page * PAGE, 4 * PAGE);
		munmap(slots[1] + page * PAGE, 4 * PAGE);
		map_there(slots[0] + page * PAGE, 4);
		for (int i = 0; i < 4; i++)
			slot_of[page + i] = 0;
		pthread_mutex_unlock(&places);
		atomic_fetch_add(&world->unmaps, 1);
		usleep(below(&random, 1000));
	}
	return NULL;
}

static void *fork_readers(void *thread)
{
	struct random random = disturb(thread);

	while (!atomic_load(&world->stop)) {
		pid_t pid = fork();

		if (!pid) {
			for (unsigned int i = 0; i < 2 * PAGES; i++)
				read_slot(&random);
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
		next(&random);
		atomic_fetch_add(&world->forks, 1);
	}
	return NULL;
}

static void fail_pages_on_the_move(void)
{
	struct random random = { seed };
	pthread_t threads[NR_THREADS];

	for (int i = 0; i < 2; i++)
		slots[i] = reserve(PAGES);
	map_there(slots[0], PAGES);
	start(&threads[0], read_slots, 1);
	start(&threads[1], read_slots, 2);
	start(&threads[2], move, 3);
	start(&threads[3], unmap, 4);
	start(&threads[4], fork_readers, 5);
	start(&threads[5], fork_readers, 6);
	for (long i = 1; i <= injections; i++) {
		unsigned int page = below(&random, PAGES);
		struct access access;
		uint64_t pfn;
		int error;

		pthread_mutex_lock(&places);
		madvise(place_of(page), PAGE, MADV_DONTNEED);
		access = store(place_of(page), MAGIC | i);
		/* A fork unmaps what could still be written. */
		while (!(pfn = pfn_of(place_of(page))))
			load(place_of(page));
		pthread_mutex_unlock(&places);
		if (access.signal) {
			wrong("a fresh page can't be written", &access, place_of(page));
			continue;
		}
		/* Whoever waits for the mutex gets it now. */
		if (below(&random, 2))
			sched_yield();
		error = poison_pfn(pfn);
		/* It may have been unmapped by all. */
		if (error && error != ENXIO) {
			access = (struct access){ .value = error };
			wrong("the injection failed", &access, NULL);
		}
		bury(i);
	}
	atomic_store(&world->stop, true);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* A large mapping, which is being unmapped when its last page fails: clearing the page tables takes a while. */
#define LARGE 512UL

static char *volatile large;
static pthread_barrier_t together;

/* Waits for up to @most rounds of nothing. */
static void dawdle(struct random *random, uint64_t most)
{
	for (uint64_t wait = below(random, most); wait; wait--)
		atomic_load(&world->epoch);
}

static void *unmap_large(void *thread)
{
	struct random random = { seed * 64 + (uintptr_t)thread };

	for (long i = 1; i <= injections; i++) {
		pthread_barrier_wait(&together);
		dawdle(&random, 20000);
		munmap(large, LARGE * PAGE);
		atomic_fetch_add(&world->unmaps, 1);
		pthread_barrier_wait(&together);
	}
	return NULL;
}

static void *read_large(void *unused)
{
	(void)unused;
	for (long i = 1; i <= injections; i++) {
		struct access access;
		char *address;

		pthread_barrier_wait(&together);
		address = large + (LARGE - 1) * PAGE;
		do {
			unsigned long epoch = atomic_load(&world->epoch);

			access = load(address);
			judge(&access, address, epoch, true);
		} while (!access.signal);
		pthread_barrier_wait(&together);
	}
	return NULL;
}

static void fail_pages_being_unmapped(void)
{
	struct random random = { seed };
	pthread_t threads[2];

	pthread_barrier_init(&together, NULL, 3);
	start(&threads[0], unmap_large, 1);
	start(&threads[1], read_large, 2);
	for (long i = 1; i <= injections; i++) {
		struct access access;
		uint64_t pfn;
		int error;

		large = map_device(LARGE, MAP_PRIVATE);
		madvise(large, LARGE * PAGE, MADV_POPULATE_WRITE);
		write_there(large + (LARGE - 1) * PAGE, MAGIC | i);
		pfn = pfn_of(large + (LARGE - 1) * PAGE);
		pthread_barrier_wait(&together);
		dawdle(&random, 5000);
		error = poison_pfn(pfn);
		if (error && error != ENXIO) {
			access = (struct access){ .value = error };
			wrong("the injection failed", &access, NULL);
		}
		bury(i);
		pthread_barrier_wait(&together);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* Runs @test with @count injections in a process of its own. */
static void run(const char *name, void (*test)(void), long count)
{
	int status;
	pid_t pid;

	injections = count;
	memset(world, 0, sizeof(*world));
	pid = fork();
	if (!pid) {
		test();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	ksft_print_msg("%lu touches, %lu refused, %lu forks, %lu splits, %lu moves, %lu unmaps\n", world->touches,
		       world->refused, world->forks, world->splits, world->moves, world->unmaps);
	if (world->wrong)
		ksft_print_msg("%lu wrong; the first: %s\n", world->wrong, world->first_wrong);
	/* What is unmapped soon is seldom refused before. */
	ksft_test_result(!status && !world->wrong && world->epoch == injections &&
				 (world->refused || test == fail_pages_being_unmapped),
			 "%s: %lu injections\n", name, world->epoch);
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 200;

	no_options(argc, argv, " [INJECTIONS [SEED]]");
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	if (count < 1 || count >= MAX_INJECTIONS)
		ksft_exit_fail_msg("from 1 to %d injections\n", MAX_INJECTIONS - 1);
	ksft_print_header();
	ksft_set_plan(4);
	world = map_shared(sizeof(*world));
	run("pages that are written, split and inherited", fail_pages_in_place, count);
	run("pages that are moved, unmapped and inherited", fail_pages_on_the_move, count);
	/* Each takes a while. */
	run("pages of large mappings that are being unmapped", fail_pages_being_unmapped, count / 10 + 10);
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
