/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A family of processes with threads, and who conducts it: in each round all do their steps at once, some die, and when
 * the others are done everything is checked. What is done in which round depends on the seed alone.
 */
#ifndef TORTURE_FAMILY_H
#define TORTURE_FAMILY_H

#include "check.h"
#include "injector.h"
#include <pthread.h>

/* This process. */
static struct member *self;
static struct actor actors[MAX_THREADS];

static void *act(void *argument)
{
	struct actor *actor = argument;
	struct random random = random_of_round(THREADS + own_word(actor));

	open_pipe(actor);
	do_steps(actor, &random, world->steps);
	close_pipe(actor);
	return NULL;
}

static struct actor actor_of(unsigned int thread)
{
	return (struct actor){
		.slot = self - world->members,
		.thread = thread,
		.number = self->number,
		.worker = &self->workers[thread],
	};
}

static void run_threads(void)
{
	pthread_t threads[MAX_THREADS];

	for (unsigned int i = 0; i < world->threads; i++) {
		actors[i] = actor_of(i);
		if (pthread_create(&threads[i], NULL, act, &actors[i]))
			abort();
	}
	for (unsigned int i = 0; i < world->threads; i++)
		pthread_join(threads[i], NULL);
}

static void check_member(void)
{
	static struct actor actor;

	actor = actor_of(0);
	check(&actor);
}

static void fork_member(struct member *member);

/* Does what it is told to, until it is killed. */
static void live(struct member *member)
{
	self = member;
	for (;;) {
		while (sem_wait(&self->request))
			;
		if (self == &world->injector)
			inject();
		else if (self->command == RUN)
			run_threads();
		else if (self->command == CHECK)
			check_member();
		else
			fork_member(&world->members[self->argument]);
		sem_post(&self->reply);
	}
}

/* The new member is no child of this one: they can die in any order. */
static void fork_member(struct member *member)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (!pid) {
		pid = fork();
		if (!pid) {
			member->number = be_born(self->number);
			forget(SHARED);
			live(member);
		}
		member->pid = pid;
		_exit(pid < 0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		fail("a fork failed: %#x", status);
}

/* The first member, which has all of both arenas. */
static void begin_family(struct member *member)
{
	visible[0] = MAX_VERSION;
	open_own_files();
	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		struct range all = { arena, 0, ARENA_PAGES };

		if (map_range(&all, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE, 0) == MAP_FAILED)
			fail("mmap: %s", strerror(errno));
	}
	live(member);
}

static void prepare_member(struct member *member)
{
	sem_init(&member->request, 1, 0);
	sem_init(&member->reply, 1, 0);
	member->doomed = false;
	member->alive = true;
}

/* A member that is to be killed in this round, and when. */
static struct member *doomed;
static uint64_t doom;

static void kill_doomed(void)
{
	if (!doomed || !doom || now_ns() < doom)
		return;
	kill(doomed->pid, SIGKILL);
	count(&world->kills);
	doom = 0;
}

/* What the conductor does while it waits. */
static void wait_a_moment(void)
{
	static const struct timespec moment = { .tv_nsec = 300000 };
	int status;
	pid_t pid;

	if (atomic_load(&world->failed))
		_exit(1);
	kill_doomed();
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (doomed && pid == doomed->pid) {
			doomed->alive = false;
			doomed->pid = 0;
			doomed = NULL;
			continue;
		}
		for (unsigned int i = 0; i < world->processes; i++)
			if (pid == world->members[i].pid)
				fail("process %d of the family ended with status %#x", pid, status);
		if (pid == world->injector.pid)
			fail("the injector ended with status %#x", status);
	}
	nanosleep(&moment, NULL);
}

static void tell(struct member *member, enum command command, unsigned int argument)
{
	member->command = command;
	member->argument = argument;
	sem_post(&member->request);
}

static void await_member(struct member *member)
{
	while (sem_trywait(&member->reply))
		wait_a_moment();
	atomic_fetch_add(&world->conductor.progress, 1);
}

static unsigned int nr_alive(void)
{
	unsigned int alive = 0;

	for (unsigned int i = 0; i < world->processes; i++)
		alive += world->members[i].alive;
	return alive;
}

static struct member *random_member(struct random *random)
{
	unsigned int n = below(random, nr_alive());
	struct member *member = world->members;

	while (!member->alive || n--)
		member++;
	return member;
}

static void grow_family(struct random *random)
{
	while (nr_alive() < 2 || (nr_alive() < world->processes && one_in(random, 2))) {
		struct member *parent = random_member(random), *child = world->members;

		while (child->alive)
			child++;
		prepare_member(child);
		child->alive = false;
		tell(parent, FORK, child - world->members);
		await_member(parent);
		child->alive = true;
	}
}

/* Some operations are left out of a round: so others meet more often. */
static void choose_operations(struct random *random)
{
	uint64_t enabled = next(random) | (one_in(random, 4) ? next(random) : 0);

	/* Injections in most rounds. */
	if (world->anonymous || one_in(random, 4))
		enabled &= (1UL << FIRST_INJECTION) - 1;
	world->enabled = (enabled | ALWAYS) & ~world->without;
	world->focus_arena = one_in(random, 3) ? SHARED : PRIVATE;
	world->focus = below(random, ARENA_PAGES);
}

static void check_family(void)
{
	uint64_t start = now_ns();

	for (unsigned int i = 0; i < world->processes; i++) {
		if (!world->members[i].alive)
			continue;
		tell(&world->members[i], CHECK, 0);
		await_member(&world->members[i]);
	}
	if (!world->anonymous)
		verify();
	world->checks_ns += now_ns() - start;
}

static void start_round(struct random *random)
{
	choose_operations(random);
	grow_family(random);
	if (nr_alive() > 2 && one_in(random, 2)) {
		doomed = random_member(random);
		doom = now_ns() + below(random, 200000000);
	}
	if (world->enabled >> FIRST_INJECTION)
		atomic_store(&world->failing, true);
	for (unsigned int i = 0; i < world->processes; i++)
		if (world->members[i].alive)
			tell(&world->members[i], RUN, 0);
	if (world->enabled >> FIRST_INJECTION)
		tell(&world->injector, RUN, 0);
}

static void end_round(void)
{
	for (unsigned int i = 0; i < world->processes; i++)
		if (world->members[i].alive && &world->members[i] != doomed)
			await_member(&world->members[i]);
	if (world->enabled >> FIRST_INJECTION)
		await_member(&world->injector);
	if (doomed && doom)
		doom = 1;
	while (doomed)
		wait_a_moment();
}

/* Makes all pages good again. */
static void repair(void)
{
	if (world->anonymous)
		return;
	unpoison(0);
	give_back(0);
	atomic_store(&world->failing, false);
}

static void start_process(struct member *member, void (*function)(struct member *))
{
	pid_t pid;

	prepare_member(member);
	pid = fork();
	if (!pid)
		function(member);
	member->pid = pid;
	if (pid < 0)
		fail("fork: %s", strerror(errno));
}

/* The whole of a run; ends in the middle of a round. */
static void conduct(unsigned int rounds, uint64_t deadline)
{
	struct random random;

	/* Members whose parents have died are its children. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	atomic_store(&world->numbers, 1);
	start_process(&world->members[0], begin_family);
	if (!world->anonymous)
		start_process(&world->injector, live);
	for (; deadline ? now_ns() < deadline : world->round < rounds; world->round++) {
		uint64_t start = now_ns();

		random = random_of_round(CONDUCT);
		start_round(&random);
		end_round();
		world->rounds_ns += now_ns() - start;
		check_family();
		if (one_in(&random, 2)) {
			repair();
			check_family();
		}
		if (atomic_load(&world->numbers) > MAX_NUMBERS - 4096)
			break;
	}
	random = random_of_round(CONDUCT);
	start_round(&random);
	doom = now_ns() + below(&random, 100000000);
	doomed = NULL;
	while (now_ns() < doom)
		wait_a_moment();
}

#endif
