// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames fail while pages join them and leave them: writers of several processes change pages among a few contents, and the scanner is at
 * work. After an injection has returned, those who are refused their page are as many as were hit, and nobody maps the frame; undone, each
 * has what was written last. `merge_race [INJECTIONS [SEED]]`.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib/access.h"
#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/file.h"
#include "lib/pagemap.h"
#include "lib/patience.h"
#include "lib/process.h"
#include "lib/random.h"
#include "lib/stats.h"
#include "lib/uapi.h"
#include "lib/usage.h"
#include "kselftest.h"

#define PROCESSES 4
#define WRITERS 2
#define NR_PAGES 32
/* As few contents as that are written. */
#define CONTENTS 6

/* Shared with the processes. */
static struct {
	char *memory[PROCESSES];
	atomic_bool stop;
	atomic_ulong writes, refused, wrong;
	char first_wrong[256];
} *world;

static uint64_t seed;
static unsigned int self;

static __attribute__((format(printf, 1, 2))) void wrong(const char *format, ...)
{
	va_list arguments;

	if (atomic_fetch_add(&world->wrong, 1))
		return;
	va_start(arguments, format);
	vsnprintf(world->first_wrong, sizeof(world->first_wrong), format, arguments);
	va_end(arguments);
}

/* Writes to pages that nobody else writes to, and reads what it has written last. */
static void *write_pages(void *writer)
{
	struct random random = { seed * 64 + self * WRITERS + (uintptr_t)writer };
	uint64_t content[NR_PAGES] = {};

	while (!atomic_load(&world->stop)) {
		size_t page = below(&random, NR_PAGES / WRITERS) * WRITERS + (uintptr_t)writer;
		char *address = world->memory[self] + page * PAGE;
		uint64_t value = below(&random, CONTENTS);
		struct access seen = load(address);

		if (!seen.signal && seen.value != content[page])
			wrong("process %u, page %zu: %#lx, written was %#lx", self, page, seen.value, content[page]);
		if (!seen.signal && one_in(&random, 2))
			seen = store(address, value);
		else
			value = content[page];
		if (!seen.signal)
			content[page] = value;
		else if (seen.signal != SIGBUS || seen.code != BUS_MCEERR_AR || seen.address != address)
			wrong("process %u, page %zu: signal %d, code %d, at %p", self, page, seen.signal, seen.code, seen.address);
		atomic_fetch_add(seen.signal ? &world->refused : &world->writes, 1);
		/* Else hardly anything would stay as it is for two scans. */
		if (one_in(&random, 16))
			usleep(2000);
	}
	return NULL;
}

static void run_process(void)
{
	pthread_t writers[WRITERS];

	world->memory[self] = map_device(NR_PAGES, MAP_PRIVATE);
	for (uintptr_t writer = 0; writer < WRITERS; writer++)
		pthread_create(&writers[writer], NULL, write_pages, (void *)writer);
	for (unsigned int writer = 0; writer < WRITERS; writer++)
		pthread_join(writers[writer], NULL);
}

/* The frame that a process has at @address. */
static uint64_t frame_of(int pagemap, const void *address)
{
	return frame_in(pagemap_entry(pagemap, address));
}

/* Judges what has come of the failure of a frame, which has hit so many. */
static void judge(const pid_t *pids, const int *pagemaps, uint64_t pfn, int hit)
{
	int refused = 0;

	for (unsigned int process = 0; process < PROCESSES; process++) {
		for (size_t page = 0; page < NR_PAGES; page++) {
			char *address = world->memory[process] + page * PAGE;
			uint64_t value;
			struct iovec to = { &value, sizeof(value) }, from = { address, sizeof(value) };

			if (process_vm_readv(pids[process], &to, 1, &from, 1, 0) < 0)
				refused++;
			/* If the last who had it was about to replace it, it is free, and given to others, whenever that one goes on. */
			else if (hit && frame_of(pagemaps[process], address) == pfn)
				wrong("frame %#lx has failed, hit %d, and process %u reads page %zu there", pfn, hit, process, page);
		}
	}
	if (refused != hit)
		wrong("frame %#lx: %d pages are refused, hit were %d", pfn, refused, hit);
}

/* Returns how many have failed, and adds up how many places had these. */
static long inject(const pid_t *pids, const int *pagemaps, long injections, unsigned long *hits)
{
	struct random random = { seed };
	const uint64_t zeroes = pfn_of_zeroes();
	long done = 0;

	while (done < injections && !atomic_load(&world->wrong)) {
		unsigned int process = below(&random, PROCESSES);
		uint64_t pfn = frame_of(pagemaps[process], world->memory[process] + below(&random, NR_PAGES) * PAGE);
		struct poisoned poisoned;
		int error;

		if (!pfn || pfn == zeroes)
			continue;
		error = poison_pfn(pfn);
		/* The page has gone, or has been zapped, right before. */
		if (error == ENXIO)
			continue;
		if (error) {
			wrong("poison_pfn of frame %#lx: %s", pfn, strerror(error));
			break;
		}
		/* The last who had it has just replaced it. */
		if (!read_poisoned(pfn, &poisoned))
			continue;
		judge(pids, pagemaps, pfn, poisoned.hit);
		*hits += poisoned.hit;
		error = unpoison_pfn(pfn);
		if (error && poisoned.hit)
			wrong("unpoison_pfn of frame %#lx: %s", pfn, strerror(error));
		done++;
	}
	return done;
}

int main(int argc, char **argv)
{
	long injections = argc > 1 ? atol(argv[1]) : repeats(500), merged, done;
	int pagemaps[PROCESSES];
	pid_t pids[PROCESSES];
	unsigned long hits = 0;
	char path[64];

	no_options(argc, argv, " [INJECTIONS [SEED]]");
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	ksft_print_header();
	ksft_set_plan(3);
	world = map_shared(sizeof(*world));
	if (print_to_file(DEBUGFS "merge/pages_to_scan", "1000") || print_to_file(DEBUGFS "merge/sleep_millisecs", "1") ||
	    print_to_file(DEBUGFS "merge/run", "1"))
		ksft_exit_fail_msg("no merging\n");
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		ksft_exit_skip("PR_SET_MEMORY_MERGE: %s\n", strerror(errno));
	merged = counter("pages_merged_total");
	for (self = 0; self < PROCESSES; self++) {
		pids[self] = fork();
		if (!pids[self]) {
			die_with(getppid());
			run_process();
			_exit(0);
		}
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pids[self]);
		pagemaps[self] = open(path, O_RDONLY | O_CLOEXEC);
		while (!*(char *volatile *)&world->memory[self])
			usleep(1000);
	}
	done = inject(pids, pagemaps, injections, &hits);
	atomic_store(&world->stop, true);
	for (unsigned int process = 0; process < PROCESSES; process++)
		waitpid(pids[process], NULL, 0);
	merged = counter("pages_merged_total") - merged;
	ksft_print_msg("%ld injections hit %lu pages; %lu accesses, %lu refused; %ld pages merged\n", done, hits, world->writes,
		       world->refused, merged);
	if (*world->first_wrong)
		ksft_print_msg("%s\n", world->first_wrong);
	ksft_test_result(done == injections && !world->wrong, "%ld failures, none wrong\n", injections);
	ksft_test_result(merged > 0 && hits > (unsigned long)done, "pages were merged, and some when they failed\n");
	print_to_file(DEBUGFS "merge/run", "0");
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
