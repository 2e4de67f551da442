// SPDX-License-Identifier: GPL-2.0
/* A livepatch that takes the machine down: its callback panics as soon as the transition is over. */
#include "show.h"
#include <linux/panic.h>

DEFINE_VERSION_SHOW("panic")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static void post_patch(struct klp_object *object)
{
	panic("lp_panic: as a bad livepatch would");
}

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = { .post_patch = post_patch } },
	{}
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch that panics");
