// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "debugfs.h"
#include "file.h"
#include "patience.h"
#include "stats.h"

long counter_in(const char *stats, const char *name)
{
	size_t size = strlen(name);

	while (stats && (strncmp(stats, name, size) || stats[size] != ' ')) {
		stats = strchr(stats, '\n');
		stats = stats && stats[1] ? stats + 1 : NULL;
	}
	return stats ? strtol(stats + size, NULL, 10) : -1;
}

long counter(const char *name)
{
	char *stats = read_file(DEBUGFS "stats");
	long value = counter_in(stats, name);

	free(stats);
	return value;
}

/* As leak(), at this moment. */
static const char *left_over(void)
{
	static const char *const gauges[] = { "vmas", "amaps", "anons", "anon_vmas", "avcs", "poisoned", "pages_shared", "pages_sharing",
					      "pages_unshared" };
	char *stats = read_file(DEBUGFS "stats");
	const char *left = "";

	for (size_t i = 0; i < sizeof(gauges) / sizeof(*gauges); i++)
		if (counter_in(stats, gauges[i]))
			left = gauges[i];
	free(stats);
	return left;
}

const char *leak(void)
{
	struct patience patience = patience_for(5);

	while (*left_over() && !ran_out(&patience))
		usleep(1000);
	return left_over();
}

bool is_quarantined(uint64_t frames)
{
	return counter("quarantined") == (long)frames;
}
