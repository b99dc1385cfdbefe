// SPDX-License-Identifier: GPL-2.0-only
/* A mutex in a bit, and what lockdep is told of it. */

#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/wait_bit.h>

#include "helpers.h"

/* The bit of the word. */
#define ANON_RMAP_LOCKED 0

void anon_rmap_bit_mutex_init(struct anon_rmap_bit_mutex *lock, const char *name, struct lock_class_key *key)
{
	lock->word = 0;
	lockdep_init_map_wait(&lock->map, name, key, 0, LD_WAIT_SLEEP);
}

void anon_rmap_bit_mutex_lock(struct anon_rmap_bit_mutex *lock)
{
	mutex_acquire(&lock->map, 0, 0, _RET_IP_);
	wait_on_bit_lock(&lock->word, ANON_RMAP_LOCKED, TASK_UNINTERRUPTIBLE);
}

bool anon_rmap_bit_mutex_trylock(struct anon_rmap_bit_mutex *lock)
{
	if (test_and_set_bit_lock(ANON_RMAP_LOCKED, &lock->word))
		return false;
	mutex_acquire(&lock->map, 0, 1, _RET_IP_);
	return true;
}

void anon_rmap_bit_mutex_unlock(struct anon_rmap_bit_mutex *lock)
{
	mutex_release(&lock->map, _RET_IP_);
	clear_and_wake_up_bit(ANON_RMAP_LOCKED, &lock->word);
}

void anon_rmap_bit_mutex_assert_held(const struct anon_rmap_bit_mutex *lock)
{
#ifdef CONFIG_LOCKDEP
	lockdep_assert(test_bit(ANON_RMAP_LOCKED, &lock->word) && lock_is_held(&lock->map));
#endif
}
