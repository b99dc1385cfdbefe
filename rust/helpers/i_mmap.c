// SPDX-License-Identifier: GPL-2.0-only
/* The file behind a mapping, and the VMAs that are linked there. */

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/interval_tree_generic.h>
#include <linux/mm.h>

#include "helpers.h"

/*
 * A new file, with an inode of its own, that stands behind one mapping. That of
 * a @shared one has no name in any file system: by that core dumps know shared
 * memory that is anonymous, see vma_dump_size().
 */
struct file *anon_rmap_new_file(const char *name, const struct file_operations *operations, bool shared)
{
	struct file *file = anon_inode_create_getfile(name, operations, NULL, O_RDWR | O_CLOEXEC, NULL);

	if (IS_ERR(file))
		return file;
	/* Nobody can open it. What is in memory mincore() tells those who might write to the file, see can_do_mincore(). */
	file_inode(file)->i_mode |= 0666;
	if (shared)
		clear_nlink(file_inode(file));
	return file;
}

void anon_rmap_i_mmap_lock_read(struct file *file)
{
	i_mmap_lock_read(file->f_mapping);
}

void anon_rmap_i_mmap_unlock_read(struct file *file)
{
	i_mmap_unlock_read(file->f_mapping);
}

/* vma_start_pgoff() is not in the headers of Linux 7.2. */
static pgoff_t first_pgoff(const struct vm_area_struct *vma)
{
	return vma->vm_pgoff;
}

/* That of mm/interval_tree.c is not exported. */
INTERVAL_TREE_DEFINE(struct vm_area_struct, shared.rb, pgoff_t, shared.rb_subtree_last, first_pgoff, vma_last_pgoff,
		     static __maybe_unused, anon_rmap_i_mmap)

/*
 * The VMA of @mm that is linked as a mapping of @file and has @pgoff at
 * @address; NULL if there is none. The caller holds i_mmap_lock_read().
 */
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
bool anon_rmap_i_mmap_has(struct file *file, unsigned long first, unsigned long last)
{
	return anon_rmap_i_mmap_iter_first(&file->f_mapping->i_mmap, first, last);
}
