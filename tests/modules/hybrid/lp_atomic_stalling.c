// SPDX-License-Identifier: GPL-2.0
/* A cumulative whose transition stalls while a task sleeps in lp_sleeper_read. */
#include "hybrid.h"

FUNCTIONS(VERSION, UPTIME);

static ssize_t patched_read(struct file *file, char __user *buffer, size_t length, loff_t *position)
{
	return 0;
}

static struct klp_func sleeper_funcs[] = { { .old_name = "lp_sleeper_read", .new_func = patched_read }, {} };
static struct klp_object objects[] = { { .funcs = funcs }, { .name = "lp_sleeper", .funcs = sleeper_funcs }, {} };
LIVEPATCH_OF_OBJECTS("cumulative livepatch with atomic replace whose transition stalls", .replace = true);
