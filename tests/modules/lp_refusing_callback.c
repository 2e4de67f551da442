// SPDX-License-Identifier: GPL-2.0
/* Refused at run time: its pre_patch callback returns ENODEV, which finit_module passes on. */
#include "show.h"

DEFINE_VERSION_SHOW("refusing-callback")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static int pre_patch(struct klp_object *object)
{
	return -ENODEV;
}

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = { .pre_patch = pre_patch } },
	{}
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch whose pre_patch callback refuses");
