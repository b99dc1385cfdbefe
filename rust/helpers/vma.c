// SPDX-License-Identifier: GPL-2.0-only
/* VMAs, and the locks under which they are looked at and changed. */

#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>

#include "helpers.h"

#ifndef CONFIG_PER_VMA_LOCK
#error "anon_rmap needs CONFIG_PER_VMA_LOCK, which 64-bit x86 has with CONFIG_SMP"
#endif

void anon_rmap_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

void anon_rmap_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

void anon_rmap_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}

/*
 * Whether @vma is locked for writing. If it is locked at all, in whatever way,
 * by the current task, the answer stays true as long as it is.
 */
bool anon_rmap_vma_is_write_locked(struct vm_area_struct *vma)
{
	return READ_ONCE(vma->vm_lock_seq) ==
	       READ_ONCE(vma->vm_mm->mm_lock_seq.sequence);
}

/* Locks @vma for writing; all of it may have been written, whatever its entries say. The caller holds the mmap lock for writing. */
void anon_rmap_vma_set_soft_dirty(struct vm_area_struct *vma)
{
	vma_start_write(vma);
#ifdef CONFIG_MEM_SOFT_DIRTY
	vm_flags_set(vma, VM_SOFTDIRTY);
#endif
}

/* Makes a VMA under construction soft-dirty. */
void anon_rmap_new_vma_set_soft_dirty(struct vm_area_struct *vma)
{
#ifdef CONFIG_MEM_SOFT_DIRTY
	__vm_flags_mod(vma, VM_SOFTDIRTY, 0);
#endif
}

/* Whether fork copies the page tables of @vma; for guard pages, among others. */
bool anon_rmap_vma_is_copied_on_fork(struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_COPY_ON_FORK;
}

/* Whether mseal() has sealed @vma and its content may not be discarded, see can_madv_modify(). */
bool anon_rmap_vma_is_sealed(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_SEALED) && !(vma->vm_flags & VM_WRITE);
}

/* Whether core dumps are to have the private anonymous memory of @vma's process, and this VMA of it. */
bool anon_rmap_vma_is_dumped_if_private(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_DONTDUMP | VM_MAYSHARE)) && mm_flags_test(MMF_DUMP_ANON_PRIVATE, vma->vm_mm);
}

bool anon_rmap_mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

bool anon_rmap_vma_is_soft_dirty(const struct vm_area_struct *vma)
{
	return !VM_SOFTDIRTY || READ_ONCE(vma->vm_flags) & VM_SOFTDIRTY;
}

bool anon_rmap_vma_is_locked(const struct vm_area_struct *vma)
{
	return READ_ONCE(vma->vm_flags) & VM_LOCKED;
}

/* Whether the process has said so of all its memory, by prctl(PR_SET_MEMORY_MERGE). */
bool anon_rmap_mm_merges_any(const struct mm_struct *mm)
{
	return mm_flags_test(MMF_VM_MERGE_ANY, mm);
}
