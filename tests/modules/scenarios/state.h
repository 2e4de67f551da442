/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A cumulative that changes a setting of the kernel (/proc/sys/kernel/panic becomes 42) and gives it back when it is
 * disabled. The old value travels from one to the next by the klp_state 1.
 */
#ifndef LIVEPATCH_STATE_H
#define LIVEPATCH_STATE_H

#include "scenario.h"
#include <linux/panic.h>
#include <linux/slab.h>

#define PANIC_STATE 1
#define PANIC_SECONDS 42

static struct klp_patch patch;

static int allocate(struct klp_object *object)
{
	struct klp_state *state = klp_get_state(&patch, PANIC_STATE);

	if (!state)
		return -EINVAL;
	if (TAKES_OVER && klp_get_prev_state(PANIC_STATE)) {
		pr_info("space comes from the one before\n");
		return 0;
	}
	state->data = kzalloc(sizeof(int), GFP_KERNEL);
	if (!state->data)
		return -ENOMEM;
	pr_info("space allocated\n");
	return 0;
}

static void change(struct klp_object *object)
{
	struct klp_state *state = klp_get_state(&patch, PANIC_STATE);
	struct klp_state *before = TAKES_OVER ? klp_get_prev_state(PANIC_STATE) : NULL;

	if (before) {
		state->data = before->data;
		pr_info("setting taken over\n");
		return;
	}
	*(int *)state->data = panic_timeout;
	panic_timeout = PANIC_SECONDS;
	pr_info("setting changed\n");
}

static void restore(struct klp_object *object)
{
	struct klp_state *state = klp_get_state(&patch, PANIC_STATE);

	panic_timeout = *(int *)state->data;
	pr_info("setting restored\n");
}

static void release(struct klp_object *object)
{
	struct klp_state *state = klp_get_state(&patch, PANIC_STATE);

	kfree(state->data);
	state->data = NULL;
	pr_info("space freed\n");
}

static struct klp_func no_funcs[] = { {} };
static struct klp_object objects[] = {
	{
		.funcs = no_funcs,
		.callbacks = {
			.pre_patch = allocate,
			.post_patch = change,
			.pre_unpatch = restore,
			.post_unpatch = release,
		},
	},
	{}
};
static struct klp_state states[] = { { .id = PANIC_STATE, .version = STATE_VERSION }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .states = states, .replace = true };

LIVEPATCH_MODULE(patch, "livepatch that changes a setting");

#endif
