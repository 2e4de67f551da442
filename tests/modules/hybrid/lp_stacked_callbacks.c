// SPDX-License-Identifier: GPL-2.0
/* A cumulative without the replace flag that has a callback: it may have to know what it follows. */
#include "hybrid.h"

FUNCTIONS(VERSION, UPTIME);

static void post_patch(struct klp_object *object)
{
}

static struct klp_object objects[] = { { .funcs = funcs, .callbacks = { .post_patch = post_patch } }, {} };
LIVEPATCH_OF_OBJECTS("cumulative livepatch without atomic replace, with a callback");
