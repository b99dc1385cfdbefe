// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that fault at once, on processors that run at once: in nanoseconds, as instructions do not tell what waits for what.
 * Each thread writes as many fresh pages, so that the time of one is what any number of them would take at best. Prints lines as
 * main.c does.
 */
#include "../../lib/access.h"
#include "../../lib/debugfs.h"
#include "../../lib/device.h"
#include "../../lib/file.h"
#include "../../lib/patience.h"
#include "../../lib/hwpoison.h"
#include "../../lib/pagemap.h"
#include "../../lib/peer.h"
#include "../../lib/proc.h"
#include "../../lib/process.h"
#include "../../lib/stats.h"
#include <pthread.h>
#include <sched.h>

#define PAGES 512
/* Rounds go on until then, but for at least so many. */
#define SECONDS 60
#define ROUNDS 5
#define MAX_THREADS 4

static const struct threads_case {
	const char *name;
	bool is_shared;
} cases[] = {
	{ "faults of threads in one mapping", true },
	{ "faults of threads, each in its mapping", false },
};

static pthread_barrier_t barrier;

struct worker {
	char *memory;
	int cpu;
	uint64_t begin, end;
};

static void *work(void *argument)
{
	struct worker *worker = argument;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(worker->cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		abort();
	pthread_barrier_wait(&barrier);
	worker->begin = now_ns();
	for (size_t page = 0; page < PAGES; page++)
		*(volatile uint64_t *)(worker->memory + page * PAGE) = page + 1;
	worker->end = now_ns();
	return NULL;
}

/* From the first thread's begin to the last one's end; 0 if they did not write what they should have. */
static uint64_t measure(bool device, bool is_shared, int threads)
{
	struct worker workers[MAX_THREADS];
	pthread_t ids[MAX_THREADS];
	uint64_t begin = UINT64_MAX, end = 0;
	char *memory[MAX_THREADS];
	bool ok = true;

	for (int i = 0; i < (is_shared ? 1 : threads); i++) {
		size_t pages = PAGES * (is_shared ? threads : 1);
		int fd = device ? open(DEVICE, O_RDWR | O_CLOEXEC) : -1;

		memory[i] = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | (device ? 0 : MAP_ANONYMOUS), fd, 0);
		if (memory[i] == MAP_FAILED)
			return 0;
		if (fd >= 0)
			close(fd);
	}
	pthread_barrier_init(&barrier, NULL, threads);
	for (int i = 0; i < threads; i++) {
		workers[i].memory = is_shared ? memory[0] + i * PAGES * PAGE : memory[i];
		workers[i].cpu = i;
		if (pthread_create(&ids[i], NULL, work, &workers[i]))
			abort();
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		begin = workers[i].begin < begin ? workers[i].begin : begin;
		end = workers[i].end > end ? workers[i].end : end;
		for (size_t page = 0; page < PAGES; page++)
			ok &= *(volatile uint64_t *)(workers[i].memory + page * PAGE) == page + 1;
	}
	pthread_barrier_destroy(&barrier);
	for (int i = 0; i < (is_shared ? 1 : threads); i++)
		munmap(memory[i], PAGES * (is_shared ? threads : 1) * PAGE);
	return ok ? end - begin : 0;
}

/* Which cases have one of these in their names; all if there are none. Returns whether any has. */
static bool choose(bool wanted[2], char **patterns)
{
	for (int k = 0; k < 2; k++) {
		wanted[k] = !*patterns;
		for (char **pattern = patterns; *pattern; pattern++)
			wanted[k] |= !!strcasestr(cases[k].name, *pattern);
	}
	return wanted[0] || wanted[1];
}

/* `--has PATTERN…` only says by its exit status whether there are such cases. */
int main(int argc, char **argv)
{
	static const int numbers[] = { 1, 2, 4 };
	uint64_t begin = now_ns();
	const char *kind;
	bool wanted[2];

	if (argc > 1 && !strcmp(argv[1], "--has"))
		return !choose(wanted, argv + 2);
	choose(wanted, argv + 1);
	if (write_file("/sys/kernel/mm/transparent_hugepage/enabled", "never", 5)) {
		perror("huge pages");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int k = 0; k < 2; k++) {
		if (wanted[k])
			printf("{\"case\": \"%s\", \"unit\": \"times as long as one\", \"goal\": 1.1, \"goal_from\": 0, "
			       "\"of\": \"threads\", \"figure\": \"scaling\"}\n", cases[k].name);
	}
	/* In turns: the host has others to run, and not all the time as many. */
	for (int round = 0; round < ROUNDS || now_ns() - begin < SECONDS * NS_PER_SECOND; round++) {
		for (int i = 0; i < 3 * 2 * 2; i++) {
			int k = i / 6, threads = numbers[i / 2 % 3];
			bool device = i & 1;
			uint64_t ns;

			if (!wanted[k])
				continue;
			ns = measure(device, cases[k].is_shared, threads);
			kind = device ? "true" : "false";
			printf("{\"case\": \"%s\", \"size\": %d, \"device\": %s, ", cases[k].name, threads, kind);
			if (!ns) {
				printf("\"failure\": \"not written\"}\n");
				return 1;
			}
			printf("\"ns\": %lu}\n", ns);
		}
	}
	return 0;
}
