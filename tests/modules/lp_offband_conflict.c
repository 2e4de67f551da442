// SPDX-License-Identifier: GPL-2.0
/* An off-band livepatch of a function that the cumulative patches too: the kernel loads it, the last one wins. */
#include "show.h"

DEFINE_VERSION_SHOW("offband-conflict")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "off-band livepatch that conflicts with the cumulative");
