// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts instructions of the device beside those of anonymous memory, in a guest where one cycle is one instruction. Prints one
 * JSON object a line: of each case what it is, and of each run what was counted. ./run reads them.
 */
#include "failure.h"
#include "fault.h"
#include "fork.h"
#include "memory.h"
#include "merge.h"
#include "vma.h"
#include <limits.h>

#define RUNS 5

static const struct bench_case *const subjects[] = {
	/* First, as nothing has come and gone yet that leaves slabs half empty. */
	memory_cases,
	fault_cases,
	fork_cases,
	vma_cases,
	/* Last, as failures put frames out of use. */
	failure_cases,
	merge_cases,
};

static struct run *run;
static uint64_t overhead;

/* Waits for all processes that a run has forked, and for what is freed with a delay. */
static void settle(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
	usleep(100000);
}

/* Runs it once; returns whether it did what it measures. */
static bool run_once(const struct bench_case *it, bool device, long size)
{
	int status;
	pid_t pid;

	*run = (struct run){ .device = device, .size = size };
	sem_init(&run->ready, 1, 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		it->run(run);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	settle();
	if (status && !*run->failure)
		snprintf(run->failure, sizeof(run->failure), "status %#x", status);
	if (*leak() && !*run->failure)
		snprintf(run->failure, sizeof(run->failure), "left over: %s", leak());
	if (!run->operations && !*run->failure)
		snprintf(run->failure, sizeof(run->failure), "nothing was measured");
	return !*run->failure;
}

static bool measure(const struct bench_case *it, long size, long runs)
{
	for (long i = 0; i < 2 * runs; i++) {
		bool device = i & 1;

		if (!run_once(it, device, size)) {
			printf("{\"case\": \"%s\", \"size\": %ld, \"device\": %s, \"parts\": %ld, \"failure\": \"%s\"}\n",
			       it->name, size, device ? "true" : "false", run->parts, run->failure);
			return false;
		}
		printf("{\"case\": \"%s\", \"size\": %ld, \"device\": %s, \"counted\": %ld, \"parts\": %ld, \"operations\": %ld, "
		       "\"cleared\": %ld, \"copied\": %ld}\n",
		       it->name, size, device ? "true" : "false",
		       run->counted - run->parts * overhead, run->parts, run->operations,
		       run->cleared, run->copied);
	}
	return true;
}

/*
 * Huge pages are of anonymous memory alone; no limit is in the way; the console does not take part, nor does what the kernel
 * does each second to the free pages of each processor.
 */
static void prepare_system(void)
{
	static const char *const settings[][2] = {
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "never" },
		{ "/proc/sys/vm/max_map_count", "1000000" },
		{ "/proc/sys/kernel/printk", "3" },
		{ "/proc/sys/vm/stat_interval", "1000000" },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		if (write_file(settings[i][0], settings[i][1], strlen(settings[i][1]))) {
			perror(settings[i][0]);
			exit(1);
		}
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* What was due in the old interval. */
	sleep(3);
}

static void measure_overhead(void)
{
	start(run);
	stop(run, 0);
	*run = (struct run){};
	start(run);
	stop(run, 0);
	overhead = run->counted;
}

static bool is_wanted(const struct bench_case *it, char **patterns)
{
	if (!*patterns)
		return true;
	for (; *patterns; patterns++)
		if (strcasestr(it->name, *patterns))
			return true;
	return false;
}

/*
 * `bench [--check] [--runs N] [CASE]…`: the cases with one of these in their names; one size of each, the one that is kept; at most
 * that many runs.
 */
int main(int unused, char **argv)
{
	long warnings, ran = 0, most_runs = LONG_MAX;
	bool check = false, ok = true;

	(void)unused;
	for (argv++; *argv && !strncmp(*argv, "--", 2); argv++) {
		if (!strcmp(*argv, "--check"))
			check = true;
		else if (!strcmp(*argv, "--runs") && argv[1])
			most_runs = atol(*++argv);
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (run == MAP_FAILED)
		return 1;
	prepare_system();
	measure_overhead();
	warnings = number_in("/sys/kernel/warn_count", "");
	for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
		for (const struct bench_case *it = subjects[i]; it->name; it++) {
			long runs = it->runs ? it->runs : RUNS;

			if (!is_wanted(it, argv) || (check && !it->check))
				continue;
			ran++;
			runs = runs < most_runs ? runs : most_runs;
			printf("{\"case\": \"%s\", \"unit\": \"%s\", \"goal\": %g, \"goal_from\": %ld, \"of\": \"%s\", "
			       "\"figure\": \"%s\"}\n",
			       it->name, it->unit, it->goal, it->goal_from, it->of, it->figure == RATIO ? "ratio" : "difference");
			if (check) {
				ok &= measure(it, it->check, runs);
				continue;
			}
			for (size_t k = 0; k < sizeof(it->sizes) / sizeof(*it->sizes); k++)
				ok &= measure(it, it->sizes[k], runs);
		}
	}
	if (number_in("/sys/kernel/warn_count", "") != warnings) {
		fprintf(stderr, "the kernel has warned: see its log (qemu/run -v)\n");
		ok = false;
	}
	if (!ran)
		fprintf(stderr, "no such case\n");
	return ok && ran ? 0 : 1;
}
