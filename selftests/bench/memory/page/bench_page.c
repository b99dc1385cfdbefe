// SPDX-License-Identifier: GPL-2.0-only
/*
 * Says what the emulator counts for clearing a page and for copying one, as page faults do both: a string instruction that is one
 * to a processor is thousands to the emulator. And whether the allocator clears what it gives.
 */
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/timex.h>
#include <linux/uaccess.h>

static int __init bench_page_init(void)
{
	struct page *from = alloc_page(GFP_KERNEL), *to = alloc_page(GFP_KERNEL);
	cycles_t none, clear, copy;
	unsigned long flags;

	if (!from || !to)
		return -ENOMEM;
	local_irq_save(flags);
	none = get_cycles();
	none = get_cycles() - none;
	clear = get_cycles();
	clear_highpage(to);
	clear = get_cycles() - clear - none;
	copy = get_cycles();
	copy_mc_highpage(to, from);
	copy = get_cycles() - copy - none;
	local_irq_restore(flags);
	__free_page(from);
	__free_page(to);
	pr_info("bench_page: {\"clear\": %llu, \"copy\": %llu, \"allocation_clears\": %s}\n", clear, copy,
		want_init_on_alloc(GFP_HIGHUSER_MOVABLE) ? "true" : "false");
	/* There is nothing else to do here. */
	return -ENODEV;
}
module_init(bench_page_init);

MODULE_DESCRIPTION("What the emulator counts for a page");
MODULE_AUTHOR("anon_rmap authors");
MODULE_LICENSE("GPL");
