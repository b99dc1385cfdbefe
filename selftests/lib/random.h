/* SPDX-License-Identifier: GPL-2.0-only */
/* Random numbers that a seed repeats: SplitMix64. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* Where a sequence of numbers is; its seed at first. */
struct random {
	uint64_t state;
};

/* A number of 64 random bits. */
uint64_t next(struct random *random);

/* A number from 0 to @limit - 1. */
uint64_t below(struct random *random, uint64_t limit);

/* True once in @n times. */
bool one_in(struct random *random, uint64_t n);

/* The numbers of one step: they don't depend on what other steps have drawn. */
struct random random_of_step(uint64_t seed, uint64_t step);

#endif
