/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers that a seed repeats: SplitMix64. */
#ifndef RANDOM_H
#define RANDOM_H

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

#endif
