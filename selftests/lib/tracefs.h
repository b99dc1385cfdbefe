/* SPDX-License-Identifier: GPL-2.0-only */
/* The files of tracefs. */
#ifndef TRACEFS_H
#define TRACEFS_H

#include <stdbool.h>

#define TRACEFS "/sys/kernel/tracing/"

/* Whether they are there; mounts tracefs, if need be. */
bool has_tracefs(void);

#endif
