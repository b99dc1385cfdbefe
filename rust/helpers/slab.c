// SPDX-License-Identifier: GPL-2.0-only
/* Objects of slab caches. */

#include <linux/slab.h>

#include "helpers.h"

/* Of objects that are charged to a memory cgroup. NULL if there is no memory. */
struct kmem_cache *anon_rmap_cache_create(const char *name, size_t size)
{
	return kmem_cache_create(name, size, 0, SLAB_ACCOUNT, NULL);
}

void *anon_rmap_cache_alloc(struct kmem_cache *cache, gfp_t flags)
{
	return kmem_cache_alloc(cache, flags);
}

void anon_rmap_cache_destroy(struct kmem_cache *cache)
{
	kmem_cache_destroy(cache);
}
