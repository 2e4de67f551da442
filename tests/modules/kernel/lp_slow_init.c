// SPDX-License-Identifier: GPL-2.0
/* Takes its time to begin, and then fails or not: the time in which a module of its name is neither there nor not. */
#include <linux/delay.h>
#include "show.h"

static unsigned int milliseconds = 3000;
module_param(milliseconds, uint, 0444);
static bool fails;
module_param(fails, bool, 0444);

static struct klp_func funcs[] = { { .old_name = "version_proc_show", .new_func = patched_version_show }, {} };
static struct klp_object objects[] = { { .funcs = funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init slow_init(void)
{
	msleep(milliseconds);
	return fails ? -EIO : klp_enable_patch(&patch);
}

static void __exit slow_exit(void)
{
}

module_init(slow_init);
module_exit(slow_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("livepatch that takes its time to begin");
MODULE_INFO(livepatch, "Y");
