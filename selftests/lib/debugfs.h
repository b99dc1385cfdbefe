/* SPDX-License-Identifier: GPL-2.0-only */
/* The files of the driver in debugfs; rust/debugfs.md. The counters are in stats.h. */
#ifndef DEBUGFS_H
#define DEBUGFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DEBUGFS "/sys/kernel/debug/anon_rmap/"

/* These write a command of that name; they return 0 or the errno. */
int poison_addr(pid_t pid, const void *address);
int poison_pfn(uint64_t pfn);
int unpoison_pfn(uint64_t pfn);
int hard_offline_pfn(uint64_t pfn);
int soft_offline_pfn(uint64_t pfn);

/* Asks file `rmap` who maps frame @pfn; returns 0 or the errno. */
int ask_rmap(uint64_t pfn);

/* Whether `verify` finds nothing. */
bool verified(void);

/* A line of `mappings`. */
struct mapping {
	pid_t pid;
	uintptr_t start, end;
	unsigned long first, last, present, poisoned, avcs;
	char comm[16];
};

/* The lines of `mappings` about @pid, in an array to be freed; -1 if a line is not as documented. */
ssize_t read_mappings(pid_t pid, struct mapping **mappings);

/* A line of `poisoned`. */
struct poisoned {
	uint64_t pfn;
	unsigned long index;
	char kind[32], source[32];
	double since;
	int hit;
	int nr_pids;
	pid_t pids[64];
};

/* The line of `poisoned` about @pfn; false if there is none. */
bool read_poisoned(uint64_t pfn, struct poisoned *page);

/* The first frame that is listed in `poisoned`; 0 if there is none. */
uint64_t poisoned_pfn(void);

/* Whether there is a line about @pfn. */
bool is_poisoned(uint64_t pfn);

/* Whether it is not; for await(). */
bool is_not_poisoned(uint64_t pfn);

/* Whether it is, since the hardware has failed. */
bool is_bad_hardware(uint64_t pfn);

/* Poisoned, and mapped nowhere: a page is listed before it is unmapped. */
bool is_taken_away(uint64_t pfn);

/* Whether frame @pfn is out of use, as `quarantine` says; and since the hardware has failed. */
bool is_out_of_use(uint64_t pfn);
bool is_listed_as_hardware(uint64_t pfn);

#endif
