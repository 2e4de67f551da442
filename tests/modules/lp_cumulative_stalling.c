// SPDX-License-Identifier: GPL-2.0
/* A cumulative whose transition stalls while a task sleeps in lp_sleeper_read (see lp_sleeper.c). */
#include "show.h"

DEFINE_VERSION_SHOW("cumulative-stalling")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static ssize_t patched_read(struct file *file, char __user *buffer, size_t length, loff_t *position)
{
	return 0;
}

static struct klp_func sleeper_funcs[] = { { .old_name = "lp_sleeper_read", .new_func = patched_read }, {} };
static struct klp_object objects[] = { VMLINUX_OBJECT, { .name = "lp_sleeper", .funcs = sleeper_funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch whose transition stalls");
