// SPDX-License-Identifier: GPL-2.0
/* Callbacks for the kernel and for two modules that come and go; one function of the busy one is patched. */
#include "callbacks.h"
#include <linux/workqueue.h>

static void patched_busy_work(struct work_struct *work)
{
	pr_info("the patched work runs\n");
}

static struct klp_func no_funcs[] = { {} };
static struct klp_func busy_funcs[] = { { .old_name = "lp_target_busy_work", .new_func = patched_busy_work }, {} };
static struct klp_object objects[] = {
	{ .funcs = no_funcs, .callbacks = ALL_CALLBACKS },
	{ .name = "lp_target", .funcs = no_funcs, .callbacks = ALL_CALLBACKS },
	{ .name = "lp_target_busy", .funcs = busy_funcs, .callbacks = ALL_CALLBACKS },
	{}
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "livepatch with callbacks");
