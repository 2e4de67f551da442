// SPDX-License-Identifier: GPL-2.0
/* A cumulative that carries state 7 in version 2, so the kernel lets it replace one with version 1. */
#include "show.h"

static struct klp_func funcs[] = { { .old_name = "version_proc_show", .new_func = patched_version_show }, {} };
static struct klp_object objects[] = { { .funcs = funcs }, {} };
static struct klp_state states[] = { { .id = 7, .version = 2 }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .states = states, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch with a state");
