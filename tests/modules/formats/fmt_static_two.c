// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Two complete livepatches in one module: which one it loads is decided at run time. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static bool second;
module_param(second, bool, 0444);
MODULE_PARM_DESC(second, "load the second livepatch instead of the first");

static int replacement_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "cmdline by one of two\n");
	return 0;
}

static int replacement_version(struct seq_file *m, void *v)
{
	seq_puts(m, "version by one of two\n");
	return 0;
}

static struct klp_func funcs_a[] = { { .old_name = "cmdline_proc_show", .new_func = replacement_cmdline }, {} };
static struct klp_func funcs_b[] = { { .old_name = "version_proc_show", .new_func = replacement_version }, {} };
static struct klp_object objects_a[] = { { .funcs = funcs_a }, {} };
static struct klp_object objects_b[] = { { .funcs = funcs_b }, {} };
static struct klp_patch patch_a = { .mod = THIS_MODULE, .objs = objects_a };
static struct klp_patch patch_b = { .mod = THIS_MODULE, .objs = objects_b, .replace = true };

static int __init fmt_init(void)
{
	return klp_enable_patch(second ? &patch_b : &patch_a);
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
