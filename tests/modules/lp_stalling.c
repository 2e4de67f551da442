// SPDX-License-Identifier: GPL-2.0
/* Off-band; its transition stalls while a task sleeps in lp_sleeper_read (see lp_sleeper.c). */
#include "show.h"

DEFINE_LOADAVG_SHOW("stalling")
DEFINE_VMLINUX_FUNCS(PATCH_LOADAVG_SHOW);

static ssize_t patched_read(struct file *file, char __user *buffer, size_t length, loff_t *position)
{
	return 0;
}

static struct klp_func sleeper_funcs[] = { { .old_name = "lp_sleeper_read", .new_func = patched_read }, {} };
static struct klp_object objects[] = { VMLINUX_OBJECT, { .name = "lp_sleeper", .funcs = sleeper_funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "off-band livepatch whose transition stalls");
