/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all processes of a run share, and the words that they write.
 *
 * A word says what kind of memory it was written to, in which column (a page's position, kept when the page moves), at which
 * place of the page, by which process, and when. So a word that got to where it does not belong is told.
 */
#ifndef TORTURE_WORLD_H
#define TORTURE_WORLD_H

#include "../lib/access.h"
#include "../lib/debugfs.h"
#include "../lib/device.h"
#include "../lib/file.h"
#include "../lib/pagemap.h"
#include "../lib/patience.h"
#include "../lib/process.h"
#include "../lib/random.h"
#include "../lib/stats.h"
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define MAX_PROCESSES 6
#define MAX_THREADS 4

enum arena { PRIVATE, SHARED, NR_ARENAS };

#define ARENA_PAGES 1024U
/* Memory is moved by multiples of this. */
#define LANE 128U

/*
 * Words of a page that are in use: one of each thread of each process, so that only one thread writes it, and one that
 * others write by process_vm_writev().
 */
#define NR_WORDS 64U
#define FOREIGN_WORD (NR_WORDS - 1)

#define VERSION_BITS 31
#define NUMBER_BITS 17
#define COLUMN_BITS 8
#define WORD_BITS 6
#define MAX_NUMBERS (1U << NUMBER_BITS)
#define MAX_VERSION (1U << VERSION_BITS)

enum tag { PRIVATE_TAG = 1, SHARED_TAG, FOREIGN_TAG };

struct mark {
	enum tag tag;
	unsigned int word, column, number, version;
};

static inline uint64_t mark_value(struct mark mark)
{
	uint64_t value = mark.tag;

	value = value << WORD_BITS | mark.word;
	value = value << COLUMN_BITS | mark.column;
	value = value << NUMBER_BITS | mark.number;
	return value << VERSION_BITS | mark.version;
}

static inline struct mark mark_of(uint64_t value)
{
	struct mark mark;

	mark.version = value & (MAX_VERSION - 1);
	value >>= VERSION_BITS;
	mark.number = value & (MAX_NUMBERS - 1);
	value >>= NUMBER_BITS;
	mark.column = value & ((1U << COLUMN_BITS) - 1);
	value >>= COLUMN_BITS;
	mark.word = value & ((1U << WORD_BITS) - 1);
	mark.tag = value >> WORD_BITS;
	return mark;
}

/* Operations of a thread that a report shows. */
#define HISTORY 5

/* An operation of a thread, for reports. */
struct note {
	const char *name;
	unsigned int arena, page, pages, argument;
	/* What came of it; RUNNING while it is under way. */
	int error;
	/* When it began: the version of the last word written then. */
	unsigned int version;
};

#define RUNNING (-1)

#define MAX_OFFLINED 256

struct worker {
	/* Grows with all that is done. */
	atomic_ulong progress;
	atomic_uint noted;
	struct note notes[HISTORY];
};

/* What a process is asked to do. */
enum command { RUN, CHECK, FORK };

struct member {
	pid_t pid;
	bool alive;
	/* To be killed in this round. */
	bool doomed;
	unsigned int number;
	sem_t request, reply;
	enum command command;
	unsigned int argument;
	/* The last one is that of the process itself, between rounds. */
	struct worker workers[MAX_THREADS + 1];
};

static struct world {
	uint64_t seed;
	unsigned int processes, threads, steps;
	/* On anonymous memory, without debugfs. */
	bool anonymous;
	/* Operations that are left out, a bit each, and those of this round. */
	uint64_t without, enabled;
	unsigned int round;
	/* Where most of a round goes on. */
	enum arena focus_arena;
	unsigned int focus;
	/* Whether pages may be poisoned now. */
	atomic_bool failing;
	/* The words and processes there have been. */
	atomic_uint version, numbers;
	atomic_bool stop;
	atomic_bool failed;
	/* What was wrong first. */
	char failure[512];
	struct member members[MAX_PROCESSES];
	struct member injector;
	struct worker conductor;
	/* Of how many pages one is looked for in the rmap. */
	unsigned int stride;
	/* Frames that soft offline has taken out of use. */
	unsigned int nr_offlined;
	uint64_t offlined[MAX_OFFLINED];
	/* How many frames were out of use before the run. */
	long quarantined;
	/* What has been done, for the report. */
	atomic_ulong user, kernel, refused, recalled, forks, kills, injections, listed;
	/* How long the conductor has waited for rounds and for checks. */
	uint64_t rounds_ns, checks_ns;
} *world;

/* Says what is wrong, if it is the first thing, and ends the run. */
__attribute__((format(printf, 1, 2))) static inline void fail(const char *format, ...)
{
	va_list arguments;

	if (atomic_exchange(&world->failed, true))
		return;
	va_start(arguments, format);
	vsnprintf(world->failure, sizeof(world->failure), format, arguments);
	va_end(arguments);
	atomic_store(&world->stop, true);
}

static inline void count(atomic_ulong *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline struct note *new_note(struct worker *worker, const char *name)
{
	struct note *note = &worker->notes[atomic_fetch_add(&worker->noted, 1) % HISTORY];

	*note = (struct note){ .name = name, .error = RUNNING, .version = atomic_load(&world->version) };
	return note;
}

/* The random numbers for @purpose in a round: they don't depend on what else was drawn. */
static inline struct random random_of_round(unsigned int purpose)
{
	struct random random = random_of_step(world->seed, (uint64_t)world->round << 16 | purpose);

	return (struct random){ next(&random) };
}

/* Purposes; those of threads come after them. */
enum { CONDUCT = 1, INJECT, CHECKS, THREADS };

#endif
