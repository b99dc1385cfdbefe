// SPDX-License-Identifier: GPL-2.0-only
/*
 * What pool/quarantine.rs needs and Rust cannot reach.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/xarray.h>

#include "helpers.h"

/* The frames, each with its kind as the value. */
static DEFINE_XARRAY(anon_rmap_frames);

/* The file in whose page cache a frame is while memory_failure() handles it. */
static struct file *anon_rmap_failing;

/* In `private` of a frame that nobody has any more, with the kind: the next module to be loaded knows it by that. */
#define ANON_RMAP_SIGN 0x616e6f6e726d6100UL
#define ANON_RMAP_KIND_MASK 0xffUL

/* Called by memory_failure(), which then looks whether anybody has a reference but itself: ours goes until it is done. */
static int anon_rmap_error_remove_folio(struct address_space *mapping, struct folio *folio)
{
	int error = generic_error_remove_folio(mapping, folio);

	if (error)
		return error;
	folio->private = anon_rmap_failing;
	/* unpoison_memory() leaves alone what looks like a page of a file, which it does until our reference is back. */
	folio->mapping = mapping;
	folio_put(folio);
	return 0;
}

static const struct address_space_operations anon_rmap_failing_aops = {
	.dirty_folio = noop_dirty_folio,
	.error_remove_folio = anon_rmap_error_remove_folio,
};

/* Without an owner: the module closes the file when it goes. */
static const struct file_operations anon_rmap_failing_fops = {};

int anon_rmap_quarantine_init(void)
{
	struct address_space *mapping;
	struct file *file;

	file = anon_inode_create_getfile("[anon_rmap]", &anon_rmap_failing_fops, NULL, O_RDWR, NULL);
	if (IS_ERR(file))
		return PTR_ERR(file);
	/* Only from that of a regular file does generic_error_remove_folio() remove anything. */
	file_inode(file)->i_mode |= S_IFREG;
	mapping = file->f_mapping;
	mapping->a_ops = &anon_rmap_failing_aops;
	/* Nobody isolates a frame before memory_failure() does, and no memory cgroup is charged for it. */
	mapping_set_inaccessible(mapping);
	set_bit(AS_KERNEL_FILE, &mapping->flags);
	anon_rmap_failing = file;
	return 0;
}

void anon_rmap_quarantine_exit(void)
{
	__fput_sync(anon_rmap_failing);
	xa_destroy(&anon_rmap_frames);
}

/* Adds a frame, or changes its kind. Does not fail. Sleeps. */
void anon_rmap_quarantine_add(unsigned long pfn, int kind)
{
	xa_store(&anon_rmap_frames, pfn, xa_mk_value(kind), GFP_KERNEL | __GFP_NOFAIL);
}

/* The same without waiting for memory; what finds none is found when the module is loaded again. */
void anon_rmap_quarantine_try_add(unsigned long pfn, int kind)
{
	xa_store(&anon_rmap_frames, pfn, xa_mk_value(kind), GFP_NOWAIT | __GFP_NOWARN);
}

/* Forgets the frame of @page, unless it is marked as bad. */
void anon_rmap_quarantine_remove(struct page *page)
{
	xa_lock(&anon_rmap_frames);
	/* It is marked before it is added. */
	if (!PageHWPoison(page))
		__xa_erase(&anon_rmap_frames, page_to_pfn(page));
	xa_unlock(&anon_rmap_frames);
}

/* The kind of the first frame from *@pfn on, which is put there; negative if there is none. */
int anon_rmap_quarantine_find(unsigned long *pfn)
{
	void *entry = xa_find(&anon_rmap_frames, pfn, ULONG_MAX, XA_PRESENT);

	return entry ? xa_to_value(entry) : -1;
}

/* Signs a frame with another kind, unless the kernel has taken it back meanwhile. */
void anon_rmap_quarantine_sign_marked(struct page *page, int kind)
{
	if (!get_page_unless_zero(page))
		return;
	if (PageHWPoison(page) && (page_private(page) & ~ANON_RMAP_KIND_MASK) == ANON_RMAP_SIGN)
		set_page_private(page, ANON_RMAP_SIGN | kind);
	put_page(page);
}

/* Adds the frames that were signed, by whatever module of this name. Looks at all there are. */
void anon_rmap_quarantine_add_signed(void)
{
	int nid;

	for_each_online_node(nid) {
		unsigned long pfn = node_start_pfn(nid), end = node_end_pfn(nid);

		for (; pfn < end; pfn++) {
			struct page *page = pfn_to_online_page(pfn);

			if (!(pfn % PAGES_PER_SECTION))
				cond_resched();
			if (!page) {
				pfn |= PAGES_PER_SECTION - 1;
				continue;
			}
			/* What is marked is nobody's else. */
			if (PageHWPoison(page) && (page_private(page) & ~ANON_RMAP_KIND_MASK) == ANON_RMAP_SIGN)
				anon_rmap_quarantine_add(pfn, page_private(page) & ANON_RMAP_KIND_MASK);
		}
	}
}

/* Gives back what @page is charged to, if @gfp gets the memory for that. */
static void anon_rmap_uncharge(struct page *page, gfp_t gfp)
{
#ifdef CONFIG_MEMCG
	struct page *other;

	if (!page->memcg_data)
		return;
	/* With the charge of another page that is freed. */
	other = alloc_page(gfp);
	if (!other)
		return;
	swap(page->memcg_data, other->memcg_data);
	__free_page(other);
#endif
}

/* Signs a frame that is given up, for anon_rmap_quarantine_add_signed(), and gives back what it is charged to. Does not reclaim. */
void anon_rmap_quarantine_sign(struct page *page, int kind)
{
	anon_rmap_uncharge(page, GFP_NOWAIT | __GFP_NOWARN);
	set_page_private(page, ANON_RMAP_SIGN | kind);
}

/*
 * Has memory_failure() take the frame of @page out of use: it is marked, counted, traced and logged, and a reference
 * stays that belongs to the mark, which unpoison_memory() drops. To memory_failure() it is a page of a file that
 * nobody maps. The caller has a reference before and after; it is the only one, or somebody uses what is in the
 * frame, which is counted as a failure that was not recovered from. `private`, `index` and `mapping` are lost. Sleeps.
 */
void anon_rmap_mark_bad(struct page *page, bool simulated)
{
	struct address_space *mapping = anon_rmap_failing->f_mapping;
	struct folio *folio = page_folio(page);
	unsigned long pfn = page_to_pfn(page);
	loff_t start = (loff_t)pfn << PAGE_SHIFT;

	folio->private = NULL;
	anon_rmap_uncharge(page, GFP_KERNEL | __GFP_NOFAIL);
	if (!WARN_ON_ONCE(filemap_add_folio(mapping, folio, pfn, GFP_KERNEL | __GFP_NOFAIL))) {
		folio_unlock(folio);
		memory_failure(pfn, simulated ? MF_SW_SIMULATED : 0);
	}
	if (!folio->private) {
		/* It was not truncated. */
		truncate_inode_pages_range(mapping, start, start + PAGE_SIZE - 1);
		/* A filter (hwpoison-inject) can have kept it from being marked. */
		SetPageHWPoison(page);
	}
	/* Ours, or that of the mark. */
	folio_get(folio);
	folio->private = NULL;
	WRITE_ONCE(folio->mapping, NULL);
}

/*
 * Undoes what memory_failure() has done to @page, to which there are the caller's reference and that of the mark. The
 * content stays. -EBUSY if somebody else has a reference; other errors as those of unpoison_memory().
 */
int anon_rmap_unmark_bad(struct page *page)
{
	struct folio *folio = page_folio(page);
	int error;

	/* unpoison_memory() would free the page with the reference of the mark. It takes one that has none for free. */
	if (!folio_ref_freeze(folio, 2))
		return -EBUSY;
	error = unpoison_memory(page_to_pfn(page));
	/* Somebody else may have undone it meanwhile, as that of a page without references: the reference of the mark is left. */
	if (error && !PageHWPoison(page))
		error = 0;
	folio_ref_unfreeze(folio, error ? 2 : 1);
	return error;
}
