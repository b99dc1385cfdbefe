// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "memcg.h"
#include "patience.h"

bool make_memcg(void)
{
	mkdir(MEMCG_MOUNT, 0700);
	if (mount("none", MEMCG_MOUNT, "cgroup2", 0, NULL)) {
		rmdir(MEMCG_MOUNT);
		return false;
	}
	if (!write_text(MEMCG_MOUNT "/cgroup.subtree_control", "+memory") && (!mkdir(MEMCG, 0700) || errno == EEXIST))
		return true;
	remove_memcg();
	return false;
}

void remove_memcg(void)
{
	struct patience patience = patience_for(10);

	while (rmdir(MEMCG) && errno == EBUSY && !ran_out(&patience))
		usleep(10000);
	umount2(MEMCG_MOUNT, MNT_DETACH);
	rmdir(MEMCG_MOUNT);
}

long join_memcg(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	return print_to_file(MEMCG "/cgroup.procs", "%d", getpid());
}

long memcg_charged(void)
{
	return number_in(MEMCG "/memory.current", "");
}

long memcg_killed(void)
{
	return number_in(MEMCG "/memory.events", "oom_kill ");
}
