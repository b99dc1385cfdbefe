/* SPDX-License-Identifier: GPL-2.0-only */
/* Machine checks, as the processor reports them: QEMU's monitor injects them into a CPU. */
#ifndef MACHINE_CHECK_H
#define MACHINE_CHECK_H

#include <stdint.h>

#define MCE_CPU 1

/* An uncorrected error in the memory at physical address @pfn << PAGE_SHIFT. */
enum error {
	/* Found by the scrubber: nobody has used the data. */
	ACTION_OPTIONAL,
	/* Loaded by what runs in user mode on the CPU. */
	ACTION_REQUIRED,
};

/* Why there can be no machine checks here; NULL if there can. */
const char *no_machine_checks(void);

/* Begins one, and does not wait for what is done about it. */
void machine_check(enum error error, uint64_t pfn);

#endif
