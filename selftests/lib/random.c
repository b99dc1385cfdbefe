// SPDX-License-Identifier: GPL-2.0-only
#include "random.h"

uint64_t next(struct random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t below(struct random *random, uint64_t limit)
{
	return next(random) % limit;
}

bool one_in(struct random *random, uint64_t n)
{
	return !below(random, n);
}

struct random random_of_step(uint64_t seed, uint64_t step)
{
	struct random of_seed = { seed };

	return (struct random){ next(&of_seed) + step * 0xd1342543de82ef95 };
}
