// SPDX-License-Identifier: GPL-2.0
/* An ordinary module with a function to be patched: /proc/lp_target tells which one runs. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static noinline int lp_target_show(struct seq_file *m, void *v)
{
	seq_puts(m, "original\n");
	return 0;
}

static int __init target_init(void)
{
	return proc_create_single("lp_target", 0444, NULL, lp_target_show) ? 0 : -ENOMEM;
}

static void __exit target_exit(void)
{
	remove_proc_entry("lp_target", NULL);
}

module_init(target_init);
module_exit(target_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module with a function to be patched");
