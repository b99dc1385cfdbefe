/* SPDX-License-Identifier: GPL-2.0-only */
/* The pool of device memory. */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stdint.h>

/* The number of pages of the pool, and its first frame; 0 if pages are system RAM. */
uint64_t pool(uint64_t *first_pfn);

/* Whether pages are device memory: the kernel's own handler of failures calls the driver then. */
bool has_pool(void);

/* Loads the module, with a pool of as many pages. Returns 0 or the errno. */
int load_pool(uint64_t first_pfn, uint64_t pages);

#endif
