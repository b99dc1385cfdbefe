/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads of a process meet on memory that was just made, and has grown. While one discards it all, the others touch what
 * it has grown by for the first time; or while one forks, the others write what they all have written.
 */
#ifndef TORTURE_MEETING_H
#define TORTURE_MEETING_H

#include "children.h"
#include <sched.h>

enum phase { CLOSED, OPEN, GO };
enum purpose { UNMAP, DISCARD, DISCARD_AND_FORK, FORKS, NR_PURPOSES };

static struct {
	_Atomic(enum phase) phase;
	atomic_bool held;
	/* Who has come. */
	atomic_uint here;
	enum purpose purpose;
	struct range range;
} meeting;

/* So many loads are waited for others. */
#define MEETING_LOADS 30000

static void dawdle(unsigned int loads)
{
	while (loads--)
		atomic_load(&meeting.phase);
}

/* Touches each page of the range, as long as the meeting goes on. */
static void touch_together(struct actor *actor, struct random *random)
{
	struct range range = meeting.range;
	enum mode mode = one_in(random, 2) ? USER : random_mode(random);
	bool up = one_in(random, 2), writes = meeting.purpose == FORKS || !one_in(random, 4);

	for (unsigned int i = 0; i < range.pages && atomic_load(&meeting.phase) == GO; i++) {
		unsigned int page = range.page + (up ? i : range.pages - 1 - i);

		if (writes)
			write_word(actor, range.arena, page, mode);
		else
			read_word(actor, range.arena, page, own_word(actor), mode);
	}
	for (unsigned int i = 0; meeting.purpose == FORKS && i < range.pages; i++)
		recall(actor, range.arena, range.page + i, USER);
}

static void join(struct actor *actor, struct random *random)
{
	struct note *note = new_note(actor->worker, "join");

	actor->doing = note->name;
	atomic_fetch_add(&meeting.here, 1);
	while (atomic_load(&meeting.phase) == OPEN)
		sched_yield();
	set_range(note, &meeting.range);
	dawdle(below(random, 4000));
	touch_together(actor, random);
	note->error = 0;
}

/* Makes a new mapping and lets it grow to twice its size. */
static bool grow_anew(struct actor *actor, const struct range *all)
{
	struct range half = { all->arena, all->page, all->pages / 2 };
	bool grown;

	begin_change(actor, 0, all);
	grown = !munmap(start_of(all), size_of(all)) &&
		map_range(&half, PROT_READ | PROT_WRITE, MAP_FIXED, 0) != MAP_FAILED &&
		!madvise(start_of(&half), size_of(&half), MADV_POPULATE_WRITE) &&
		mremap(start_of(&half), size_of(&half), size_of(all), 0) != MAP_FAILED;
	if (grown && all->arena == PRIVATE)
		remember_emptied(actor, 0, all);
	end_change(all);
	return grown;
}

/* Children come and go: what is written by several threads is shared, and is not, from one moment to the next. */
static void fork_together(struct actor *actor, struct random *random)
{
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int loads = below(random, 20000);
		pid_t pid = fork();

		if (!pid) {
			dawdle(loads);
			_exit(0);
		}
		for (unsigned int page = 0; page < meeting.range.pages; page++)
			write_word(actor, meeting.range.arena, meeting.range.page + page, USER);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			fail("fork: %s", strerror(errno));
	}
}

/* Lets the others go, and gets in their way. */
static void hold_meeting(struct actor *actor, struct random *random, struct note *note, const struct range *all)
{
	unsigned int delay = below(random, 4000), wanted = 1 + below(random, 2);

	atomic_store(&meeting.here, 0);
	atomic_store(&meeting.phase, OPEN);
	for (unsigned int i = 0; i < MEETING_LOADS && atomic_load(&meeting.here) < wanted; i += 100) {
		sched_yield();
		dawdle(100);
	}
	atomic_store(&meeting.phase, GO);
	if (meeting.purpose == FORKS) {
		fork_together(actor, random);
		atomic_store(&meeting.phase, CLOSED);
		return;
	}
	dawdle(delay);
	begin_change(actor, 0, all);
	if (meeting.purpose == UNMAP)
		set_result(note, munmap(start_of(all), size_of(all) / 4 * 3));
	else if (!set_result(note, madvise(start_of(all), size_of(all), MADV_DONTNEED)) && all->arena == PRIVATE)
		remember_emptied(actor, 0, all);
	end_change(all);
	atomic_store(&meeting.phase, CLOSED);
}

static void op_meet(struct actor *actor, struct random *random, struct note *note)
{
	struct range all = { one_in(random, 3) ? SHARED : PRIVATE, 0, 64 << below(random, 4) };
	enum purpose purpose = below(random, NR_PURPOSES);

	all.page = below(random, ARENA_PAGES - all.pages + 1);
	if (actor->depth || (world->anonymous && all.arena == SHARED) || atomic_exchange(&meeting.held, true))
		return;
	set_range(note, &all);
	note->argument = purpose;
	if (grow_anew(actor, &all)) {
		unsigned int pages = at_most(all.pages / 2, 64);

		meeting.purpose = purpose;
		meeting.range = (struct range){ all.arena, all.page + all.pages / 2, pages };
		for (unsigned int i = 0; purpose == FORKS && i < pages; i++)
			write_word(actor, all.arena, meeting.range.page + i, USER);
		hold_meeting(actor, random, note, &all);
		/* Then what the driver has is what page tables have. */
		for (unsigned int i = 0; purpose != UNMAP && i < all.pages; i += 1 + below(random, 8)) {
			recall(actor, all.arena, all.page + i, USER);
			write_word(actor, all.arena, all.page + i, USER);
		}
		if (purpose == DISCARD_AND_FORK && world->enabled >> FORK_OPERATION & 1)
			op_fork(actor, random, note);
	}
	atomic_store(&meeting.held, false);
}

#endif
