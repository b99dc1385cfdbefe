// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "device.h"
#include "machine_check.h"

const char *no_machine_checks(void)
{
#ifdef __x86_64__
	if (!getenv("MONITOR"))
		return "needs QEMU's monitor";
	return get_nprocs() > MCE_CPU ? NULL : "needs a second CPU";
#else
	return "machine checks are those of x86";
#endif
}

void machine_check(enum error error, uint64_t pfn)
{
	const uint64_t status = error == ACTION_OPTIONAL ? 0xbd000000000000c0 : 0xbd80000000000134;

	/* CPU, bank, IA32_MC1_STATUS, IA32_MCG_STATUS, IA32_MC1_ADDR, IA32_MC1_MISC. */
	dprintf(STDOUT_FILENO, "monitor: mce %d 1 %#lx 0xf %#lx 0x8c\n", MCE_CPU, status, pfn << PAGE_SHIFT);
}
