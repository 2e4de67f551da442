// SPDX-License-Identifier: GPL-2.0
/* An off-band livepatch: no replace flag, disjoint from cumulative versions 1 and 2. */
#include "show.h"

DEFINE_EXECDOMAINS_SHOW("offband-v1")
DEFINE_VMLINUX_FUNCS(PATCH_EXECDOMAINS_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "off-band livepatch, version 1");
