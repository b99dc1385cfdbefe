// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the driver does with page frames that Rust cannot reach. See helpers.rs
 * for the Rust side.
 */

#include <linux/mm.h>

void anon_rmap_get_page(struct page *page);
void anon_rmap_get_page(struct page *page)
{
	get_page(page);
}

void anon_rmap_put_page(struct page *page);
void anon_rmap_put_page(struct page *page)
{
	put_page(page);
}

int anon_rmap_page_count(const struct page *page);
int anon_rmap_page_count(const struct page *page)
{
	return page_count(page);
}

bool anon_rmap_page_hwpoison(const struct page *page);
bool anon_rmap_page_hwpoison(const struct page *page)
{
	return PageHWPoison(page);
}

void anon_rmap_page_set_hwpoison(struct page *page);
void anon_rmap_page_set_hwpoison(struct page *page)
{
	SetPageHWPoison(page);
}

bool anon_rmap_page_test_clear_hwpoison(struct page *page);
bool anon_rmap_page_test_clear_hwpoison(struct page *page)
{
	return TestClearPageHWPoison(page);
}

/* Takes the only reference away, so that nobody can get one. False if there are more. */
bool anon_rmap_page_freeze(struct page *page);
bool anon_rmap_page_freeze(struct page *page)
{
	return folio_ref_freeze(page_folio(page), 1);
}

void anon_rmap_page_unfreeze(struct page *page);
void anon_rmap_page_unfreeze(struct page *page)
{
	folio_ref_unfreeze(page_folio(page), 1);
}

/* Exported to modules, but declared in mm/internal.h. */
void shake_folio(struct folio *folio);

/* Makes core mm give up the references to @page that it has collected. */
void anon_rmap_page_shake(struct page *page);
void anon_rmap_page_shake(struct page *page)
{
	shake_folio(page_folio(page));
}

/* What @from is charged to is charged for @to from now on. */
void anon_rmap_page_move_charge(struct page *from, struct page *to);
void anon_rmap_page_move_charge(struct page *from, struct page *to)
{
#ifdef CONFIG_MEMCG
	to->memcg_data = from->memcg_data;
	from->memcg_data = 0;
#endif
}
