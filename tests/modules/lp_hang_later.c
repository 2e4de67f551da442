// SPDX-License-Identifier: GPL-2.0
/* A livepatch that stops the machine two minutes after its transition, when all looks well: no word, no reboot. */
#include "show.h"
#include <linux/panic.h>
#include <linux/workqueue.h>

#define SECONDS 120

DEFINE_VERSION_SHOW("hang-later")
DEFINE_VMLINUX_FUNCS(PATCH_VERSION_SHOW);

static void hang(struct work_struct *work)
{
	/* Whatever the command line says of a reboot. */
	panic_timeout = 0;
	panic("lp_hang_later: as a bad livepatch would");
}

static DECLARE_DELAYED_WORK(later, hang);

static void post_patch(struct klp_object *object)
{
	schedule_delayed_work(&later, SECONDS * HZ);
}

static struct klp_object objects[] = {
	{ .funcs = vmlinux_funcs, .callbacks = { .post_patch = post_patch } },
	{}
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch that stops the machine later");
