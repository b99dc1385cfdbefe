// SPDX-License-Identifier: GPL-2.0-only
/* Objects of slab caches. */

#include <linux/slab.h>

#include "helpers.h"

void *anon_rmap_cache_alloc(struct kmem_cache *cache, gfp_t flags)
{
	return kmem_cache_alloc(cache, flags);
}

void anon_rmap_cache_destroy(struct kmem_cache *cache)
{
	kmem_cache_destroy(cache);
}
