// SPDX-License-Identifier: GPL-2.0
/* A cumulative that has taken the off-band fix in: contains the functions of lp_offband_v1, so it can supersede it. */
#include "show.h"

DEFINE_VERSION_SHOW("cumulative-v3")
DEFINE_EXECDOMAINS_SHOW("cumulative-v3")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW, PATCH_EXECDOMAINS_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch, version 3, with the off-band fix");
