// SPDX-License-Identifier: GPL-2.0
/*
 * An off-band livepatch with callbacks and a klp_state: a cumulative without that state is refused (EINVAL) while it
 * is loaded, and its callbacks are not run when it is replaced. The callbacks leave a line in the kernel log each.
 */
#include "show.h"

DEFINE_LOADAVG_SHOW("offband-state")
DEFINE_VMLINUX_FUNCS(PATCH_LOADAVG_SHOW);

static int pre_patch(struct klp_object *object)
{
	pr_info("lp_offband_state: pre_patch\n");
	return 0;
}

static void post_unpatch(struct klp_object *object)
{
	pr_info("lp_offband_state: post_unpatch\n");
}

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = { .pre_patch = pre_patch, .post_unpatch = post_unpatch } },
	{}
};
static struct klp_state states[] = { { .id = 7, .version = 1 }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .states = states };

LIVEPATCH_MODULE(patch, "off-band livepatch with callbacks and a state");
