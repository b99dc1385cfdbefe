/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tree of processes that does the program of a seed in lockstep: one process at a time, one step
 * after the other. What the next step is and who does it depends on the seed only.
 */
#ifndef RANDOM_PROGRAM_TREE_H
#define RANDOM_PROGRAM_TREE_H

#include "operations.h"
#include "../lib/patience.h"
#include "../lib/process_group.h"
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MAX_PROCESSES 5
/* Steps that a process does in a row. */
#define BURST 4
/* Steps that a report shows. */
#define HISTORY 12
#define MAX_KINDS 64

struct process {
	pid_t pid;
	bool alive;
	/* Whether it is this process's turn; a futex. */
	uint32_t turn;
};

struct past_step {
	unsigned int step, process;
	struct operation operation;
	struct outcome outcome;
};

/* Shared by all processes of the tree and by who started it. */
struct tree {
	uint64_t seed;
	/* Where to stop: after so many steps, or at a time in ns, if they are not 0. */
	unsigned int steps;
	uint64_t deadline;
	/* From which step on what fills pages does not on the device's side; for a test of the test. */
	unsigned int breaking;
	/* How many steps have begun. */
	unsigned int step;
	bool over;
	/* What was wrong; empty if nothing was. */
	char failure[256];
	struct past_step history[HISTORY];
	struct process processes[MAX_PROCESSES];
	/* How often each kind of operation was done, and without an error or a signal. */
	unsigned int done[MAX_KINDS], succeeded[MAX_KINDS];
};

static struct tree *tree;
static unsigned int self;

static bool exiting;

static unsigned int nr_alive(void)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < MAX_PROCESSES; i++)
		count += tree->processes[i].alive;
	return count;
}

/* The process alive that has number @n among them. */
static unsigned int nth_alive(unsigned int n)
{
	for (unsigned int i = 0;; i++)
		if (tree->processes[i].alive && !n--)
			return i;
}

static void wait_for_turn(void)
{
	uint32_t *turn = &tree->processes[self].turn;

	while (!__atomic_load_n(turn, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, turn, FUTEX_WAIT, 0, NULL);
	*turn = 0;
}

static void pass_turn(unsigned int next)
{
	uint32_t *turn = &tree->processes[next].turn;

	__atomic_store_n(turn, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, turn, FUTEX_WAKE, 1);
}

/* The child lives on, and waits for its turn. */
static bool perform_fork(const struct operation *operation, char *failure, size_t size)
{
	unsigned int slot = 0;
	pid_t pid;

	(void)operation;
	while (slot < MAX_PROCESSES && tree->processes[slot].alive)
		slot++;
	if (slot == MAX_PROCESSES)
		return true;
	tree->processes[slot].turn = 0;
	pid = fork();
	if (pid < 0) {
		snprintf(failure, size, "fork: %s", strerror(errno));
		return false;
	}
	if (!pid) {
		self = slot;
		forget_own_files();
		wait_for_turn();
		return true;
	}
	tree->processes[slot].pid = pid;
	tree->processes[slot].alive = true;
	return true;
}

/*
 * As fork, while the kernel writes to memory of the parent: it has pinned the pages, and they stay the parent's. So does
 * what the parent itself writes to the last of them.
 */
static bool perform_fork_while_written(const struct operation *operation, char *failure, size_t size)
{
	size_t written = size_of(operation) - PAGE / 2;
	struct slow_write writes[NR_SIDES];
	unsigned int before = self;
	int error = 0;

	if (!operation->pages)
		return true;
	for (enum side side = 0; !error && side < NR_SIDES; side++)
		error = begin_slow_write(&writes[side], start_of(operation, side), written);
	if (error) {
		snprintf(failure, size, "a write can't begin: %s", strerror(error));
		return false;
	}
	if (!perform_fork(operation, failure, size))
		return false;
	if (self != before) {
		for (enum side side = 0; side < NR_SIDES; side++)
			forget_slow_write(&writes[side]);
		return true;
	}
	for (enum side side = 0; !error && side < NR_SIDES; side++) {
		store(start_of(operation, side) + written, operation->value);
		error = end_slow_write(&writes[side], pattern(operation));
	}
	if (error || writes[DEVICE_SIDE].written != writes[ANONYMOUS_SIDE].written) {
		snprintf(failure, size, "written: %ld errno %d, to anonymous memory %ld errno %d; %s",
			 writes[DEVICE_SIDE].written, writes[DEVICE_SIDE].error, writes[ANONYMOUS_SIDE].written,
			 writes[ANONYMOUS_SIDE].error, strerror(error));
		return false;
	}
	return same_pages(operation->page, operation->pages, failure, size);
}

static bool perform_exit(const struct operation *operation, char *failure, size_t size)
{
	(void)operation;
	(void)failure;
	(void)size;
	exiting = nr_alive() > 1;
	return true;
}

static void choose_target(struct operation *operation, struct random *random)
{
	choose_short_range(operation, random);
	operation->target = tree->processes[nth_alive(below(random, nr_alive()))].pid;
}

static void choose_fault_range(struct operation *operation, struct random *random)
{
	choose_range(operation, random);
	operation->page = at_most(operation->page, ARENA_PAGES - 8);
	operation->pages = at_most(operation->pages, 8);
}

static const struct kind kinds[] = {
	{ "write", 24, choose_range, perform_write, NULL },
	{ "read", 10, choose_range, perform_read, NULL },
	{ "fill", 6, choose_short_range, perform_fill, NULL },
	{ "mmap", 7, choose_mmap, perform_mmap, NULL },
	{ "munmap", 4, choose_range, perform_munmap, NULL },
	{ "mprotect", 10, choose_mprotect, perform_mprotect, NULL },
	{ "mremap", 12, choose_mremap, perform_mremap, NULL },
	{ "madvise", 14, choose_madvise, perform_madvise, NULL },
	{ "mlock2", 2, choose_mlock, perform_mlock, NULL },
	{ "munlock", 3, choose_range, perform_munlock, NULL },
	{ "vmsplice", 4, choose_short_range, perform_vmsplice, NULL },
	{ "vmsplice to keep", 4, choose_writable, perform_hold, NULL },
	{ "read what was kept", 3, choose_short_range, perform_read_held, NULL },
	{ "mlockall", 1, choose_mlockall, NULL, perform_mlockall },
	{ "munlockall", 2, choose_range, NULL, perform_munlockall },
	{ "process_vm_readv", 4, choose_target, perform_process_vm_readv, NULL },
	{ "process_vm_writev", 5, choose_target, perform_process_vm_writev, NULL },
	{ "read /proc/self/mem", 3, choose_short_range, perform_proc_mem_read, NULL },
	{ "write /proc/self/mem", 4, choose_writable, perform_proc_mem_write, NULL },
	{ "write() from", 3, choose_short_range, perform_write_from, NULL },
	{ "write() to a pipe", 3, choose_short_range, perform_write_to_pipe, NULL },
	{ "read() to", 3, choose_short_range, perform_read_to, NULL },
	{ "read() from a pipe", 4, choose_short_range, perform_read_from_pipe, NULL },
	{ "userfaultfd", 4, choose_uffd, perform_uffd, NULL },
	{ "scan", 3, choose_scan, perform_scan, NULL },
	{ "mseal", 1, choose_seal, perform_seal, NULL },
	{ "discard sealed", 1, choose_sealed, perform_discard_sealed, NULL },
	{ "threads write", 1, choose_fault_range, NULL, perform_threads },
	{ "fork", 3, choose_range, NULL, perform_fork },
	{ "fork while written", 2, choose_writable, NULL, perform_fork_while_written },
	{ "vfork", 1, choose_range, NULL, perform_vfork },
	{ "exit", 3, choose_range, NULL, perform_exit },
	{ "compare all", 2, choose_range, NULL, perform_compare },
};

#define NR_KINDS (sizeof(kinds) / sizeof(*kinds))

_Static_assert(NR_KINDS <= MAX_KINDS, "struct tree counts each kind");

static const struct kind *choose_kind(struct random *random)
{
	const struct kind *kind = kinds;
	unsigned int weight = 0, chosen;

	for (unsigned int i = 0; i < NR_KINDS; i++)
		weight += kinds[i].weight;
	for (chosen = below(random, weight); chosen >= kind->weight; kind++)
		chosen -= kind->weight;
	return kind;
}

/* Compares two pages of the range, so that the others stay as the operation has left them. */
static bool compare_touched(unsigned int page, unsigned int pages, struct random *random, char *failure, size_t size)
{
	for (unsigned int i = 0; pages && i < 2; i++)
		if (!same_page(page + below(random, pages), failure, size))
			return false;
	return true;
}

/* Whether this is to be left out on the device's side. */
static bool is_left_out(const struct past_step *past)
{
	return tree->breaking && past->step >= tree->breaking && past->operation.kind->perform == perform_fill;
}

static void perform_on_both(const struct past_step *past, struct outcome *outcome, bool device_first)
{
	bool left_out = is_left_out(past);

	for (unsigned int i = 0; i < NR_SIDES; i++) {
		enum side side = device_first ? i : NR_SIDES - 1 - i;

		if (side == ANONYMOUS_SIDE || !left_out)
			past->operation.kind->perform(&past->operation, side, &outcome[side]);
	}
	if (left_out)
		outcome[DEVICE_SIDE] = outcome[ANONYMOUS_SIDE];
}

static void do_step(void)
{
	struct past_step *past = &tree->history[tree->step % HISTORY];
	struct random random = random_of_step(tree->seed, tree->step);
	struct operation *operation = &past->operation;
	size_t size = sizeof(tree->failure);
	struct outcome outcome[NR_SIDES] = {};
	struct random checks;
	bool device_first;

	*past = (struct past_step){ .step = tree->step++, .process = self };
	operation->kind = choose_kind(&random);
	operation->kind->choose(operation, &random);
	checks = random;
	device_first = one_in(&random, 2);

	tree->done[operation->kind - kinds]++;
	if (operation->kind->perform_once) {
		tree->succeeded[operation->kind - kinds]++;
		operation->kind->perform_once(operation, tree->failure, size);
		return;
	}
	perform_on_both(past, outcome, device_first);
	if (memcmp(&outcome[DEVICE_SIDE], &outcome[ANONYMOUS_SIDE], sizeof(*outcome))) {
		const struct outcome *device = &outcome[DEVICE_SIDE], *anonymous = &outcome[ANONYMOUS_SIDE];

		snprintf(tree->failure, size,
			 "result %ld errno %ld signal %d code %d page %ld data %#lx, "
			 "anonymous memory has %ld errno %ld signal %d code %d page %ld data %#lx",
			 device->value, device->error, device->signal, device->code, device->page, device->digest,
			 anonymous->value, anonymous->error, anonymous->signal, anonymous->code, anonymous->page,
			 anonymous->digest);
	}
	past->outcome = outcome[ANONYMOUS_SIDE];
	tree->succeeded[operation->kind - kinds] += !past->outcome.error && !past->outcome.signal;
	if (*tree->failure)
		return;
	if (compare_touched(operation->page, operation->pages, &checks, tree->failure, size))
		compare_touched(operation->to, operation->kind->perform == perform_mremap ? operation->to_pages : 0,
				&checks, tree->failure, size);
}

static bool is_over(void)
{
	if (*tree->failure)
		return true;
	if (tree->steps && tree->step == tree->steps)
		return true;
	return tree->deadline && tree->step % BURST == 0 && now_ns() > tree->deadline;
}

/* What each process of the tree does. */
static void live(void)
{
	while (!tree->over) {
		unsigned int next;

		do_step();
		/* A child has been given a number in this. */
		next = self;
		tree->over = is_over();
		tree->processes[self].alive = !exiting;
		if (exiting || tree->step % BURST == 0) {
			struct random random = random_of_step(~tree->seed, tree->step / BURST);

			next = nth_alive(below(&random, nr_alive()));
		}
		if (next == self)
			continue;
		pass_turn(next);
		if (exiting)
			_exit(0);
		wait_for_turn();
	}
	/* Each one's memory is compared in the end. */
	if (!*tree->failure)
		same_arena(tree->failure, sizeof(tree->failure));
	tree->processes[self].alive = false;
	if (nr_alive())
		pass_turn(nth_alive(0));
	_exit(0);
}

static void describe(const struct past_step *past, char *text, size_t size)
{
	const struct operation *operation = &past->operation;

	snprintf(text, size, "%u: process %u: %s pages %u+%u, to %u+%u, argument %#x: %ld errno %ld signal %d",
		 past->step, past->process, operation->kind->name, operation->page, operation->pages, operation->to,
		 operation->to_pages, operation->argument, past->outcome.value, past->outcome.error,
		 past->outcome.signal);
}

/* How long a step may take, as patience.h counts. */
#define STEP_SECONDS 20

/* Runs the program of *tree in new processes, to the end. */
static void run_tree(void)
{
	struct patience patience = patience_for(STEP_SECONDS);
	unsigned int step = 0;
	enum end end;
	pid_t root;

	/* All of the tree ends up here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* To core mm, all of a huge page is pinned if a part of it is: fork copies what is not. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);

	tree->processes[0].alive = true;
	root = fork();
	if (!root) {
		setpgid(0, 0);
		signal(SIGCHLD, SIG_IGN);
		tree->processes[0].pid = getpid();
		file_fd = memfd_create("random_program", MFD_CLOEXEC);
		for (enum side side = 0; side < NR_SIDES; side++)
			if (pipe2(pipes[side], O_CLOEXEC | O_NONBLOCK))
				abort();
		for (enum side side = 0; side < NR_SIDES; side++)
			map_side(side, 0, ARENA_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED_NOREPLACE, 0);
		live();
	}
	setpgid(root, root);
	while (!ran_out(&patience)) {
		pid_t gone;

		do
			gone = waitpid(-1, NULL, WNOHANG);
		while (gone > 0);
		if (gone < 0)
			return;
		if (step != tree->step)
			patience = patience_for(STEP_SECONDS);
		step = tree->step;
		tick();
	}
	show_tasks(root);
	end = end_group(root);
	snprintf(tree->failure, sizeof(tree->failure), "a process hangs or has died%s",
		 end == IN_TIME ? "" : end == LATE ? "; SIGKILL ends it late" : "; SIGKILL does not end it");
}

#endif
