// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the administrator has told the kernel to do about memory failures:
 * settings that are not exported to modules.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/path.h>
#include <linux/pid_namespace.h>
#include <linux/sched/task.h>

#include "helpers.h"

/* Whether the setting vm.@name is not 0; @otherwise if it can't be read. */
static bool anon_rmap_sysctl(const char *name, bool otherwise)
{
	struct task_struct *init = init_pid_ns.child_reaper;
	char path[64], value = otherwise ? '1' : '0';
	struct file *file;
	struct path root;
	loff_t pos = 0;

	/* In the file system of the system's first process, whoever happens to run. */
	task_lock(init);
	get_fs_root(init->fs, &root);
	task_unlock(init);
	snprintf(path, sizeof(path), "proc/sys/vm/%s", name);
	file = file_open_root(&root, path, O_RDONLY, 0);
	path_put(&root);
	if (IS_ERR(file))
		return otherwise;
	kernel_read(file, &value, 1, &pos);
	fput(file);
	return value != '0';
}

/*
 * Whether the administrator allows frames to be taken offline; not if a failure
 * is to panic, which that is to memory_failure().
 */
bool anon_rmap_may_take_offline(void)
{
	return anon_rmap_sysctl("enable_soft_offline", true) && anon_rmap_sysctl("memory_failure_recovery", true);
}

/* Whether processes that have not asked for anything are told of a failure at once. */
bool anon_rmap_early_kill(void)
{
	return anon_rmap_sysctl("memory_failure_early_kill", false);
}
