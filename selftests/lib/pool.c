// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"
#include "file.h"
#include "pool.h"

uint64_t pool(uint64_t *first_pfn)
{
	char *resources = read_file("/proc/iomem"), *rest = resources, *line;
	uint64_t start, end, pages = 0;
	int name;

	while (!pages && (line = strsep(&rest, "\n"))) {
		if (sscanf(line, " %lx-%lx : %n", &start, &end, &name) == 2 && !strcmp(line + name, "anon_rmap")) {
			*first_pfn = start >> PAGE_SHIFT;
			pages = (end - start + 1) >> PAGE_SHIFT;
		}
	}
	free(resources);
	return pages;
}

bool has_pool(void)
{
	uint64_t first_pfn;

	return pool(&first_pfn);
}

int load_pool(uint64_t first_pfn, uint64_t pages)
{
	int fd = open("/usr/libexec/anon_rmap/anon_rmap.ko", O_RDONLY | O_CLOEXEC), error;
	char parameters[96];

	snprintf(parameters, sizeof(parameters), "pool_start=%#lx pool_size=%#lx", first_pfn << PAGE_SHIFT,
		 pages << PAGE_SHIFT);
	error = fd < 0 || syscall(SYS_finit_module, fd, parameters, 0) ? errno : 0;
	close(fd);
	return error;
}
