/* SPDX-License-Identifier: GPL-2.0-only */
/* Children that a thread forks while the others go on. */
#ifndef TORTURE_CHILDREN_H
#define TORTURE_CHILDREN_H

#include "operations.h"

static void do_steps(struct actor *actor, struct random *random, unsigned int steps);

/* Becomes a process of its own, after a fork by @parent, which knows what it must find. */
static struct actor *become_child(const struct actor *parent)
{
	static struct actor child;

	child = *parent;
	inherit(child.thread);
	child.number = be_born(parent->number);
	child.depth++;
	open_pipe(&child);
	return &child;
}

/* Sees that what the process has inherited is what its parent had, and stays so while the parent's threads go on. */
static void live_as_child(const struct actor *parent, struct random *random)
{
	struct actor *child = become_child(parent);
	enum mode mode = random_mode(random);

	for (unsigned int page = 0; page < ARENA_PAGES; page++)
		recall(child, PRIVATE, page, mode);
	for (unsigned int i = 0; i < 8; i++) {
		struct range range = random_range(random, 1);
		unsigned int word = below(random, world->processes * MAX_THREADS);
		uint64_t first, second;

		if (!get_word(child, word_at(PRIVATE, range.page, word), USER, &first) &&
		    !get_word(child, word_at(PRIVATE, range.page, word), random_mode(random), &second) &&
		    first != second)
			fail_word("has changed while nobody wrote", PRIVATE, range.page, word, USER, second);
	}
	do_steps(child, random, 4 + below(random, 12));
	/* What its parent has written since is nowhere. */
	for (unsigned int i = 0; i < 48; i++)
		scan_page(PRIVATE, (world->focus + i) % ARENA_PAGES);
}

/* Seals memory: then nothing takes it away or changes it, and if it can't be written, nothing discards it. */
static void live_sealed(const struct actor *parent, struct random *random)
{
	struct actor *child = become_child(parent);
	struct range range = random_range(random, 16), elsewhere;
	struct vma vma = next_vma(range.arena, range.page);
	char *start = start_of(&range);

	child->doing = "seal";
	if (vma.start > range.page || !vma.writable || range.arena == SHARED)
		return;
	range.pages = at_most(range.pages, vma.end - range.page);
	elsewhere = (struct range){ range.arena, (range.page + LANE) % ARENA_PAGES, 1 };
	for (unsigned int i = 0; i < range.pages; i++)
		write_word(child, range.arena, range.page + i, random_mode(random));
	if (mprotect(start, size_of(&range), PROT_READ) || syscall(SYS_mseal, start, size_of(&range), 0)) {
		fail("mseal at %p: %s", start, strerror(errno));
		return;
	}
	if (!munmap(start, size_of(&range)) || errno != EPERM || !mprotect(start, PAGE, PROT_NONE) || errno != EPERM ||
	    mremap(start, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, start_of(&elsewhere)) != MAP_FAILED ||
	    map_range(&range, PROT_READ, MAP_FIXED, 0) != MAP_FAILED)
		fail("sealed memory at %p was changed (%s)", start, strerror(errno));
	madvise(start, size_of(&range), MADV_DONTNEED);
	for (unsigned int i = 0; i < range.pages; i++)
		recall(child, range.arena, range.page + i, random_mode(random));
}

/* A child that is left alone, or killed in between. */
static void op_fork(struct actor *actor, struct random *random, struct note *note)
{
	struct timespec moment = { .tv_nsec = below(random, 4000000) };
	bool kills = one_in(random, 3), seals = world->enabled >> SEAL & 1 && one_in(random, 3);
	pid_t parent = getpid(), pid;
	int status;

	if (actor->depth > 1)
		return;
	note->argument = kills;
	count(&world->forks);
	pid = fork();
	if (pid < 0) {
		fail("fork: %s", strerror(errno));
		return;
	}
	if (!pid) {
		die_with(parent);
		if (seals)
			live_sealed(actor, random);
		else
			live_as_child(actor, random);
		_exit(0);
	}
	if (kills) {
		nanosleep(&moment, NULL);
		kill(pid, SIGKILL);
	}
	if (waitpid(pid, &status, 0) != pid || (status && !(kills && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)))
		fail("a child ended with status %#x", status);
}

#endif
