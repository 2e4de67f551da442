// SPDX-License-Identifier: GPL-2.0
/* A second off-band livepatch, disjoint from lp_offband_v1 and v2 and from cumulative versions 1 and 3. */
#include "show.h"

DEFINE_LOADAVG_SHOW("offband-other")
DEFINE_VMLINUX_FUNCS(PATCH_LOADAVG_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "another off-band livepatch");
