// SPDX-License-Identifier: GPL-2.0
/*
 * Static inlines and macros of the kernel that Rust cannot reach and that the
 * kernel's own rust/helpers does not wrap. See helpers.rs for the Rust side.
 */

#include <asm/syscall.h>
#include <linux/compat.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/pgalloc.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/syscalls.h>

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

/* The task that owns @mm, with a reference; NULL if there is none (any more). */
struct task_struct *anon_rmap_mm_owner_get(struct mm_struct *mm);
struct task_struct *anon_rmap_mm_owner_get(struct mm_struct *mm)
{
	struct task_struct *task = NULL;

#ifdef CONFIG_MEMCG
	rcu_read_lock();
	task = rcu_dereference(mm->owner);
	if (task)
		task = tryget_task_struct(task);
	rcu_read_unlock();
#endif
	return task;
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

/* Whether @page is mapped at the fault's address. */
static bool anon_rmap_vmf_maps(const struct vm_fault *vmf, struct page *page)
{
	bool maps = false;
	pmd_t pmd;
	pte_t pte;

	/* Page tables are freed after a grace period. */
	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (pmd_present(pmd) && !pmd_leaf(pmd)) {
		pte = ptep_get_lockless(pte_offset_kernel(&pmd, vmf->address));
		maps = pte_present(pte) && pte_pfn(pte) == page_to_pfn(page);
		WARN_ON_ONCE(pte_present(pte) && !maps);
	}
	rcu_read_unlock();
	return maps;
}

/*
 * Maps @page at the fault's address, writable if @write. The caller sees to it
 * that nothing else is mapped there, and that it stays mapped during the call.
 *
 * But core mm puts guard markers (MADV_GUARD_INSTALL) into empty entries at any
 * time, which vmf_insert_page_mkwrite() takes for another page and warns of if
 * it is to map for writing. What is mapped already is safe from them.
 */
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write);
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write)
{
	vm_fault_t result = vmf_insert_page_mkwrite(vmf, page, false);

	if (!write || result != VM_FAULT_NOPAGE || !anon_rmap_vmf_maps(vmf, page))
		return result;
	return vmf_insert_page_mkwrite(vmf, page, true);
}

/*
 * The old range that the mremap() call of the current task names; false if the
 * current task is in no mremap() call. vm_operations_struct.mremap does not
 * say which part of the source has moved.
 */
bool anon_rmap_current_mremap(unsigned long *start, unsigned long *len);
bool anon_rmap_current_mremap(unsigned long *start, unsigned long *len)
{
	struct pt_regs *regs = task_pt_regs(current);
	unsigned long args[6];
	int nr = syscall_get_nr(current, regs);

	if (in_compat_syscall() ? nr != 163 : nr != __NR_mremap)
		return false;
	syscall_get_arguments(current, regs, args);
	*start = args[0];
	*len = PAGE_ALIGN(args[1]);
	return true;
}
