// SPDX-License-Identifier: GPL-2.0
/*
 * What a livepatch does that klp-build made of nothing: the check is in the code that klp-build puts into the module
 * (scripts/livepatch/init.c, 7.2), not in the kernel.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/module.h>

static int __init nothing_init(void)
{
	pr_err("nothing to patch!\n");
	return -EINVAL;
}

static void __exit nothing_exit(void)
{
}

module_init(nothing_init);
module_exit(nothing_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("livepatch without content");
MODULE_INFO(livepatch, "Y");
