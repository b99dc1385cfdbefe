// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads of related processes that do random operations on the same memory at once, while its pages fail. Between rounds
 * all is checked: contents, the reverse map, and what a child inherits. What each thread does depends on the seed alone;
 * how they meet does not.
 */
#include "torture/supervisor.h"
#include <getopt.h>

static struct {
	unsigned long seed, seeds, rounds, seconds, processes, threads, steps, patience, stride;
	bool anonymous, verbose;
	uint64_t without;
} options = {
	.seed = 1, .seeds = 2, .rounds = 4, .processes = 3, .threads = 3, .steps = 200, .patience = 60, .stride = 16,
};

static const char usage[] =
	"usage: torture [OPTION]…\n"
	"\n"
	"Does random operations on memory of /dev/anon_rmap in threads of several processes at once, and checks.\n"
	"\n"
	"  --seed N       the first seed (default 1); alone, the only one\n"
	"  --seeds N      how many seeds (default 2)\n"
	"  --rounds N     how many rounds with each seed (default 4)\n"
	"  --seconds N    for so long with each seed, instead of --rounds\n"
	"  --processes N  at most (default 3, up to 6)\n"
	"  --threads N    of each process (default 3, up to 4)\n"
	"  --steps N      of each thread in a round (default 200)\n"
	"  --stride N     looks for one of so many pages in the rmap after a round (default 16)\n"
	"  --without LIST leaves out operations, named with commas between them; those are:\n"
	"                ";

static const char more_usage[] =
	"\n"
	"  --anonymous    on anonymous memory, without failures: a test of the test\n"
	"  --patience N   after so many seconds in which nothing was done it hangs (default 60)\n"
	"  --verbose      shows the last steps of each run\n";

static void show_usage(void)
{
	fputs(usage, stdout);
	for (unsigned int i = 2; i < NR_OPERATIONS; i++)
		printf(" %s", operations[i].name);
	for (unsigned int i = 0; i < NR_INJECTIONS; i++)
		printf(" %s", injections[i].name);
	fputs(more_usage, stdout);
}

/* The bits of operations; 0 if there is one that is not known. */
static uint64_t parse_names(char *list)
{
	uint64_t names = 0, found;
	char *name;

	while ((name = strsep(&list, ","))) {
		found = 0;
		for (unsigned int i = 2; i < NR_OPERATIONS; i++)
			found |= !strcmp(name, operations[i].name) ? 1UL << i : 0;
		for (unsigned int i = 0; i < NR_INJECTIONS; i++)
			found |= !strcmp(name, injections[i].name) ? 1UL << (FIRST_INJECTION + i) : 0;
		if (!found)
			return 0;
		names |= found;
	}
	return names;
}

static const struct {
	struct option option;
	unsigned long *number;
} all_options[] = {
	{ { "seed", required_argument, NULL, 0 }, &options.seed },
	{ { "seeds", required_argument, NULL, 0 }, &options.seeds },
	{ { "rounds", required_argument, NULL, 0 }, &options.rounds },
	{ { "seconds", required_argument, NULL, 0 }, &options.seconds },
	{ { "processes", required_argument, NULL, 0 }, &options.processes },
	{ { "threads", required_argument, NULL, 0 }, &options.threads },
	{ { "steps", required_argument, NULL, 0 }, &options.steps },
	{ { "stride", required_argument, NULL, 0 }, &options.stride },
	{ { "patience", required_argument, NULL, 0 }, &options.patience },
	{ { "without", required_argument, NULL, 0 }, NULL },
	{ { "anonymous", no_argument, NULL, 0 }, NULL },
	{ { "verbose", no_argument, NULL, 0 }, NULL },
	{ { "help", no_argument, NULL, 0 }, NULL },
};

enum { WITHOUT = 9, ANONYMOUS, VERBOSE, HELP, NR_OPTIONS };

static void refuse(void)
{
	fputs("torture: --help says how it is used\n", stderr);
	exit(KSFT_FAIL);
}

static void parse_options(int argc, char **argv)
{
	struct option names[NR_OPTIONS + 1] = {};
	bool seed = false, seeds = false;
	int index;

	for (unsigned int i = 0; i < NR_OPTIONS; i++)
		names[i] = all_options[i].option;
	while (getopt_long(argc, argv, "", names, &index) == 0) {
		char *end = "";

		if (index == HELP) {
			show_usage();
			exit(0);
		}
		if (index == WITHOUT) {
			options.without = parse_names(optarg);
			if (!options.without)
				refuse();
		}
		options.anonymous |= index == ANONYMOUS;
		options.verbose |= index == VERBOSE;
		if (index < WITHOUT)
			*all_options[index].number = strtoul(optarg, &end, 0);
		if (*end || (index < WITHOUT && (*optarg == '-' || end == optarg))) {
			fprintf(stderr, "torture: --%s %s: not a number\n", names[index].name, optarg);
			refuse();
		}
		seed |= index == 0;
		seeds |= index == 1;
	}
	if (seed && !seeds)
		options.seeds = 1;
	if (optind < argc || !options.seeds || !options.rounds || !options.steps || !options.patience || !options.stride ||
	    options.processes < 2 || options.processes > MAX_PROCESSES || !options.threads || options.threads > MAX_THREADS)
		refuse();
}

static void run(void)
{
	conduct(options.rounds, options.seconds ? now_ns() + options.seconds * 1000000000UL : 0);
}

/* When all have died nothing is left of it. */
static void clean_up(void)
{
	const char *left;

	give_back(0);
	left = leak();
	if (*left)
		fail("%s are left when all have ended", left);
	if (counter("quarantined") != world->quarantined)
		fail("%ld frames are out of use, %ld were before", counter("quarantined"), world->quarantined);
	verify();
}

/* Whether all has ended. */
static bool run_seed(unsigned long seed)
{
	bool ended;

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->processes = options.processes;
	world->threads = options.threads;
	world->steps = options.steps;
	world->stride = options.stride;
	world->anonymous = options.anonymous;
	world->without = options.without;
	world->quarantined = counter("quarantined");
	ended = supervise(run, options.patience);
	if (ended && !world->anonymous && !atomic_load(&world->failed))
		ended = supervise(clean_up, options.patience);
	if (atomic_load(&world->failed))
		show_failure();
	if (atomic_load(&world->failed) || options.verbose)
		show_history();
	ksft_print_msg("%lu accesses by processes, %lu by the kernel, %lu refused; %lu words found again, %lu mappings listed, "
		       "%lu forks, %lu killed, %lu injections, %u processes; rounds took %.1f s, checks %.1f s\n",
		       world->user, world->kernel, world->refused, world->recalled, world->listed, world->forks, world->kills,
		       world->injections, world->numbers, world->rounds_ns / 1e9, world->checks_ns / 1e9);
	ksft_test_result(!atomic_load(&world->failed), "seed %lu: %u rounds\n", seed, world->round);
	return ended;
}

int main(int argc, char **argv)
{
	bool ended = true;

	parse_options(argc, argv);
	ksft_print_header();
	if (!options.anonymous) {
		device_fd = open(DEVICE, O_RDWR | O_CLOEXEC);
		if (device_fd < 0)
			ksft_exit_skip("%s: %s\n", DEVICE, strerror(errno));
	}
	world = map_shared(sizeof(*world));
	if (world == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	ksft_set_plan(options.seeds);
	for (unsigned long i = 0; i < options.seeds; i++) {
		if (ended)
			ended = run_seed(options.seed + i);
		else
			ksft_test_result_skip("seed %lu: tasks of another have not ended\n", options.seed + i);
	}
	ksft_finished();
}
