/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All four callbacks of an object. Each says in the kernel log that it runs, for which object, and how far that module
 * is in its life; the first one refuses on demand.
 */
#ifndef LIVEPATCH_CALLBACKS_H
#define LIVEPATCH_CALLBACKS_H

#include "scenario.h"

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "what pre_patch returns");

static void tell(const char *callback, struct klp_object *object)
{
	static const char *const states[] = {
		[MODULE_STATE_LIVE] = "live",
		[MODULE_STATE_COMING] = "coming",
		[MODULE_STATE_GOING] = "going",
		[MODULE_STATE_UNFORMED] = "unformed",
	};

	if (object->mod)
		pr_info("%s %s %s\n", callback, object->mod->name, states[object->mod->state]);
	else
		pr_info("%s vmlinux\n", callback);
}

static int pre_patch(struct klp_object *object)
{
	tell("pre_patch", object);
	return pre_patch_ret;
}

static void post_patch(struct klp_object *object)
{
	tell("post_patch", object);
}

static void pre_unpatch(struct klp_object *object)
{
	tell("pre_unpatch", object);
}

static void post_unpatch(struct klp_object *object)
{
	tell("post_unpatch", object);
}

#define ALL_CALLBACKS                                                                                  \
	{                                                                                              \
		.pre_patch = pre_patch, .post_patch = post_patch, .pre_unpatch = pre_unpatch,          \
		.post_unpatch = post_unpatch                                                           \
	}

#endif
