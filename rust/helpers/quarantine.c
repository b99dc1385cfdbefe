// SPDX-License-Identifier: GPL-2.0-only
/*
 * What pool/quarantine.rs needs and Rust cannot reach.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/llist.h>
#include <linux/memcontrol.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "helpers.h"

/* The frames, each with its value, see helpers.h. */
static DEFINE_XARRAY(anon_rmap_frames);

/* The file in whose page cache a frame is while memory_failure() handles it. */
static struct file *anon_rmap_failing;

/* New pages that were marked before they had a reference. */
static LLIST_HEAD(anon_rmap_marked);

/* Takes the two references to a new page that is or was marked. */
static void (*anon_rmap_keep_marked)(struct page *page);

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

/* Says whether frame @pfn is of the pool, or has a page that is an anon's. */
static bool (*anon_rmap_is_owned)(unsigned long pfn);

/* Says whether frames [@pfn, @end) can go, and none in there is used any more; until the other one is called. */
static bool (*anon_rmap_begin_offline)(unsigned long pfn, unsigned long end);
static void (*anon_rmap_end_offline)(void);

/*
 * Keeps unpoison_memory() from @folio, which it would take for free as long as there is no reference to it, but drop one if there is by
 * the time it comes to that. It leaves alone what looks like a page of a file.
 */
static void anon_rmap_shield(struct folio *folio)
{
	WRITE_ONCE(folio->mapping, anon_rmap_failing->f_mapping);
	/* Pairs with the mark being set before anybody undoes it: who does not see the shield undoes a mark that is seen by now. */
	smp_mb();
}

/* Ends that. Who has seen a mark, but no reference, must have ended, or there must be no reference yet. */
static void anon_rmap_unshield(struct folio *folio)
{
	/* Not before there are the references that keep unpoison_memory() from it. */
	smp_store_release(&folio->mapping, NULL);
}

/* Gives @folio, which is shielded, two references if it has none, and ends the shield. Whether the page is marked. Sleeps. */
static bool anon_rmap_unfreeze(struct folio *folio)
{
	unsigned long pfn = folio_pfn(folio);
	bool is_marked;

	/* All it does is to wait for who came before the shield. */
	unpoison_memory(pfn);
	if (!folio_ref_count(folio))
		folio_ref_unfreeze(folio, 2);
	/* Pairs with the mark being set before anybody looks for a reference. */
	smp_mb();
	is_marked = PageHWPoison(folio_page(folio, 0));
	/* And now for who has seen no reference. */
	if (is_marked)
		unpoison_memory(pfn);
	anon_rmap_unshield(folio);
	return is_marked;
}

static void anon_rmap_begin_marked(struct work_struct *work)
{
	struct page *page, *next;

	llist_for_each_entry_safe(page, next, llist_del_all(&anon_rmap_marked), pcp_llist) {
		anon_rmap_unfreeze(page_folio(page));
		/* It has references by now, and what is known of it may have changed. */
		cmpxchg(&page->private, ANON_RMAP_NOBODYS | ANON_RMAP_WAITING, ANON_RMAP_NOBODYS);
		anon_rmap_keep_marked(page);
	}
}

static DECLARE_WORK(anon_rmap_marked_work, anon_rmap_begin_marked);

/*
 * Gives @page, which is new and has no reference, two. False if it is marked: then it goes out of use, a moment later, unless that is undone.
 * Does not sleep.
 */
bool anon_rmap_page_begin(struct page *page)
{
	struct folio *folio = page_folio(page);

	anon_rmap_shield(folio);
	if (!PageHWPoison(page)) {
		folio_ref_unfreeze(folio, 2);
		/* Pairs with the mark being set before anybody looks for a reference: who finds none is seen here. */
		smp_mb();
		if (!PageHWPoison(page)) {
			anon_rmap_unshield(folio);
			return true;
		}
	} else {
		set_page_private(page, ANON_RMAP_NOBODYS | ANON_RMAP_WAITING);
	}
	if (llist_add(&page->pcp_llist, &anon_rmap_marked))
		schedule_work(&anon_rmap_marked_work);
	return false;
}

/*
 * Before a block of memory goes offline. The kernel keeps one in which somebody has a page that can't be moved, but not for the sake of
 * pages that have failed, or fail from now on.
 */
static int anon_rmap_memory_notify(struct notifier_block *block, unsigned long action, void *data)
{
	const struct memory_notify *range = data;

	switch (action) {
	case MEM_GOING_OFFLINE:
		if (!anon_rmap_begin_offline(range->start_pfn, range->start_pfn + range->nr_pages))
			return notifier_from_errno(-EBUSY);
		break;
	case MEM_OFFLINE:
	case MEM_CANCEL_OFFLINE:
		anon_rmap_end_offline();
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block anon_rmap_memory_block = {
	.notifier_call = anon_rmap_memory_notify,
};

int anon_rmap_quarantine_init(bool (*is_owned)(unsigned long pfn), bool (*begin_offline)(unsigned long pfn, unsigned long end),
			      void (*end_offline)(void), void (*keep_marked)(struct page *page))
{
	struct address_space *mapping;
	struct file *file;
	int error;

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
	anon_rmap_is_owned = is_owned;
	anon_rmap_begin_offline = begin_offline;
	anon_rmap_end_offline = end_offline;
	anon_rmap_keep_marked = keep_marked;
	error = register_memory_notifier(&anon_rmap_memory_block);
	if (error)
		__fput_sync(file);
	return error;
}

void anon_rmap_quarantine_exit(void)
{
	unregister_memory_notifier(&anon_rmap_memory_block);
	flush_work(&anon_rmap_marked_work);
	__fput_sync(anon_rmap_failing);
	xa_destroy(&anon_rmap_frames);
}

/* Adds a frame that somebody has, or changes its kind. Does not fail. Sleeps. */
void anon_rmap_quarantine_add(unsigned long pfn, int kind)
{
	xa_store(&anon_rmap_frames, pfn, xa_mk_value(kind), GFP_KERNEL | __GFP_NOFAIL);
}

/*
 * Whether frame @pfn is out of use for the reason that @value says. The kernel, or its owner, may have undone that, and the frame have
 * failed as somebody else's; or its memory has been removed.
 */
static bool anon_rmap_is_kept(unsigned long pfn, unsigned long value)
{
	struct page *page;

	if (!(value & ANON_RMAP_GIVEN_UP))
		return anon_rmap_is_owned(pfn) && PageHWPoison(pfn_to_page(pfn));
	page = pfn_to_online_page(pfn);
	return page && PageHWPoison(page) && page_private(page) == (ANON_RMAP_SIGN | value);
}

/*
 * As anon_rmap_quarantine_add(), but does not wait for memory: a frame that was given up and finds none is found when the module is loaded
 * again. What the hardware has failed under stays so.
 */
void anon_rmap_quarantine_try_add(unsigned long pfn, int kind)
{
	unsigned long value = kind;
	void *entry;

	xa_lock(&anon_rmap_frames);
	entry = xa_load(&anon_rmap_frames, pfn);
	if (entry && xa_to_value(entry) & ANON_RMAP_HARDWARE && anon_rmap_is_kept(pfn, xa_to_value(entry)))
		value = (value & ~ANON_RMAP_SOFTWARE) | ANON_RMAP_HARDWARE;
	__xa_store(&anon_rmap_frames, pfn, xa_mk_value(value), GFP_NOWAIT | __GFP_NOWARN);
	xa_unlock(&anon_rmap_frames);
}

/* The value of the first frame from *@pfn on that is out of use, which is put there; 0 if there is none. Forgets what no longer is. */
static unsigned long anon_rmap_find_locked(unsigned long *pfn, unsigned long last)
{
	void *entry;

	while ((entry = xa_find(&anon_rmap_frames, pfn, last, XA_PRESENT))) {
		unsigned long value = xa_to_value(entry);

		if (anon_rmap_is_kept(*pfn, value))
			return value;
		__xa_erase(&anon_rmap_frames, *pfn);
	}
	return 0;
}

/* The kind of the first frame from *@pfn on that is out of use, which is put there; 0 if there is none. */
int anon_rmap_quarantine_find(unsigned long *pfn)
{
	unsigned long value;

	xa_lock(&anon_rmap_frames);
	value = anon_rmap_find_locked(pfn, ULONG_MAX);
	xa_unlock(&anon_rmap_frames);
	return value & (ANON_RMAP_SOFTWARE | ANON_RMAP_HARDWARE);
}

/* Notes that the hardware has failed under frame @pfn. False if it is not out of use. */
bool anon_rmap_quarantine_set_hardware(unsigned long pfn)
{
	unsigned long value;

	xa_lock(&anon_rmap_frames);
	value = anon_rmap_find_locked(&pfn, pfn);
	if (value) {
		struct page *page = pfn_to_page(pfn);

		value &= ~ANON_RMAP_SOFTWARE;
		value |= ANON_RMAP_HARDWARE;
		/* The entry is there: no memory is needed. */
		__xa_store(&anon_rmap_frames, pfn, xa_mk_value(value), GFP_NOWAIT);
		/* With a reference the kernel does not take it back meanwhile. */
		if (value & ANON_RMAP_GIVEN_UP && get_page_unless_zero(page)) {
			if (PageHWPoison(page))
				set_page_private(page, ANON_RMAP_SIGN | value);
			put_page(page);
		}
	}
	xa_unlock(&anon_rmap_frames);
	return value;
}

/* Whether frame @pfn is out of use, and nobody has a reference to it but its mark. */
bool anon_rmap_quarantine_is_unused(unsigned long pfn)
{
	unsigned long value;

	xa_lock(&anon_rmap_frames);
	value = anon_rmap_find_locked(&pfn, pfn);
	xa_unlock(&anon_rmap_frames);
	return value && page_count(pfn_to_page(pfn)) <= (value & ANON_RMAP_UNCOUNTED ? 2 : 1);
}

/*
 * Takes frame @pfn, which was given up, into use again. -ENXIO if it is not out of use, -EPERM if the hardware has failed, -EBUSY if
 * somebody has a reference; other errors as those of unpoison_memory(). One caller at a time.
 */
int anon_rmap_quarantine_release(unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);
	unsigned long value;

	xa_lock(&anon_rmap_frames);
	value = anon_rmap_find_locked(&pfn, pfn);
	xa_unlock(&anon_rmap_frames);
	if (!value)
		return -ENXIO;
	if (value & ANON_RMAP_HARDWARE)
		return -EPERM;
	if (!(value & ANON_RMAP_UNCOUNTED))
		return unpoison_memory(pfn);
	/* The references of the mark are two. */
	if (page_count(page) > 2)
		return -EBUSY;
	/* Who marks it before it is free has a reference claimed, unless that takes one itself. */
	set_page_private(page, PageLRU(page) ? 0 : ANON_RMAP_NOBODYS);
	anon_rmap_page_clear_uncounted(page);
	ClearPageHWPoison(page);
	put_page(page);
	put_page(page);
	return 0;
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
			if (PageHWPoison(page) && (page_private(page) & ~ANON_RMAP_VALUE_MASK) == ANON_RMAP_SIGN)
				anon_rmap_quarantine_add(pfn, page_private(page) & ANON_RMAP_VALUE_MASK);
		}
	}
}

/*
 * Gives back what @page is charged to, if @gfp gets the memory for that: as the charge of another page that is freed. Others may do so
 * meanwhile.
 */
static void anon_rmap_uncharge(struct page *page, gfp_t gfp)
{
#ifdef CONFIG_MEMCG
	unsigned long charge = READ_ONCE(page->memcg_data);
	struct page *other;

	/* As a page of the file, which a filter has left on the LRU, it is the kernel's until it is freed. */
	if (!(charge & MEMCG_DATA_KMEM))
		return;
	other = alloc_page(gfp);
	if (!other)
		return;
	if (try_cmpxchg(&page->memcg_data, &charge, 0))
		other->memcg_data = charge;
	__free_page(other);
#endif
}

/*
 * Gives back what @page, which is given up, is charged to. Does not sleep, and may use what memory is left for those who free some, since
 * it does: only if there is none at all the charge stays.
 */
void anon_rmap_quarantine_uncharge(struct page *page)
{
	anon_rmap_uncharge(page, GFP_NOWAIT | __GFP_MEMALLOC | __GFP_NOWARN);
}

/*
 * Has memory_failure() take the frame of @page out of use: it is marked, counted, traced and logged, and a reference
 * stays that belongs to the mark, which unpoison_memory() drops. To memory_failure() it is a page of a file that
 * nobody maps. The caller has a reference before and after; it is the only one, or somebody uses what is in the
 * frame, which is counted as a failure that was not recovered from. `private`, `index` and `mapping` are lost. Sleeps.
 *
 * A filter (hwpoison-inject) can keep it from that: then it is marked by us, and uncounted.
 */
void anon_rmap_mark_bad(struct page *page, bool simulated)
{
	struct address_space *mapping = anon_rmap_failing->f_mapping;
	struct folio *folio = page_folio(page);
	unsigned long pfn = page_to_pfn(page);
	loff_t start = (loff_t)pfn << PAGE_SHIFT;
	bool is_claimed = false;

	anon_rmap_uncharge(page, GFP_KERNEL | __GFP_NOFAIL);
	if (!WARN_ON_ONCE(filemap_add_folio(mapping, folio, pfn, GFP_KERNEL | __GFP_NOFAIL))) {
		/* From here on who marks it takes a reference; who has done so by now had one claimed. */
		is_claimed = (xchg(&page->private, 0) & ~ANON_RMAP_VALUE_MASK) == ANON_RMAP_SIGN;
		folio_unlock(folio);
		memory_failure(pfn, simulated ? MF_SW_SIMULATED : 0);
	}
	/* Ours, or that of the mark: before the page leaves the file, from when on the kernel undoes a mark and drops a reference. */
	if (!is_claimed)
		folio_get(folio);
	if (folio->private != anon_rmap_failing) {
		/* It was not truncated, and is still in a batch that is to be put on the LRU, which has a reference. */
		anon_rmap_page_shake(page);
		truncate_inode_pages_range(mapping, start, start + PAGE_SIZE - 1);
	}
	if (!PageHWPoison(page)) {
		folio_get(folio);
		anon_rmap_page_set_uncounted(page);
		SetPageHWPoison(page);
	}
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
	anon_rmap_shield(folio);
	/* Somebody may have marked it anew while nobody could get a reference: that of the mark is left. */
	if (anon_rmap_unfreeze(folio))
		return error ?: -EBUSY;
	folio_put(folio);
	return 0;
}
