// SPDX-License-Identifier: GPL-2.0
/*
 * The x86 machine checks, for memory_failure/machine_check.rs.
 */

#include <linux/mm.h>
#include <linux/set_memory.h>
#include <asm/mce.h>
#include <asm/processor.h>

/* Whether @data of the decode chain says that memory has failed, and in which frame. */
bool anon_rmap_mce_pfn(void *data, unsigned long *pfn);
bool anon_rmap_mce_pfn(void *data, unsigned long *pfn)
{
	struct mce *m = data;
	bool amd;

	if (!m || !mce_usable_address(m))
		return false;
	/* A corrected error has lost nothing. */
	amd = m->cpuvendor == X86_VENDOR_AMD || m->cpuvendor == X86_VENDOR_HYGON;
	if (!(m->status & MCI_STATUS_UC) && !(amd && (m->status & MCI_STATUS_DEFERRED)))
		return false;
	*pfn = (m->addr & MCI_ADDR_PHYSADDR) >> PAGE_SHIFT;
	return true;
}

/* Tells the rest of the chain that the memory error is handled. */
void anon_rmap_mce_handled(void *data);
void anon_rmap_mce_handled(void *data)
{
	struct mce *m = data;

	m->kflags |= MCE_HANDLED_UC;
}

void anon_rmap_mce_register(struct notifier_block *nb);
void anon_rmap_mce_register(struct notifier_block *nb)
{
	/* Before the kernel's own handler, MCE_PRIO_UC. */
	nb->priority = MCE_PRIO_EARLY;
	mce_register_decode_chain(nb);
}

void anon_rmap_mce_unregister(struct notifier_block *nb);
void anon_rmap_mce_unregister(struct notifier_block *nb)
{
	mce_unregister_decode_chain(nb);
}

/* Takes a frame out of the kernel's direct map, so that nothing reads it by speculation. */
void anon_rmap_set_mce_nospec(unsigned long pfn);
void anon_rmap_set_mce_nospec(unsigned long pfn)
{
	set_mce_nospec(pfn);
}
