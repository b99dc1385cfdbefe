/* SPDX-License-Identifier: GPL-2.0-only */
/* The steps of a thread: random operations. */
#ifndef TORTURE_STEPS_H
#define TORTURE_STEPS_H

#include "meeting.h"

static const struct operation {
	const char *name;
	unsigned int weight;
	void (*perform)(struct actor *actor, struct random *random, struct note *note);
} operations[] = {
	{ "write", 24, op_write }, { "read", 16, op_read }, { "foreign", 6, op_foreign }, { "grow", 10, op_grow },
	{ "shrink", 4, op_shrink }, { "move", 8, op_move }, { "discard", 8, op_discard }, { "advise", 6, op_advise },
	{ "mprotect", 8, op_mprotect }, { "munmap", 3, op_munmap }, { "mmap", 9, op_mmap }, { "guard", 4, op_guard },
	{ "uffd", 10, op_uffd }, { "fork", 2, op_fork }, { "meet", 6, op_meet },
	/* Done by children of fork, and in mmap. */
	[SEAL] = { "seal", 0, NULL }, [OFFSETS] = { "offsets", 0, NULL },
};

#define NR_OPERATIONS (sizeof(operations) / sizeof(*operations))

static void do_step(struct actor *actor, struct random *random)
{
	unsigned int weight = 0, chosen, i;
	struct note *note;

	for (i = 0; i < NR_OPERATIONS; i++)
		weight += world->enabled >> i & 1 ? operations[i].weight : 0;
	chosen = below(random, weight);
	for (i = 0;; i++) {
		if (!(world->enabled >> i & 1))
			continue;
		if (chosen < operations[i].weight)
			break;
		chosen -= operations[i].weight;
	}
	note = new_note(actor->worker, operations[i].name);
	actor->doing = note->name;
	operations[i].perform(actor, random, note);
	if (note->error == RUNNING)
		note->error = 0;
	atomic_fetch_add(&actor->worker->progress, 1);
}

static void do_steps(struct actor *actor, struct random *random, unsigned int steps)
{
	for (unsigned int step = 0; step < steps && !atomic_load(&world->stop); step++) {
		struct random own = { next(random) };

		if (atomic_load(&meeting.phase) == OPEN && !actor->depth)
			join(actor, &own);
		do_step(actor, &own);
	}
}

#endif
