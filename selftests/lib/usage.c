// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usage.h"

void no_options(int argc, char **argv, const char *arguments)
{
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0];

	if (argc < 2 || *argv[1] != '-')
		return;
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		printf("usage: %s%s\n", name, arguments);
		exit(EXIT_SUCCESS);
	}
	fprintf(stderr, "%s: unknown option %s; --help says how it is used\n", name, argv[1]);
	exit(2);
}
