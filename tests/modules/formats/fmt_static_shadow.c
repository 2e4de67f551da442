// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Uses a shadow variable, which outlives the functions that made it. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#define SHADOW_READS 0x5eed

static int replacement_meminfo(struct seq_file *m, void *v)
{
	unsigned long *reads = klp_shadow_get_or_alloc(m->private, SHADOW_READS, sizeof(*reads), GFP_KERNEL, NULL, NULL);

	if (reads)
		seq_printf(m, "read %lu times\n", ++*reads);
	return 0;
}

static struct klp_func kernel_funcs[] = {
	{ .old_name = "meminfo_proc_show", .new_func = replacement_meminfo },
	{}
};

static struct klp_object objects[] = { { .funcs = kernel_funcs }, {} };

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init fmt_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit fmt_exit(void)
{
	klp_shadow_free_all(SHADOW_READS, NULL);
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
