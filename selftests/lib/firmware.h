/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What firmware reports of memory that has failed, by ACPI's generic hardware error source (GHES), into which it is written here as firmware
 * would. The kernel looks there ten times a second. See qemu/run --ghes.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stdbool.h>
#include <stdint.h>

/* As in the UEFI specification, appendix N. */
#define RECOVERABLE 0
#define CORRECTED 2

/* Who says that it has failed: the memory, or a processor of its cache. */
enum part { MEMORY, CACHE };

/* Why firmware can report nothing here; NULL if it can. To be asked before anything is reported. */
const char *no_firmware_reports(void);

/* Reports an error in frame @pfn, in a block of that severity; whether the kernel has read it. */
bool report_in_block(enum part part, uint64_t pfn, uint32_t severity, uint32_t block_severity);

/* The same, where the block has that one only. */
bool report(enum part part, uint64_t pfn, uint32_t severity);

#endif
