// SPDX-License-Identifier: GPL-2.0-only
/* What the system promises, and what memory cgroups are charged for. */

#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>

#include "helpers.h"

/* A file of shmem that is empty but for its size, which is charged; or an error pointer. */
struct file *anon_rmap_charge_file(unsigned long pages)
{
	return shmem_kernel_file_setup("anon_rmap", (loff_t)pages << PAGE_SHIFT, EMPTY_VMA_FLAGS);
}

/* Changes what is given back when @file goes. Nobody else has it. */
void anon_rmap_charge_resize(struct file *file, unsigned long pages)
{
	i_size_write(file_inode(file), (loff_t)pages << PAGE_SHIFT);
}

/*
 * Lets what the current task allocates be charged to the memory cgroup of @mm,
 * until anon_rmap_end_charge_to(). That is told what is returned, and *@before.
 */
struct mem_cgroup *anon_rmap_charge_to(struct mm_struct *mm, struct mem_cgroup **before)
{
	struct mem_cgroup *group = get_mem_cgroup_from_mm(mm);

	*before = set_active_memcg(group);
	return group;
}

void anon_rmap_end_charge_to(struct mem_cgroup *group, struct mem_cgroup *before)
{
	set_active_memcg(before);
	mem_cgroup_put(group);
}
