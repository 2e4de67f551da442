// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The replace flag comes from a module parameter, so the file cannot tell it. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static bool replace;
module_param(replace, bool, 0644);
MODULE_PARM_DESC(replace, "whether loading this replaces every other livepatch");

static int replacement_meminfo(struct seq_file *m, void *v)
{
	seq_puts(m, "meminfo by a livepatch with a parameter\n");
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
	patch.replace = replace;
	return klp_enable_patch(&patch);
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
