// SPDX-License-Identifier: GPL-2.0
/* A livepatch without objects: refused without a word in the kernel log. */
#include "show.h"

static struct klp_patch patch = { .mod = THIS_MODULE };

LIVEPATCH_MODULE(patch, "livepatch without objects");
