// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "debugfs.h"
#include "file.h"

int poison_addr(pid_t pid, const void *address)
{
	return print_to_file(DEBUGFS "poison_addr", "%d %p", pid, address);
}

int poison_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "poison_pfn", "%#lx", pfn);
}

int unpoison_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "unpoison_pfn", "%#lx", pfn);
}

int hard_offline_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "hard_offline", "%#lx", pfn);
}

int soft_offline_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "soft_offline", "%#lx", pfn);
}

int ask_rmap(uint64_t pfn)
{
	return print_to_file(DEBUGFS "rmap", "%#lx", pfn);
}

bool verified(void)
{
	char *report = read_file(DEBUGFS "verify");
	bool ok = report && !strncmp(report, "ok ", 3);

	free(report);
	return ok;
}

ssize_t read_mappings(pid_t pid, struct mapping **mappings)
{
	char *text = read_file(DEBUGFS "mappings"), *rest = text, *line;
	ssize_t count = 0;

	*mappings = NULL;
	while (count >= 0 && (line = strsep(&rest, "\n")) && *line) {
		struct mapping m;

		if (sscanf(line, "pid=%d range=%lx-%lx index=%lu-%lu present=%lu poisoned=%lu avcs=%lu comm=%15[^\n]",
			   &m.pid, &m.start, &m.end, &m.first, &m.last, &m.present, &m.poisoned, &m.avcs,
			   m.comm) != 9)
			count = -1;
		else if (m.pid == pid) {
			*mappings = realloc(*mappings, (count + 1) * sizeof(m));
			(*mappings)[count++] = m;
		}
	}
	free(text);
	return text ? count : -1;
}

bool read_poisoned(uint64_t pfn, struct poisoned *page)
{
	char *text = read_file(DEBUGFS "poisoned"), *rest = text, *line;
	bool found = false;
	int pids;

	while (!found && (line = strsep(&rest, "\n"))) {
		found = sscanf(line, "pfn=%lx index=%lu kind=%31s source=%31s since=%lf hit=%d pids=%n", &page->pfn,
			       &page->index, page->kind, page->source, &page->since, &page->hit, &pids) == 6 &&
			page->pfn == pfn;
	}
	if (found) {
		char *list = line + pids, *pid;

		page->nr_pids = 0;
		while ((pid = strsep(&list, ",")) && *pid && page->nr_pids < 64)
			page->pids[page->nr_pids++] = atoi(pid);
	}
	free(text);
	return found;
}

uint64_t poisoned_pfn(void)
{
	char *text = read_file(DEBUGFS "poisoned");
	uint64_t pfn = 0;

	if (text)
		sscanf(text, "pfn=%lx", &pfn);
	free(text);
	return pfn;
}

bool is_poisoned(uint64_t pfn)
{
	struct poisoned page;

	return read_poisoned(pfn, &page);
}

bool is_not_poisoned(uint64_t pfn)
{
	return !is_poisoned(pfn);
}

bool is_bad_hardware(uint64_t pfn)
{
	struct poisoned page;

	return read_poisoned(pfn, &page) && !strcmp(page.kind, "hardware");
}

bool is_taken_away(uint64_t pfn)
{
	char *mappings;
	bool unmapped;

	if (!is_poisoned(pfn) || ask_rmap(pfn))
		return false;
	mappings = read_file(DEBUGFS "rmap");
	unmapped = mappings && !*mappings;
	free(mappings);
	return unmapped;
}

/* Whether there is a line about @pfn that goes on with @words. */
static bool is_in_quarantine(uint64_t pfn, const char *words)
{
	char *list = read_file(DEBUGFS "quarantine"), line[64];
	bool is;

	snprintf(line, sizeof(line), "pfn=%#lx %s", pfn, words);
	is = list && strstr(list, line);
	free(list);
	return is;
}

bool is_out_of_use(uint64_t pfn)
{
	return is_in_quarantine(pfn, "");
}

bool is_listed_as_hardware(uint64_t pfn)
{
	return is_in_quarantine(pfn, "kind=hardware\n");
}
