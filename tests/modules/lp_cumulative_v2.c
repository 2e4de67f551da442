// SPDX-License-Identifier: GPL-2.0
/* The next cumulative: contains version 1's function and one more. */
#include "show.h"

DEFINE_VERSION_SHOW("cumulative-v2")
DEFINE_LOADAVG_SHOW("cumulative-v2")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW, PATCH_LOADAVG_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch, version 2");
