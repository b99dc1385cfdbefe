// SPDX-License-Identifier: GPL-2.0-only
/*
 * What firmware reports of memory that has failed, for memory_failure/ghes.rs.
 */

#include <acpi/ghes.h>
#include <linux/cper.h>
#include <linux/pfn.h>

#include "helpers.h"

/* Whether @data of the chain, of that severity, says that memory has failed, and in which frame. */
bool anon_rmap_ghes_pfn(unsigned long severity, const void *data, unsigned long *pfn)
{
	const struct cper_sec_mem_err *error = data;

	/* What was corrected has lost nothing. */
	if (severity < GHES_SEV_RECOVERABLE || !(error->validation_bits & CPER_MEM_VALID_PA))
		return false;
	*pfn = PHYS_PFN(error->physical_addr);
	return true;
}

void anon_rmap_ghes_register(struct notifier_block *nb)
{
	ghes_register_report_chain(nb);
}

void anon_rmap_ghes_unregister(struct notifier_block *nb)
{
	ghes_unregister_report_chain(nb);
}
