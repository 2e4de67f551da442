// SPDX-License-Identifier: GPL-2.0
/* An ordinary module that has something to begin with and nothing to end with: the kernel never unloads it. */
#include <linux/module.h>

static int __init only_init(void)
{
	return 0;
}

module_init(only_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module without an exit");
