// SPDX-License-Identifier: GPL-2.0
/* The next version of the off-band livepatch: the same function, so it can be stacked on version 1. */
#include "show.h"

DEFINE_EXECDOMAINS_SHOW("offband-v2")
DEFINE_VMLINUX_FUNCS(PATCH_EXECDOMAINS_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "off-band livepatch, version 2");
