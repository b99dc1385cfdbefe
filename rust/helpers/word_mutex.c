// SPDX-License-Identifier: GPL-2.0-only
/* A mutex in a word, and what lockdep is told of it. */

#include <linux/atomic.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/wait_bit.h>

#include "helpers.h"

/* What the word says. Whoever has waited leaves it contended, as others may wait, too: who unlocks it wakes one of them. */
enum anon_rmap_word {
	ANON_RMAP_FREE,
	ANON_RMAP_LOCKED,
	ANON_RMAP_CONTENDED,
};

void anon_rmap_word_mutex_init(struct anon_rmap_word_mutex *lock, const char *name, struct lock_class_key *key)
{
	atomic_set(&lock->word, ANON_RMAP_FREE);
	lockdep_init_map_wait(&lock->map, name, key, 0, LD_WAIT_SLEEP);
}

static bool anon_rmap_word_trylock(struct anon_rmap_word_mutex *lock)
{
	return atomic_cmpxchg_acquire(&lock->word, ANON_RMAP_FREE, ANON_RMAP_LOCKED) == ANON_RMAP_FREE;
}

static noinline void anon_rmap_word_wait(struct anon_rmap_word_mutex *lock)
{
	___wait_var_event(&lock->word, atomic_xchg(&lock->word, ANON_RMAP_CONTENDED) == ANON_RMAP_FREE,
			  TASK_UNINTERRUPTIBLE, 1, 0, schedule());
}

void anon_rmap_word_mutex_lock(struct anon_rmap_word_mutex *lock)
{
	might_sleep();
	mutex_acquire(&lock->map, 0, 0, _RET_IP_);
	if (!anon_rmap_word_trylock(lock))
		anon_rmap_word_wait(lock);
}

bool anon_rmap_word_mutex_trylock(struct anon_rmap_word_mutex *lock)
{
	if (!anon_rmap_word_trylock(lock))
		return false;
	mutex_acquire(&lock->map, 0, 1, _RET_IP_);
	return true;
}

void anon_rmap_word_mutex_unlock(struct anon_rmap_word_mutex *lock)
{
	mutex_release(&lock->map, _RET_IP_);
	/* Fully ordered: who begins to wait afterwards finds it free. Only the address is used then, the lock may be gone. */
	if (atomic_xchg(&lock->word, ANON_RMAP_FREE) == ANON_RMAP_CONTENDED)
		wake_up_var(&lock->word);
}

void anon_rmap_word_mutex_assert_held(const struct anon_rmap_word_mutex *lock)
{
#ifdef CONFIG_LOCKDEP
	lockdep_assert(atomic_read(&lock->word) != ANON_RMAP_FREE && lock_is_held(&lock->map));
#endif
}
