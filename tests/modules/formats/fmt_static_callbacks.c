// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Callbacks only: no function is patched, and the replace flag stays clear. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

static int before_patch(struct klp_object *obj)
{
	return 0;
}

static void after_patch(struct klp_object *obj)
{
}

static void before_unpatch(struct klp_object *obj)
{
}

static void after_unpatch(struct klp_object *obj)
{
}

static struct klp_func no_funcs[] = { {} };

static struct klp_object objects[] = {
	{
		.funcs = no_funcs,
		.callbacks = { before_patch, after_patch, before_unpatch, after_unpatch },
	},
	{ .name = "overlay", .funcs = no_funcs, .callbacks = { .post_patch = after_patch } },
	{}
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init fmt_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
