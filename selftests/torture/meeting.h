/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads of a process meet where memory has just grown: while one discards it, or does something else to it, the others
 * touch it first.
 */
#ifndef TORTURE_MEETING_H
#define TORTURE_MEETING_H

#include "children.h"
#include <sched.h>

static struct {
	atomic_bool held;
	atomic_int phase;
	/* Who has come. */
	atomic_uint here;
	struct range grown;
} meeting;

enum { CLOSED, OPEN, GO };

/* So many loads are waited for others. */
#define MEETING_LOADS 30000

static void dawdle(unsigned int loads)
{
	while (loads--)
		atomic_load(&meeting.phase);
}

static void join(struct actor *actor, struct random *random)
{
	struct note *note = new_note(actor->worker, "join");
	struct range grown = meeting.grown;
	unsigned int pages = at_most(grown.pages, 64);
	enum mode mode = one_in(random, 2) ? USER : random_mode(random);
	bool up = one_in(random, 2), writes = !one_in(random, 4);

	actor->doing = note->name;
	set_range(note, &grown);
	atomic_fetch_add(&meeting.here, 1);
	while (atomic_load(&meeting.phase) == OPEN)
		;
	dawdle(below(random, 4000));
	for (unsigned int i = 0; i < pages && atomic_load(&meeting.phase) == GO; i++) {
		unsigned int page = grown.page + (up ? i : grown.pages - 1 - i);

		if (writes)
			write_word(actor, grown.arena, page, mode);
		else
			read_word(actor, grown.arena, page, own_word(actor), mode);
	}
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

static void op_meet(struct actor *actor, struct random *random, struct note *note)
{
	struct range all = { one_in(random, 3) ? SHARED : PRIVATE, 0, 64 << below(random, 4) };
	unsigned int delay = below(random, 4000), what = below(random, 4), wanted = 1 + below(random, 2);

	all.page = below(random, ARENA_PAGES - all.pages + 1);
	if (actor->depth || (world->anonymous && all.arena == SHARED) || atomic_exchange(&meeting.held, true))
		return;
	set_range(note, &all);
	note->argument = what;
	if (grow_anew(actor, &all)) {
		meeting.grown = (struct range){ all.arena, all.page + all.pages / 2, all.pages / 2 };
		atomic_store(&meeting.here, 0);
		atomic_store(&meeting.phase, OPEN);
		for (unsigned int i = 0; i < MEETING_LOADS && atomic_load(&meeting.here) < wanted; i += 100) {
			sched_yield();
			dawdle(100);
		}
		atomic_store(&meeting.phase, GO);
		dawdle(delay);
		begin_change(actor, 0, &all);
		if (what)
			set_result(note, madvise(start_of(&all), size_of(&all), MADV_DONTNEED));
		else
			set_result(note, munmap(start_of(&all), size_of(&all) / 4 * 3));
		if (what && !note->error && all.arena == PRIVATE)
			remember_emptied(actor, 0, &all);
		end_change(&all);
		atomic_store(&meeting.phase, CLOSED);
		/* Then what the mapping has is what page tables have. */
		for (unsigned int i = 0; what && i < all.pages; i += 1 + below(random, 8))
			write_word(actor, all.arena, all.page + i, USER);
		if (what == 1 && world->enabled >> FORK_OPERATION & 1)
			op_fork(actor, random, note);
	}
	atomic_store(&meeting.held, false);
}

#endif
