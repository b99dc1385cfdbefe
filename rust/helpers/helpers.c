// SPDX-License-Identifier: GPL-2.0-only
/*
 * Static inlines and macros of the kernel that Rust cannot reach and that the
 * kernel's own rust/helpers does not wrap. See helpers.rs for the Rust side.
 */

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/interval_tree_generic.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/pgalloc.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/shmem_fs.h>
#include <linux/userfaultfd_k.h>
#include <linux/wait.h>

#ifndef CONFIG_PER_VMA_LOCK
#error "anon_rmap needs CONFIG_PER_VMA_LOCK, which 64-bit x86 has with CONFIG_SMP"
#endif

unsigned long anon_rmap_page_to_pfn(const struct page *page);
unsigned long anon_rmap_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

bool anon_rmap_page_maybe_dma_pinned(struct page *page);
bool anon_rmap_page_maybe_dma_pinned(struct page *page)
{
	return folio_maybe_dma_pinned(page_folio(page));
}

int anon_rmap_page_mapcount(const struct page *page);
int anon_rmap_page_mapcount(const struct page *page)
{
	return folio_mapcount(page_folio(page));
}

/*
 * Whether there are references to @page besides the owner's, those of page
 * tables, and that of @fault, if it has one: page_mkwrite() is called with one.
 */
bool anon_rmap_page_is_in_use(const struct page *page, const struct vm_fault *fault);
bool anon_rmap_page_is_in_use(const struct page *page, const struct vm_fault *fault)
{
	const struct folio *folio = page_folio(page);

	return folio_ref_count(folio) > 1 + folio_mapcount(folio) + (fault->page == page);
}

bool anon_rmap_refcount_inc_not_zero(refcount_t *refs);
bool anon_rmap_refcount_inc_not_zero(refcount_t *refs)
{
	return refcount_inc_not_zero(refs);
}

void anon_rmap_mmap_write_lock(struct mm_struct *mm);
void anon_rmap_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

void anon_rmap_mmap_write_unlock(struct mm_struct *mm);
void anon_rmap_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

void anon_rmap_vma_start_write(struct vm_area_struct *vma);
void anon_rmap_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}

/*
 * Whether @vma is locked for writing. If it is locked at all, in whatever way,
 * by the current task, the answer stays true as long as it is.
 */
bool anon_rmap_vma_is_write_locked(struct vm_area_struct *vma);
bool anon_rmap_vma_is_write_locked(struct vm_area_struct *vma)
{
	return READ_ONCE(vma->vm_lock_seq) ==
	       READ_ONCE(vma->vm_mm->mm_lock_seq.sequence);
}

/* Locks @vma for writing; all of it may have been written, whatever its entries say. The caller holds the mmap lock for writing. */
void anon_rmap_vma_set_soft_dirty(struct vm_area_struct *vma);
void anon_rmap_vma_set_soft_dirty(struct vm_area_struct *vma)
{
	vma_start_write(vma);
#ifdef CONFIG_MEM_SOFT_DIRTY
	vm_flags_set(vma, VM_SOFTDIRTY);
#endif
}

/* The same for a VMA under construction. */
void anon_rmap_new_vma_set_soft_dirty(struct vm_area_struct *vma);
void anon_rmap_new_vma_set_soft_dirty(struct vm_area_struct *vma)
{
#ifdef CONFIG_MEM_SOFT_DIRTY
	__vm_flags_mod(vma, VM_SOFTDIRTY, 0);
#endif
}

/* Whether fork copies the page tables of @vma; for guard pages, among others. */
bool anon_rmap_vma_is_copied_on_fork(struct vm_area_struct *vma);
bool anon_rmap_vma_is_copied_on_fork(struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_COPY_ON_FORK;
}

/*
 * Lets the current task do something that a pending signal would interrupt.
 * Returns what anon_rmap_show_signals() needs to undo that.
 */
bool anon_rmap_hide_signals(void);
bool anon_rmap_hide_signals(void)
{
	clear_thread_flag(TIF_SIGPENDING);
	return test_and_clear_thread_flag(TIF_NOTIFY_SIGNAL);
}

void anon_rmap_show_signals(bool notify);
void anon_rmap_show_signals(bool notify)
{
	spin_lock_irq(&current->sighand->siglock);
	recalc_sigpending();
	spin_unlock_irq(&current->sighand->siglock);
	if (notify)
		set_thread_flag(TIF_NOTIFY_SIGNAL);
}

bool anon_rmap_mmu_notifier_range_blockable(const struct mmu_notifier_range *range);
bool anon_rmap_mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

/*
 * Links the page table that core mm has allocated for a fault, so that
 * inserting a page at the fault's address needs no allocation. False if there
 * still is no page table.
 */
bool anon_rmap_vmf_install_page_table(struct vm_fault *vmf);
bool anon_rmap_vmf_install_page_table(struct vm_fault *vmf)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	spinlock_t *ptl;

	if (vmf->prealloc_pte) {
		ptl = pmd_lock(mm, vmf->pmd);
		if (pmd_none(pmdp_get(vmf->pmd))) {
			mm_inc_nr_ptes(mm);
			/* The table's zeroes must be seen before the table is. */
			smp_wmb();
			pmd_populate(mm, vmf->pmd, vmf->prealloc_pte);
			vmf->prealloc_pte = NULL;
		}
		spin_unlock(ptl);
	}
	return !pmd_none(pmdp_get_lockless(vmf->pmd));
}

/*
 * Locks the entry at the fault's address; NULL if there is no page table. To
 * be unlocked by anon_rmap_vmf_unlock_entry().
 */
static pte_t *anon_rmap_vmf_lock_entry(const struct vm_fault *vmf, spinlock_t **ptl)
{
	pmd_t pmd;

	/* Page tables are freed after a grace period. */
	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (pmd_present(pmd) && !pmd_leaf(pmd)) {
		*ptl = pte_lockptr(vmf->vma->vm_mm, &pmd);
		spin_lock(*ptl);
		if (pmd_same(pmd, pmdp_get_lockless(vmf->pmd)))
			return pte_offset_kernel(&pmd, vmf->address);
		spin_unlock(*ptl);
	}
	rcu_read_unlock();
	return NULL;
}

static void anon_rmap_vmf_unlock_entry(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/* The entry at the fault's address as it is now; an empty one if there is no page table. */
static pte_t anon_rmap_vmf_entry(const struct vm_fault *vmf)
{
	pte_t *pte, entry = __pte(0);
	spinlock_t *ptl;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (pte) {
		entry = ptep_get(pte);
		anon_rmap_vmf_unlock_entry(ptl);
	}
	return entry;
}

/* Whether the entry at the fault's address says that the page was written since the last clear_refs. */
bool anon_rmap_vmf_is_soft_dirty(const struct vm_fault *vmf);
bool anon_rmap_vmf_is_soft_dirty(const struct vm_fault *vmf)
{
	pte_t entry = anon_rmap_vmf_entry(vmf);

	return pte_present(entry) && pte_soft_dirty(entry);
}

/*
 * Takes a marker of userfaultfd's write-protection out of the entry at the
 * fault's address, for a page to take its place; false if there was none.
 */
static bool anon_rmap_vmf_take_uffd_wp(const struct vm_fault *vmf)
{
	bool taken = false;
	spinlock_t *ptl;
	pte_t *pte;

	if (!userfaultfd_wp(vmf->vma))
		return false;
	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return false;
	taken = pte_is_uffd_wp_marker(ptep_get(pte));
	if (taken)
		pte_clear(vmf->vma->vm_mm, vmf->address, pte);
	anon_rmap_vmf_unlock_entry(ptl);
	return taken;
}

/* An entry that was written through; for maybe_mkwrite(), which knows of shadow stacks, too, but is not exported. */
static pte_t anon_rmap_pte_mkwrite(pte_t pte, const struct vm_area_struct *vma)
{
	pte = pte_mkyoung(pte);
	if (vma->vm_flags & VM_WRITE)
		pte = pte_clear_saveddirty(pte_mkwrite_novma(pte));
	return pte_mkdirty(pte);
}

/*
 * Maps @page at the fault's address, writable and dirty if @write, and marked as
 * written (soft-dirty) if that or @soft_dirty. The caller sees to it that
 * nothing else is mapped there.
 *
 * Core mm puts markers into empty entries at any time. One of a guard page
 * stays: the access is made again, and core mm ends it. One of userfaultfd's
 * write-protection goes on as a bit of the entry, as in finish_fault(); then the
 * entry stays read-only, and core mm resolves the write when it is made again.
 */
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write, bool soft_dirty);
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write, bool soft_dirty)
{
	struct vm_area_struct *vma = vmf->vma;
	bool uffd_wp = anon_rmap_vmf_take_uffd_wp(vmf);
	vm_fault_t result = vmf_insert_page_mkwrite(vmf, page, false);
	pte_t *pte, entry;
	spinlock_t *ptl;

	if (result != VM_FAULT_NOPAGE || !(uffd_wp || write || soft_dirty))
		return result;
	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return result;
	entry = ptep_get(pte);
	if (pte_present(entry)) {
		if (soft_dirty)
			entry = pte_mksoft_dirty(entry);
		if (uffd_wp)
			entry = pte_mkuffd(pte_wrprotect(entry));
		else if (write && !(pte_uffd(entry) && userfaultfd_wp(vma)))
			entry = anon_rmap_pte_mkwrite(pte_clear_uffd(entry), vma);
		if (WARN_ON_ONCE(pte_pfn(entry) != page_to_pfn(page)))
			result = VM_FAULT_SIGBUS;
		else
			/* Other processors may have the old entry: they fault, and find this one. */
			set_pte_at(vma->vm_mm, vmf->address, pte, entry);
	}
	anon_rmap_vmf_unlock_entry(ptl);
	return result;
}

/*
 * Whether the page of zeroes that all share may stand for the memory at the
 * fault's address, which nobody has written. Not for who wants to have memory
 * from then on: populate_vma_page_range() (MAP_POPULATE, mlock) comes without
 * all of these flags.
 */
bool anon_rmap_vmf_may_map_zeroes(const struct vm_fault *vmf);
bool anon_rmap_vmf_may_map_zeroes(const struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	return (vmf->flags & (FAULT_FLAG_USER | FAULT_FLAG_REMOTE | FAULT_FLAG_INTERRUPTIBLE)) &&
	       !(vma->vm_flags & VM_LOCKED) && !userfaultfd_wp(vma) && !mm_forbids_zeropage(vma->vm_mm);
}

/*
 * Maps the page of zeroes at the fault's address, if nothing is there, as
 * do_anonymous_page() does: to core mm it is no page of the VMA, so it counts
 * for nobody, and a write comes to pfn_mkwrite().
 */
void anon_rmap_vmf_map_zeroes(const struct vm_fault *vmf);
void anon_rmap_vmf_map_zeroes(const struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	spinlock_t *ptl;
	pte_t *pte;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return;
	if (pte_none(ptep_get(pte)))
		set_pte_at(vma->vm_mm, vmf->address, pte,
			   pte_mkspecial(pfn_pte(zero_pfn(vmf->address), vma->vm_page_prot)));
	anon_rmap_vmf_unlock_entry(ptl);
}

/* Whether the page of zeroes is mapped at the fault's address. */
bool anon_rmap_vmf_maps_zeroes(const struct vm_fault *vmf);
bool anon_rmap_vmf_maps_zeroes(const struct vm_fault *vmf)
{
	pte_t entry = anon_rmap_vmf_entry(vmf);

	return pte_present(entry) && is_zero_pfn(pte_pfn(entry));
}

/* What faults wait for ends with a change of the counter of its bucket. */
#define ANON_RMAP_BUCKETS 64
static struct anon_rmap_bucket {
	wait_queue_head_t queue;
	atomic_long_t ends;
} anon_rmap_buckets[ANON_RMAP_BUCKETS];

static struct anon_rmap_bucket *anon_rmap_bucket(const void *cause)
{
	return &anon_rmap_buckets[hash_ptr(cause, ilog2(ANON_RMAP_BUCKETS))];
}

void anon_rmap_wait_init(void);
void anon_rmap_wait_init(void)
{
	for (int i = 0; i < ANON_RMAP_BUCKETS; i++)
		init_waitqueue_head(&anon_rmap_buckets[i].queue);
}

/* What anon_rmap_vmf_wait() takes; to be asked under the lock that guards @cause. */
long anon_rmap_wait_ticket(const void *cause);
long anon_rmap_wait_ticket(const void *cause)
{
	return atomic_long_read(&anon_rmap_bucket(cause)->ends);
}

/* Wakes who waits for @cause, which has ended. */
void anon_rmap_wake(const void *cause);
void anon_rmap_wake(const void *cause)
{
	struct anon_rmap_bucket *bucket = anon_rmap_bucket(cause);

	atomic_long_inc(&bucket->ends);
	if (wq_has_sleeper(&bucket->queue))
		wake_up_all(&bucket->queue);
}

/*
 * Waits until something has ended since @ticket was drawn, and returns what
 * makes core mm try the fault again. The lock that the fault came with is given
 * up, as in handle_userfault(), so nothing of the VMA may be used afterwards.
 */
vm_fault_t anon_rmap_vmf_wait(struct vm_fault *vmf, const void *cause, long ticket);
vm_fault_t anon_rmap_vmf_wait(struct vm_fault *vmf, const void *cause, long ticket)
{
	struct anon_rmap_bucket *bucket = anon_rmap_bucket(cause);

	if (vmf->flags & FAULT_FLAG_ALLOW_RETRY) {
		if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
			return VM_FAULT_RETRY;
		release_fault_lock(vmf);
		wait_event_killable(bucket->queue, atomic_long_read(&bucket->ends) != ticket);
		return VM_FAULT_RETRY;
	}
	/*
	 * Whoever is waited for gets on without the lock that is held here. In
	 * page_mkwrite(), where core mm has a reference to the page besides, it may
	 * need that one: not for long, then.
	 */
	wait_event_killable_timeout(bucket->queue, atomic_long_read(&bucket->ends) != ticket,
				    vmf->flags & FAULT_FLAG_MKWRITE ? 1 : HZ / 10);
	return VM_FAULT_NOPAGE;
}

/* Whether mseal() has sealed @vma and its content may not be discarded, see can_madv_modify(). */
bool anon_rmap_vma_is_sealed(const struct vm_area_struct *vma);
bool anon_rmap_vma_is_sealed(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_SEALED) && !(vma->vm_flags & VM_WRITE);
}

/*
 * A new file, with an inode of its own, that stands behind one mapping. That of
 * a @shared one has no name in any file system: by that core dumps know shared
 * memory that is anonymous, see vma_dump_size().
 */
struct file *anon_rmap_new_file(const char *name, const struct file_operations *operations, bool shared);
struct file *anon_rmap_new_file(const char *name, const struct file_operations *operations, bool shared)
{
	struct file *file = anon_inode_create_getfile(name, operations, NULL, O_RDWR | O_CLOEXEC, NULL);

	if (!IS_ERR(file) && shared)
		clear_nlink(file_inode(file));
	return file;
}

/* Whether core dumps are to have the private anonymous memory of @vma's process, and this VMA of it. */
bool anon_rmap_vma_is_dumped_if_private(const struct vm_area_struct *vma);
bool anon_rmap_vma_is_dumped_if_private(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_DONTDUMP | VM_MAYSHARE)) && mm_flags_test(MMF_DUMP_ANON_PRIVATE, vma->vm_mm);
}

/* Whether the current task writes a core dump. */
bool anon_rmap_is_dumping_core(void);
bool anon_rmap_is_dumping_core(void)
{
	return current->flags & PF_DUMPCORE;
}

/* A file of shmem that is empty but for its size, which is charged; or an error pointer. */
struct file *anon_rmap_charge_file(unsigned long pages);
struct file *anon_rmap_charge_file(unsigned long pages)
{
	return shmem_kernel_file_setup("anon_rmap", (loff_t)pages << PAGE_SHIFT, EMPTY_VMA_FLAGS);
}

/* Changes what is given back when @file goes. Nobody else has it. */
void anon_rmap_charge_resize(struct file *file, unsigned long pages);
void anon_rmap_charge_resize(struct file *file, unsigned long pages)
{
	i_size_write(file_inode(file), (loff_t)pages << PAGE_SHIFT);
}

void anon_rmap_i_mmap_lock_read(struct file *file);
void anon_rmap_i_mmap_lock_read(struct file *file)
{
	i_mmap_lock_read(file->f_mapping);
}

void anon_rmap_i_mmap_unlock_read(struct file *file);
void anon_rmap_i_mmap_unlock_read(struct file *file)
{
	i_mmap_unlock_read(file->f_mapping);
}

/* That of mm/interval_tree.c is not exported. */
INTERVAL_TREE_DEFINE(struct vm_area_struct, shared.rb, pgoff_t, shared.rb_subtree_last, vma_start_pgoff,
		     vma_last_pgoff, static __maybe_unused, anon_rmap_i_mmap)

/*
 * The VMA of @mm that is linked as a mapping of @file and has @pgoff at
 * @address; NULL if there is none. The caller holds i_mmap_lock_read().
 */
struct vm_area_struct *anon_rmap_i_mmap_find(struct file *file, unsigned long pgoff, const struct mm_struct *mm,
					     unsigned long address);
struct vm_area_struct *anon_rmap_i_mmap_find(struct file *file, unsigned long pgoff, const struct mm_struct *mm,
					     unsigned long address)
{
	struct vm_area_struct *vma;

	for (vma = anon_rmap_i_mmap_iter_first(&file->f_mapping->i_mmap, pgoff, pgoff); vma;
	     vma = anon_rmap_i_mmap_iter_next(vma, pgoff, pgoff))
		if (vma->vm_mm == mm && vma->vm_start + ((pgoff - vma->vm_pgoff) << PAGE_SHIFT) == address)
			return vma;
	return NULL;
}

/*
 * Whether at most @most VMAs are linked that have an offset from @first to
 * @last, and all can be write-protected: walk_page_mapping() stops at the first
 * one of other flags, and clean_record_pte() takes some markers for dirty
 * entries, which are there only if fork copies page tables. The caller holds
 * i_mmap_lock_read().
 */
bool anon_rmap_i_mmap_may_write_protect(struct file *file, unsigned long first, unsigned long last, unsigned long most);
bool anon_rmap_i_mmap_may_write_protect(struct file *file, unsigned long first, unsigned long last, unsigned long most)
{
	struct vm_area_struct *vma;
	unsigned long count = 0;

	for (vma = anon_rmap_i_mmap_iter_first(&file->f_mapping->i_mmap, first, last); vma;
	     vma = anon_rmap_i_mmap_iter_next(vma, first, last)) {
		vm_flags_t flags = READ_ONCE(vma->vm_flags);

		if (++count > most || (flags & VM_COPY_ON_FORK) ||
		    (flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE))
			return false;
	}
	return true;
}

/*
 * Makes the page table entries at the @nr offsets from @first read-only and
 * clean, in all VMAs, and flushes TLBs: what is dirty mprotect() makes writable
 * without a fault, see can_change_pte_writable(). Soft-dirty and accessed stay.
 * @bitmap has @nr bits. False if this kernel has nothing for that.
 */
bool anon_rmap_write_protect(struct file *file, unsigned long first, unsigned long nr, unsigned long *bitmap);
bool anon_rmap_write_protect(struct file *file, unsigned long first, unsigned long nr, unsigned long *bitmap)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	pgoff_t start = 0, end = 0;

	wp_shared_mapping_range(file->f_mapping, first, nr);
	clean_record_shared_mapping_range(file->f_mapping, first, nr, first, bitmap, &start, &end);
	return true;
#else
	return false;
#endif
}

/* Whether a VMA is linked that has an offset from @first to @last. The caller holds i_mmap_lock_read(). */
bool anon_rmap_i_mmap_has(struct file *file, unsigned long first, unsigned long last);
bool anon_rmap_i_mmap_has(struct file *file, unsigned long first, unsigned long last)
{
	return anon_rmap_i_mmap_iter_first(&file->f_mapping->i_mmap, first, last);
}
