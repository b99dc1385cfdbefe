// SPDX-License-Identifier: GPL-2.0-only
/*
 * What pool/device_memory.rs needs and Rust cannot reach.
 */

#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

/* Whether the whole physical range was reserved at boot. */
bool anon_rmap_is_reserved(u64 start, u64 size);
bool anon_rmap_is_reserved(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_MEM, IORES_DESC_RESERVED) == REGION_INTERSECTS;
}

struct page *anon_rmap_pfn_to_page(unsigned long pfn);
struct page *anon_rmap_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

void anon_rmap_unlock_page(struct page *page);
void anon_rmap_unlock_page(struct page *page)
{
	unlock_page(page);
}

void anon_rmap_clear_page(struct page *page);
void anon_rmap_clear_page(struct page *page)
{
	clear_highpage(page);
}
