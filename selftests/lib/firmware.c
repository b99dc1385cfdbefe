// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"
#include "firmware.h"
#include "patience.h"

#define TABLE "/sys/firmware/acpi/tables/HEST"
/* The first source behind the header of the table, its type, and where it has the address of its errors. */
#define SOURCE 40
#define GENERIC 9
#define ADDRESS_OF_ERRORS (SOURCE + 20 + 4)
#define NOTIFICATION (SOURCE + 32)

static const uint32_t sections[][4] = {
	[MEMORY] = { 0xa5bc1114, 0x4ede6f64, 0x833e63b8, 0xb1837ced },
	[CACHE] = { 0xe19e3d16, 0x11e4bc11, 0x05c2aa9c, 0xb0465d1d },
};

/* What the source has first is the address of a block. All in words, as the kernel maps it as a device's memory. */
struct errors {
	uint64_t block_address;
	uint64_t unused[63];
	uint32_t status, raw_offset, raw_length, length, severity;
	/* Of the one section. */
	uint32_t type[4], section_severity, revision_and_flags, section_length, unit[9], section[20];
};

static volatile struct errors *errors;

/* Where the errors of the first source are; 0 if it is none that the kernel polls. */
static uint64_t address_of_errors(void)
{
	unsigned char table[SOURCE + 64];
	int fd = open(TABLE, O_RDONLY);
	uint64_t address = 0;

	if (fd >= 0 && read(fd, table, sizeof(table)) == sizeof(table) && table[SOURCE] == GENERIC && !table[NOTIFICATION])
		memcpy(&address, table + ADDRESS_OF_ERRORS, sizeof(address));
	close(fd);
	return address;
}

const char *no_firmware_reports(void)
{
	uint64_t address = address_of_errors();
	/* Mapped as the kernel maps it. */
#ifdef __x86_64__
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
#else
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
#endif
	void *mapped = mmap(NULL, sizeof(*errors), PROT_READ | PROT_WRITE, MAP_SHARED, fd, address);

	close(fd);
	if (!address)
		return "the firmware has no source of errors that is polled (qemu/run --ghes)";
	if (mapped == MAP_FAILED)
		return "/dev/mem can't be mapped";
	errors = mapped;
	errors->block_address = address + offsetof(struct errors, status);
	return NULL;
}

/* Whether the kernel has read what was reported. */
static bool is_read(uint64_t unused)
{
	(void)unused;
	return !errors->status;
}

bool report_in_block(enum part part, uint64_t pfn, uint32_t severity, uint32_t block_severity)
{
	uint32_t address[] = { pfn << PAGE_SHIFT, pfn >> (32 - PAGE_SHIFT) }, section[20] = { 0 };

	if (part == MEMORY) {
		/* There is a physical address. */
		section[0] = 2;
		memcpy(section + 4, address, sizeof(address));
	} else {
		/* One error, of 32 bytes behind the first 40, with a physical address; of a cache. */
		section[1] = 1;
		section[2] = sizeof(section);
		section[10] = 32 << 8 | 0x10 << 16;
		section[11] = 2;
		memcpy(section + 16, address, sizeof(address));
	}
	for (int i = 0; i < 4; i++)
		errors->type[i] = sections[part][i];
	for (int i = 0; i < 20; i++)
		errors->section[i] = section[i];
	errors->severity = block_severity;
	errors->section_severity = severity;
	/* Of version 2.1. */
	errors->revision_and_flags = 0x201;
	errors->length = offsetof(struct errors, section) + sizeof(section) - offsetof(struct errors, type);
	errors->section_length = sizeof(section);
	atomic_thread_fence(memory_order_seq_cst);
	/* One that is uncorrected, or corrected. */
	errors->status = block_severity == CORRECTED ? 2 : 1;
	return await(is_read, 0);
}

bool report(enum part part, uint64_t pfn, uint32_t severity)
{
	return report_in_block(part, pfn, severity, severity);
}
