// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* An ordinary module. */
#include <linux/module.h>

static int __init fmt_init(void)
{
	return 0;
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
