// SPDX-License-Identifier: GPL-2.0-only
#include <sys/mount.h>
#include <unistd.h>

#include "tracefs.h"

bool has_tracefs(void)
{
	return !access(TRACEFS "trace", R_OK) || !mount("tracefs", TRACEFS, "tracefs", 0, NULL);
}
