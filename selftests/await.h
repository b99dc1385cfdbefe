/* SPDX-License-Identifier: GPL-2.0-only */
/* What comes a while after its cause, from a worker or an interrupt. */
#ifndef AWAIT_H
#define AWAIT_H

#include "anon_rmap.h"

/* Whether @condition(@argument) becomes true in time. */
static inline bool await(bool (*condition)(uint64_t), uint64_t argument)
{
	struct patience patience = patience_for(20);

	while (!condition(argument)) {
		if (ran_out(&patience))
			return false;
		usleep(10000);
	}
	return true;
}

static inline bool is_poisoned(uint64_t pfn)
{
	struct poisoned page;

	return read_poisoned(pfn, &page);
}

/* Poisoned, and mapped nowhere: a page is listed before it is unmapped. */
static inline bool is_taken_away(uint64_t pfn)
{
	char *mappings;
	bool unmapped;

	if (!is_poisoned(pfn) || print_to_file(DEBUGFS "rmap", "%#lx", pfn))
		return false;
	mappings = read_file(DEBUGFS "rmap");
	unmapped = mappings && !*mappings;
	free(mappings);
	return unmapped;
}

static inline bool is_quarantined(uint64_t frames)
{
	return counter("quarantined") == (long)frames;
}

#endif
