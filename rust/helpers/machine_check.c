// SPDX-License-Identifier: GPL-2.0-only
/*
 * The x86 machine checks, for memory_failure/machine_check.rs.
 */

#include <linux/mm.h>
#include <linux/set_memory.h>
#include <asm/mce.h>
#include <asm/processor.h>

#include "helpers.h"

/* Whether @data of the decode chain says that memory has failed, and in which frame. */
bool anon_rmap_mce_pfn(void *data, unsigned long *pfn)
{
	struct mce *m = data;
	bool amd;

	/* The kernel makes one of all that firmware reports, see ghes.c, and gives it no bank. */
	if (!m || m->bank == (u8)-1 || !mce_usable_address(m))
		return false;
	/* A corrected error has lost nothing. */
	amd = m->cpuvendor == X86_VENDOR_AMD || m->cpuvendor == X86_VENDOR_HYGON;
	if (!(m->status & MCI_STATUS_UC) && !(amd && (m->status & MCI_STATUS_DEFERRED)))
		return false;
	*pfn = (m->addr & MCI_ADDR_PHYSADDR) >> PAGE_SHIFT;
	return true;
}

/* The machine check that is kept from the kernel's handler, and what it was. The chain is called by one worker. */
static struct mce *anon_rmap_mce_taken;
static u8 anon_rmap_mce_severity;

/* Keeps a machine check from uc_decode_notifier(), which handles some severities only, and says that it is handled. */
void anon_rmap_mce_take(void *data)
{
	struct mce *m = data;

	m->kflags |= MCE_HANDLED_UC;
	anon_rmap_mce_taken = m;
	anon_rmap_mce_severity = m->severity;
	m->severity = 0;
}

void anon_rmap_mce_restore(void *data)
{
	struct mce *m = data;

	if (m && m == anon_rmap_mce_taken)
		m->severity = anon_rmap_mce_severity;
	anon_rmap_mce_taken = NULL;
}

void anon_rmap_mce_register(struct notifier_block *nb, bool before)
{
	/* Around the kernel's own handler: of the same priority, who is registered later comes later. */
	nb->priority = before ? MCE_PRIO_EARLY : MCE_PRIO_UC;
	mce_register_decode_chain(nb);
}

void anon_rmap_mce_unregister(struct notifier_block *nb)
{
	mce_unregister_decode_chain(nb);
}

/* Takes a frame out of the kernel's direct map, so that nothing reads it by speculation. */
void anon_rmap_set_mce_nospec(unsigned long pfn)
{
	set_mce_nospec(pfn);
}
