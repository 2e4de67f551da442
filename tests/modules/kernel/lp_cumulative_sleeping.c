// SPDX-License-Identifier: GPL-2.0
/*
 * A cumulative in whose own function tasks sleep until they are killed, so that disabling it stalls: a read of
 * /proc/lp_sleeper (see lp_sleeper.c) ends up here.
 */
#include "show.h"
#include <linux/wait.h>

static DECLARE_WAIT_QUEUE_HEAD(sleepers);

static noinline ssize_t patched_lp_sleeper_read(struct file *file, char __user *buffer, size_t length, loff_t *position)
{
	return wait_event_killable(sleepers, false);
}

static struct klp_func funcs[] = { { .old_name = "version_proc_show", .new_func = patched_version_show }, {} };
static struct klp_func sleeper_funcs[] = {
	{ .old_name = "lp_sleeper_read", .new_func = patched_lp_sleeper_read },
	{}
};
static struct klp_object objects[] = { { .funcs = funcs }, { .name = "lp_sleeper", .funcs = sleeper_funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch that is slow to be disabled");
