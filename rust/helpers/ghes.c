// SPDX-License-Identifier: GPL-2.0-only
/*
 * What firmware reports of memory that has failed, for memory_failure/ghes.rs.
 */

#include <acpi/ghes.h>
#include <linux/cper.h>
#include <linux/pfn.h>

#include "helpers.h"

/* What the block says of the section that @payload is of, right before it: in one of two formats. */
static const struct acpi_hest_generic_data *anon_rmap_ghes_section(const void *payload)
{
	const struct acpi_hest_generic_data_v300 *section = payload;
	const struct acpi_hest_generic_data *older = payload;

	section--;
	if (guid_equal((const guid_t *)section->section_type, &CPER_SEC_PLATFORM_MEM) && section->revision >> 8 >= 3)
		return (const struct acpi_hest_generic_data *)section;
	return older - 1;
}

/*
 * Whether @data of the chain, a section of a block of that severity, says that memory has failed, so that the kernel calls memory_failure()
 * for it, and in which frame.
 */
bool anon_rmap_ghes_pfn(unsigned long severity, const void *data, unsigned long *pfn)
{
	const struct cper_sec_mem_err *error = data;

	/* What was corrected has lost nothing. */
	if (severity != GHES_SEV_RECOVERABLE || anon_rmap_ghes_section(data)->error_severity != CPER_SEV_RECOVERABLE)
		return false;
	if (!(error->validation_bits & CPER_MEM_VALID_PA))
		return false;
	*pfn = PHYS_PFN(error->physical_addr);
	return true;
}

/* Else the kernel does nothing about what firmware reports. */
void anon_rmap_ghes_register(struct notifier_block *nb)
{
#ifdef CONFIG_ACPI_APEI_MEMORY_FAILURE
	ghes_register_report_chain(nb);
#endif
}

void anon_rmap_ghes_unregister(struct notifier_block *nb)
{
#ifdef CONFIG_ACPI_APEI_MEMORY_FAILURE
	ghes_unregister_report_chain(nb);
#endif
}
