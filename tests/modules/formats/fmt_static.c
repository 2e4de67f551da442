// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A livepatch in static data: two objects, a position, states, replace set. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int replacement_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "cmdline by the static layout\n");
	return 0;
}

static int replacement_version(struct seq_file *m, void *v)
{
	seq_puts(m, "version by the static layout\n");
	return 0;
}

static void replacement_target(void)
{
	pr_info("target by the static layout\n");
}

static struct klp_func kernel_funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = replacement_cmdline },
	{ .old_name = "version_proc_show", .new_func = replacement_version, .old_sympos = 1 },
	{}
};

static struct klp_func module_funcs[] = {
	{ .old_name = "overlay_target", .new_func = replacement_target, .old_sympos = 1 },
	{}
};

static struct klp_object objects[] = {
	{ .funcs = kernel_funcs },
	{ .name = "overlay", .funcs = module_funcs },
	{}
};

static struct klp_state states[] = {
	{ .id = 16, .version = 3 },
	{ .id = 7, .version = 1 },
	{}
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .states = states, .replace = true };

static int __init fmt_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
