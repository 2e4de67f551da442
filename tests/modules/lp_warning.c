// SPDX-License-Identifier: GPL-2.0
/* A livepatch that loads and then hits a warning: the machine goes on with taint W. */
#include "show.h"

DEFINE_VERSION_SHOW("warning")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static void post_patch(struct klp_object *object)
{
	WARN(1, "lp_warning: as a bad livepatch would\n");
}

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = { .post_patch = post_patch } },
	{}
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch that warns");
