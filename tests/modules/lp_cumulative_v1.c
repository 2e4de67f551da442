// SPDX-License-Identifier: GPL-2.0
/* The first cumulative livepatch of a kernel build: atomic replace, one function. */
#include "show.h"

DEFINE_VERSION_SHOW("cumulative-v1")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch, version 1");
