// SPDX-License-Identifier: GPL-2.0-only
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "file.h"
#include "proc.h"

char state_of(uint64_t pid)
{
	char path[32], *text, *end_of_name, state;

	snprintf(path, sizeof(path), "/proc/%lu/stat", pid);
	text = read_file(path);
	end_of_name = text ? strrchr(text, ')') : NULL;
	state = end_of_name && end_of_name[1] ? end_of_name[2] : 0;
	free(text);
	return state;
}

void read_smaps(const char *memory, size_t pages, void (*see)(const char *line, void *argument), void *argument)
{
	uintptr_t first = (uintptr_t)memory, last = first + pages * PAGE - 1;
	char *text = read_file("/proc/self/smaps"), *rest = text, *line;
	bool is_there = false;

	while ((line = strsep(&rest, "\n"))) {
		uintptr_t start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_there = start <= last && end > first;
		else if (is_there)
			see(line, argument);
	}
	free(text);
}

struct sum {
	const char *name;
	long kilobytes;
};

static void add_up(const char *line, void *argument)
{
	struct sum *sum = argument;
	size_t size = strlen(sum->name);

	if (!strncmp(line, sum->name, size) && line[size] == ':')
		sum->kilobytes += strtol(line + size + 1, NULL, 10);
}

long smaps_kilobytes(const char *memory, size_t pages, const char *name)
{
	struct sum sum = { name, 0 };

	read_smaps(memory, pages, add_up, &sum);
	return sum.kilobytes;
}
