/* SPDX-License-Identifier: GPL-2.0 */
/* Takes the machine down SECONDS after its transition, when all looks well. */
#include "hybrid.h"
#include <linux/panic.h>
#include <linux/workqueue.h>

FUNCTIONS(EXECDOMAINS);

static void panic_later(struct work_struct *work)
{
	panic(KBUILD_MODNAME ": as a bad livepatch would");
}

static DECLARE_DELAYED_WORK(later, panic_later);

static void post_patch(struct klp_object *object)
{
	schedule_delayed_work(&later, SECONDS * HZ);
}

static struct klp_object objects[] = { { .funcs = funcs, .callbacks = { .post_patch = post_patch } }, {} };
LIVEPATCH_OF_OBJECTS("livepatch that panics later");
