// SPDX-License-Identifier: GPL-2.0
/* Takes the machine down as soon as its transition is over. */
#include "hybrid.h"
#include <linux/panic.h>

FUNCTIONS(EXECDOMAINS);

static void post_patch(struct klp_object *object)
{
	panic("lp_panic_at_once: as a bad livepatch would");
}

static struct klp_object objects[] = { { .funcs = funcs, .callbacks = { .post_patch = post_patch } }, {} };
LIVEPATCH_OF_OBJECTS("livepatch that panics at once");
