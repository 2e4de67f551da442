// SPDX-License-Identifier: GPL-2.0
/* Off-band A with a callback that has to run before it goes; an atomic replace would leave it out. */
#include "hybrid.h"

FUNCTIONS(EXECDOMAINS);

static void post_unpatch(struct klp_object *object)
{
	pr_info("lp_a_callbacks: cleaned up\n");
}

static struct klp_object objects[] = { { .funcs = funcs, .callbacks = { .post_unpatch = post_unpatch } }, {} };
LIVEPATCH_OF_OBJECTS("off-band livepatch A, with a callback");
