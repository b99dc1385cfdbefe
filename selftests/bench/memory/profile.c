// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's emulator: counts the instructions of each piece of code (a translation block) between two places of a
 * program. Arguments: begin=ADDRESS, end=ADDRESS, out=FILE. For each stretch from begin to end it prints a line "stretch", and then
 * one for each block, "ADDRESS COUNT"; what is not the kernel's is at address 0.
 *
 * There is no package that has qemu-plugin.h; what is needed of it is here. Built with -DVERSION=…, that of QEMU's interface.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*translated_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*executed_t)(unsigned int cpu, void *data);
typedef void (*at_exit_t)(qemu_plugin_id_t id, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_t callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, executed_t callback, int flags, void *data);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, at_exit_t callback, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

int qemu_plugin_version = VERSION;

struct block {
	uint64_t address, instructions, count;
	/* In its bucket, and among those that were executed in this stretch. */
	struct block *next, *next_executed;
};

#define BUCKETS (1 << 16)
static struct block *buckets[BUCKETS], *executed;
static uint64_t begin, end;
static bool is_on;
static FILE *out;

/* A block lives for ever: the emulator forgets translations, and makes them again. */
static struct block *block_of(uint64_t address, uint64_t instructions)
{
	struct block **bucket = &buckets[(address * 0x9e3779b97f4a7c15 + instructions) >> 48];
	struct block *block;

	for (block = *bucket; block; block = block->next)
		if (block->address == address && block->instructions == instructions)
			return block;
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	block->address = address;
	block->instructions = instructions;
	block->next = *bucket;
	*bucket = block;
	return block;
}

static void on_executed(unsigned int cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	if (!is_on)
		return;
	if (!block->count++) {
		block->next_executed = executed;
		executed = block;
	}
}

/* One that was begun and not ended is forgotten. */
static void on_begin(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	for (; executed; executed = executed->next_executed)
		executed->count = 0;
	is_on = true;
}

static void on_end(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	if (!is_on)
		return;
	is_on = false;
	fputs("stretch\n", out);
	for (struct block *block = executed; block; block = block->next_executed)
		fprintf(out, "%" PRIx64 " %" PRIu64 "\n", block->address, block->count * block->instructions);
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	bool is_kernel = address >> 63;

	(void)id;
	if (address == begin || address == end)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, address == begin ? on_begin : on_end, 0, NULL);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, 0,
					     block_of(is_kernel ? address : 0, qemu_plugin_tb_n_insns(tb)));
}

static void on_exit_of_emulator(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "begin=", 6))
			sscanf(argv[i] + 6, "%" SCNx64, &begin);
		else if (!strncmp(argv[i], "end=", 4))
			sscanf(argv[i] + 4, "%" SCNx64, &end);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!begin || !end || !out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
	qemu_plugin_register_atexit_cb(id, on_exit_of_emulator, NULL);
	return 0;
}
