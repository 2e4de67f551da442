// SPDX-License-Identifier: GPL-2.0
/* An ordinary module with many functions to patch: each shows a file of its number in /proc/lp_targets. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#define EACH(what)                                                                                     \
	what(01) what(02) what(03) what(04) what(05) what(06) what(07) what(08) what(09) what(10)      \
	what(11) what(12) what(13) what(14) what(15) what(16) what(17) what(18) what(19) what(20)

/* The file is in the text, so that no two functions are the same and folded into one. */
#define DEFINE_SHOW(number)                                                                            \
	static noinline int lp_target_##number##_show(struct seq_file *m, void *v)                     \
	{                                                                                              \
		seq_puts(m, "original " #number "\n");                                                 \
		return 0;                                                                              \
	}
EACH(DEFINE_SHOW)

static struct proc_dir_entry *folder;

static int __init targets_init(void)
{
	folder = proc_mkdir("lp_targets", NULL);
	if (!folder)
		return -ENOMEM;
#define CREATE(number) proc_create_single(#number, 0444, folder, lp_target_##number##_show);
	EACH(CREATE)
	return 0;
}

static void __exit targets_exit(void)
{
	proc_remove(folder);
}

module_init(targets_init);
module_exit(targets_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module with many functions to patch");
