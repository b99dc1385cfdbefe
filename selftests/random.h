/* SPDX-License-Identifier: GPL-2.0-only */
/* Random numbers that a seed repeats: SplitMix64. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
	uint64_t state;
};

static inline uint64_t next(struct random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* A number from 0 to @limit - 1. */
static inline uint64_t below(struct random *random, uint64_t limit)
{
	return next(random) % limit;
}

static inline bool one_in(struct random *random, uint64_t n)
{
	return !below(random, n);
}

/* The numbers of one step: they don't depend on what other steps have drawn. */
static inline struct random random_of_step(uint64_t seed, uint64_t step)
{
	struct random of_seed = { seed };

	return (struct random){ next(&of_seed) + step * 0xd1342543de82ef95 };
}

#endif
