// SPDX-License-Identifier: GPL-2.0-only
/*
 * What pool/device_memory.rs needs and Rust cannot reach.
 */

#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "helpers.h"

/* Whether the whole physical range was reserved at boot. */
bool anon_rmap_is_reserved(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_MEM, IORES_DESC_RESERVED) == REGION_INTERSECTS;
}
