/* SPDX-License-Identifier: GPL-2.0-only */
/* The counters of debugfs `stats`. */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>
#include <stdint.h>

/* The value of @name in a text like `stats`; -1 if it is not there. */
long counter_in(const char *stats, const char *name);

/* The value of @name in `stats`. */
long counter(const char *name);

/* The name of a counter that is not zero although nothing is mapped, "" if there is none. Gives the dying some time to. */
const char *leak(void);

/* Whether so many frames are out of use. */
bool is_quarantined(uint64_t frames);

#endif
