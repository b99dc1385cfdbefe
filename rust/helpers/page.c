// SPDX-License-Identifier: GPL-2.0-only
/* Pages: their references, flags and charges. */

#include <linux/cacheflush.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/xxhash.h>

#include "helpers.h"

unsigned long anon_rmap_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

bool anon_rmap_page_maybe_dma_pinned(struct page *page)
{
	return folio_maybe_dma_pinned(page_folio(page));
}

int anon_rmap_page_mapcount(const struct page *page)
{
	return folio_mapcount(page_folio(page));
}

/*
 * Whether there are references to @page besides the owner's, those of page
 * tables, and that of @fault, if it has one: page_mkwrite() is called with one.
 */
bool anon_rmap_page_is_in_use(const struct page *page, const struct vm_fault *fault)
{
	const struct folio *folio = page_folio(page);

	return folio_ref_count(folio) > 1 + folio_mapcount(folio) + (fault->page == page);
}

void anon_rmap_get_page(struct page *page)
{
	get_page(page);
}

bool anon_rmap_get_page_unless_zero(struct page *page)
{
	return get_page_unless_zero(page);
}

/* A flag of the owner's: core mm looks at it for pages of files, and of anonymous memory. Whether it was set before. */
bool anon_rmap_page_test_set_guarded(struct page *page)
{
	return test_and_set_bit(PG_owner_2, &page->flags.f);
}

bool anon_rmap_page_test_clear_guarded(struct page *page)
{
	return test_and_clear_bit(PG_owner_2, &page->flags.f);
}

/*
 * Another one: the kernel has not counted the mark of the page, so unpoison_memory() must not take it back. A second reference that belongs
 * to the mark keeps that from it.
 */
void anon_rmap_page_set_uncounted(struct page *page)
{
	set_bit(PG_owner_priv_1, &page->flags.f);
}

void anon_rmap_page_clear_uncounted(struct page *page)
{
	clear_bit(PG_owner_priv_1, &page->flags.f);
}

bool anon_rmap_page_is_uncounted(const struct page *page)
{
	return test_bit(PG_owner_priv_1, &page->flags.f);
}

void anon_rmap_put_page(struct page *page)
{
	put_page(page);
}

int anon_rmap_page_count(const struct page *page)
{
	return page_count(page);
}

bool anon_rmap_page_hwpoison(const struct page *page)
{
	return PageHWPoison(page);
}

void anon_rmap_page_set_hwpoison(struct page *page)
{
	SetPageHWPoison(page);
}

bool anon_rmap_page_test_clear_hwpoison(struct page *page)
{
	return TestClearPageHWPoison(page);
}

#ifdef CONFIG_NUMA
/* For a moment the page has a reference, which the kernel's undo of a failure drops if the frame was marked when it was free. */
static struct page *anon_rmap_alloc_page_and_freeze(gfp_t gfp)
{
	struct page *page;

	while ((page = alloc_page(gfp))) {
		/* Else that undo is under way, and gives the page back; or somebody looks at it by its number, and it is lost. */
		if (folio_ref_freeze(page_folio(page), 1))
			break;
	}
	return page;
}
#endif

/* Exported to modules, but declared in mm/page_alloc.h. */
struct page *__alloc_frozen_pages_noprof(gfp_t gfp, unsigned int order, int preferred_nid, nodemask_t *nodemask,
					 unsigned int alloc_flags);

/* As alloc_page(), but nobody can get a reference to the page yet: there is none. */
struct page *anon_rmap_alloc_frozen_page(gfp_t gfp)
{
#ifdef CONFIG_NUMA
	/* No function that is exported allocates so and knows the policy. */
	if (current->mempolicy)
		return anon_rmap_alloc_page_and_freeze(gfp);
#endif
	return alloc_hooks(__alloc_frozen_pages_noprof(gfp, 0, numa_node_id(), NULL, 0));
}

/* Exported to modules, but declared in mm/internal.h. */
void shake_folio(struct folio *folio);

/* Makes core mm give up the references to @page that it has collected. */
void anon_rmap_page_shake(struct page *page)
{
	shake_folio(page_folio(page));
}

/* What @from is charged to is charged for @to from now on. */
void anon_rmap_page_move_charge(struct page *from, struct page *to)
{
#ifdef CONFIG_MEMCG
	to->memcg_data = from->memcg_data;
	from->memcg_data = 0;
#endif
}

struct page *anon_rmap_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

void anon_rmap_unlock_page(struct page *page)
{
	unlock_page(page);
}

void anon_rmap_clear_page(struct page *page)
{
	clear_highpage(page);
	/* It may have been mapped before, as it is in a pool of the driver's: what is executed in it from now on is something else. */
	flush_dcache_page(page);
}

/*
 * Copies what is in @from to @to, which nobody else has. False if it can't be read, of which only some processors tell (see
 * CONFIG_ARCH_HAS_COPY_MC); for others that is the end.
 */
bool anon_rmap_copy_page(struct page *to, struct page *from)
{
	const void *source = kmap_local_page(from);
	void *target = kmap_local_page(to);
	unsigned long left = copy_mc_to_kernel(target, source, PAGE_SIZE);

	kunmap_local(target);
	kunmap_local(source);
	flush_dcache_page(to);
	return !left;
}

u64 anon_rmap_page_hash(struct page *page, u64 seed)
{
	const void *content = kmap_local_page(page);
	u64 hash = xxh64(content, PAGE_SIZE, seed);

	kunmap_local(content);
	return hash;
}

bool anon_rmap_page_is_equal(struct page *page, struct page *other)
{
	const void *content = kmap_local_page(page);
	const void *others = kmap_local_page(other);
	bool is_equal = !memcmp(content, others, PAGE_SIZE);

	kunmap_local(others);
	kunmap_local(content);
	return is_equal;
}

bool anon_rmap_page_is_zeroes(struct page *page)
{
	const void *content = kmap_local_page(page);
	bool is_zeroes = !memchr_inv(content, 0, PAGE_SIZE);

	kunmap_local(content);
	return is_zeroes;
}
