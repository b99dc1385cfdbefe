// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same random operations on the device and on anonymous memory, in lockstep: contents and results
 * must be the same after each. A run depends on its seed only; of one that fails, the shortest prefix
 * that was found to fail is shown.
 */
#include "random_program/tree.h"
#include "kselftest.h"
#include <getopt.h>
#include <sys/wait.h>

static struct {
	unsigned long seed, seeds, steps, seconds, jobs, breaking;
	bool verbose;
} options = { .seed = 1, .seeds = 20, .steps = 300 };

static const char usage[] =
	"usage: random_program [OPTION]…\n"
	"\n"
	"Does random operations on memory of /dev/anon_rmap and on anonymous memory, and compares.\n"
	"\n"
	"  --seed N     the first seed (default 1); alone, the only one\n"
	"  --seeds N    how many seeds (default 20)\n"
	"  --steps N    how many steps with each seed (default 300)\n"
	"  --seconds N  for so long with each seed, instead of --steps\n"
	"  --jobs N     how many seeds at a time (default: the number of CPUs)\n"
	"  --break N    does not fill pages on the device's side from step N on; fails as soon as that shows\n"
	"  --verbose    shows the last steps of each run, and what was done how often\n";

static void parse_options(int argc, char **argv)
{
	enum { SEED, SEEDS, STEPS, SECONDS, JOBS, BREAK, VERBOSE, HELP };
	static const struct option names[] = {
		{ "seed", required_argument, NULL, SEED }, { "seeds", required_argument, NULL, SEEDS },
		{ "steps", required_argument, NULL, STEPS }, { "seconds", required_argument, NULL, SECONDS },
		{ "jobs", required_argument, NULL, JOBS }, { "break", required_argument, NULL, BREAK },
		{ "verbose", no_argument, NULL, VERBOSE }, { "help", no_argument, NULL, HELP }, {},
	};
	unsigned long *const numbers[] = {
		&options.seed, &options.seeds, &options.steps, &options.seconds, &options.jobs,
		&options.breaking,
	};
	bool seeds_given = false;
	int option;

	options.jobs = sysconf(_SC_NPROCESSORS_ONLN);
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		char *end = "";

		if (option == HELP) {
			fputs(usage, stdout);
			exit(0);
		}
		if (option == VERBOSE)
			options.verbose = true;
		else if (option != '?')
			*numbers[option] = strtoul(optarg, &end, 0);
		if (option == '?' || *end || (option != VERBOSE && (*optarg == '-' || end == optarg))) {
			if (option != '?')
				fprintf(stderr, "random_program: --%s %s: not a number\n", names[option].name, optarg);
			fputs("random_program: --help says how it is used\n", stderr);
			exit(KSFT_FAIL);
		}
		if (option == SEED && !seeds_given)
			options.seeds = 1;
		seeds_given |= option == SEEDS;
	}
	if (optind < argc || !options.seeds || !options.steps || !options.jobs) {
		fputs("random_program: --help says how it is used\n", stderr);
		exit(KSFT_FAIL);
	}
}

/* Runs a prefix of the program; whether it fails. */
static bool prefix_fails(const struct tree *program, unsigned int steps)
{
	*tree = (struct tree){ .seed = program->seed, .steps = steps, .breaking = program->breaking };
	run_tree();
	return *tree->failure;
}

/*
 * Replaces a run that has failed by the shortest prefix that is found to fail as well: by bisection, in
 * new processes. False if it does not fail again.
 */
static bool shorten(void)
{
	struct tree program = *tree, shortest = *tree;
	unsigned int passing = 0;
	bool again = false;

	/* The whole of it first; what depends on timing gets several chances. */
	for (unsigned int attempt = 0; attempt < 3 && !again; attempt++)
		again = prefix_fails(&program, program.step);
	if (again)
		shortest = *tree;
	while (again && shortest.step - passing > 1) {
		unsigned int middle = passing + (shortest.step - passing) / 2;

		if (prefix_fails(&program, middle))
			shortest = *tree;
		else
			passing = middle;
	}
	*tree = shortest;
	return again;
}

/* The program of one seed, run in a process of its own. */
struct job {
	pid_t pid;
	struct tree tree;
	/* Of a run that has failed: where, and whether it failed again. */
	unsigned int failed_step;
	bool again;
};

static void start_job(struct job *job)
{
	pid_t pid = fork();

	if (pid < 0)
		ksft_exit_fail_perror("fork");
	if (pid) {
		job->pid = pid;
		return;
	}
	tree = &job->tree;
	if (options.seconds)
		tree->deadline = now_ns() + options.seconds * NS_PER_SECOND;
	run_tree();
	if (*tree->failure) {
		job->failed_step = tree->step;
		job->again = shorten();
	}
	_exit(0);
}

static void show_run(const struct job *job)
{
	const struct tree *run = &job->tree;
	char text[256];

	for (unsigned int i = run->step < HISTORY ? 0 : run->step - HISTORY; i < run->step; i++) {
		describe(&run->history[i % HISTORY], text, sizeof(text));
		ksft_print_msg("%s\n", text);
	}
	for (unsigned int i = 0; options.verbose && i < NR_KINDS; i++)
		ksft_print_msg("%s: %u, %u of them with success\n", kinds[i].name, run->done[i], run->succeeded[i]);
	if (!*run->failure)
		return;
	ksft_print_msg("%s\n", run->failure);
	ksft_print_msg("seed %lu failed after %u steps; the shortest prefix found has %u%s\n", run->seed,
		       job->failed_step, run->step, job->again ? "" : " (it did not fail again)");
	snprintf(text, sizeof(text), run->breaking ? " --break %u" : "", run->breaking);
	ksft_print_msg("repeat with: random_program --seed %lu --steps %u%s\n", run->seed, run->step, text);
}

static void report(const struct job *job)
{
	bool failed = *job->tree.failure;

	if (job->tree.breaking && !options.breaking) {
		ksft_test_result(failed && job->tree.step > job->tree.breaking,
				 "a write that is left out is found\n");
		return;
	}
	if (failed || options.verbose)
		show_run(job);
	ksft_test_result(!failed, "seed %lu: %u steps\n", job->tree.seed,
			 failed ? job->failed_step : job->tree.step);
}

int main(int argc, char **argv)
{
	unsigned long nr_jobs, running = 0, next = 0;
	struct job *jobs;

	parse_options(argc, argv);
	ksft_print_header();
	device_fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device_fd < 0)
		ksft_exit_skip("%s: %s\n", DEVICE, strerror(errno));

	/* The last one is the test of the test. */
	nr_jobs = options.seeds + !options.breaking;
	jobs = map_shared(nr_jobs * sizeof(*jobs));
	if (jobs == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	for (unsigned long i = 0; i < nr_jobs; i++) {
		jobs[i].tree.seed = options.seed + i;
		jobs[i].tree.steps = options.seconds ? 0 : options.steps;
		jobs[i].tree.breaking = options.breaking;
	}
	if (!options.breaking) {
		/* It fails long before, when the first page that it can write is to be filled. */
		jobs[options.seeds].tree.steps = 4000;
		jobs[options.seeds].tree.breaking = 200;
	}

	ksft_set_plan(nr_jobs);
	while (next < nr_jobs || running) {
		pid_t done;

		if (next < nr_jobs && running < options.jobs) {
			start_job(&jobs[next++]);
			running++;
			continue;
		}
		done = wait(NULL);
		running--;
		for (unsigned long i = 0; i < nr_jobs; i++)
			if (jobs[i].pid == done)
				report(&jobs[i]);
	}
	ksft_finished();
}
