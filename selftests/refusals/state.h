/* SPDX-License-Identifier: GPL-2.0-only */
/* What the driver tells of its state: what is refused leaves that alone. */
#ifndef REFUSALS_STATE_H
#define REFUSALS_STATE_H

#include "order.h"

/* The lists and counters that what is refused leaves alone. What is done and then undone leaves `mappings` alone. */
static const enum file_number listed[] = { MAPPINGS, POISONED, QUARANTINE, POISON_RANDOM, DRY_RUN, RMAP };

#define NR_LISTS (sizeof(listed) / sizeof(*listed))
#define FIRST_SHORT 1

static const char *const counters[] = {
	"vmas", "amaps", "anons", "anon_vmas", "avcs", "poisoned", "quarantined", "poisonings_total", "unpoisonings_total",
	"soft_offlines_total",
};

#define NR_COUNTERS (sizeof(counters) / sizeof(*counters))

static struct {
	char *lists[NR_LISTS];
	long counters[NR_COUNTERS];
	/* When the lists were last as they are here: the short ones, and `mappings`. */
	long step, mappings_step;
} state;

static void read_counters(long *values)
{
	char *stats = read_list(STATS);

	for (size_t i = 0; i < NR_COUNTERS; i++)
		values[i] = counter_in(stats, counters[i]);
	free(stats);
}

/* Whether the journal has a record that was not read; it is read then. */
static bool has_event(void)
{
	static int fd;
	struct pollfd journal = { .events = POLLIN };
	char text[4096];

	if (!fd)
		fd = open_file(EVENTS, NR_WAYS - 1);
	journal.fd = fd;
	if (!poll(&journal, 1, 0))
		return false;
	while (read(fd, text, sizeof(text)) > 0)
		;
	return true;
}

/* Notes the state before step @step, and that all events are known. */
static void note_state(long step, bool with_mappings)
{
	has_event();
	for (size_t i = with_mappings ? 0 : FIRST_SHORT; i < NR_LISTS; i++) {
		free(state.lists[i]);
		state.lists[i] = read_list(listed[i]);
	}
	read_counters(state.counters);
	state.step = step;
	if (with_mappings)
		state.mappings_step = step;
}

static bool check_list(size_t i)
{
	char *list = read_list(listed[i]);
	bool is_same = !strcmp(state.lists[i], list) ||
		       COMPLAIN("%s has changed, from\n%.400s\nto\n%.400s", files[listed[i]].name, state.lists[i], list);

	free(list);
	return is_same;
}

/* What was refused has changed nothing that is seen at once: the answer of the file that was written, counters, the journal. */
static bool check_unchanged(void)
{
	long values[NR_COUNTERS];

	for (size_t i = FIRST_SHORT; i < NR_LISTS; i++)
		if (listed[i] == order->file && !check_list(i))
			return false;
	read_counters(values);
	for (size_t i = 0; i < NR_COUNTERS; i++)
		if (state.counters[i] != values[i])
			return COMPLAIN("%s was %ld and is %ld", counters[i], state.counters[i], values[i]);
	return !has_event() || COMPLAIN("there is a new event");
}

/* The lists are what they were, before step @step. If not, *@since is the first step by which they can have changed. */
static bool check_lists(long step, bool with_mappings, long *since)
{
	for (size_t i = with_mappings ? 0 : FIRST_SHORT; i < NR_LISTS; i++) {
		*since = i < FIRST_SHORT ? state.mappings_step : state.step;
		if (!check_list(i))
			return false;
	}
	state.step = step;
	if (with_mappings)
		state.mappings_step = step;
	return true;
}

#endif
