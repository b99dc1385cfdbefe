/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers that depend on a seed only (splitmix64). */
#ifndef DIFFERENTIAL_RANDOM_H
#define DIFFERENTIAL_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
	uint64_t state;
};

static inline uint64_t random_bits(struct random *random)
{
	uint64_t bits = random->state += 0x9e3779b97f4a7c15;

	bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
	bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
	return bits ^ bits >> 31;
}

/* The numbers of one step: they don't depend on what other steps have drawn. */
static inline struct random random_of_step(uint64_t seed, uint64_t step)
{
	struct random of_seed = { seed };

	return (struct random){ random_bits(&of_seed) + step * 0xd1342543de82ef95 };
}

static inline unsigned int random_below(struct random *random, unsigned int limit)
{
	return (random_bits(random) >> 32) % limit;
}

static inline bool one_in(struct random *random, unsigned int n)
{
	return !random_below(random, n);
}

#endif
