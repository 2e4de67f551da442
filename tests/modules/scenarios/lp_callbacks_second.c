// SPDX-License-Identifier: GPL-2.0
/* A second livepatch with callbacks; replaces all others on demand. */
#include "callbacks.h"

static struct klp_func no_funcs[] = { {} };
static struct klp_object objects[] = { { .funcs = no_funcs, .callbacks = ALL_CALLBACKS }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE_WITH_FLAG(patch, "second livepatch with callbacks");
