/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A livepatch in the layout of kpatch-build: a table in .kpatch.funcs, everything else allocated when it loads. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "layouts.h"

#define NAMED(var, text) static const char var[] __used __section(".kpatch.strings") = text

NAMED(name_cmdline, "cmdline_proc_show");
NAMED(name_version, "version_proc_show");
NAMED(name_target, "overlay_target");
NAMED(object_kernel, "vmlinux");
NAMED(object_module, "overlay");

static int replacement_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "cmdline by the kpatch layout\n");
	return 0;
}

static int replacement_version(struct seq_file *m, void *v)
{
	seq_puts(m, "version by the kpatch layout\n");
	return 0;
}

static void replacement_target(void)
{
	pr_info("target by the kpatch layout\n");
}

static struct table_b_func funcs[] __used __section(".kpatch.funcs") = {
	{ .new_addr = (unsigned long)replacement_cmdline, .name = name_cmdline, .objname = object_kernel },
	{ .new_addr = (unsigned long)replacement_version, .sympos = 1, .name = name_version, .objname = object_kernel },
	{ .new_addr = (unsigned long)replacement_target, .name = name_target, .objname = object_module },
};

static int before_patch(struct klp_object *obj)
{
	return 0;
}

static void after_unpatch(struct klp_object *obj)
{
}

static struct table_b_callbacks pre __used __section(".kpatch.callbacks.pre_patch") = {
	{ before_patch, object_kernel }
};
static struct table_b_callbacks post __used __section(".kpatch.callbacks.post_unpatch") = {
	{ after_unpatch, object_module }
};

extern struct table_b_func __table_b_funcs[], __table_b_funcs_end[];

static struct klp_patch *patch;

/* Fills one object with the entries of the table that belong to it. */
static int __init fill(struct klp_object *object, const char *name)
{
	struct table_b_func *entry;
	struct klp_func *function;

	function = kcalloc(__table_b_funcs_end - __table_b_funcs + 1, sizeof(*function), GFP_KERNEL);
	if (!function)
		return -ENOMEM;
	object->funcs = function;
	if (strcmp(name, "vmlinux"))
		object->name = name;
	for (entry = __table_b_funcs; entry < __table_b_funcs_end; entry++) {
		if (strcmp(entry->objname, name))
			continue;
		function->old_name = entry->name;
		function->new_func = (void *)entry->new_addr;
		function->old_sympos = entry->sympos;
		function++;
	}
	return 0;
}

static int __init fmt_init(void)
{
	struct klp_object *objects;

	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	objects = kcalloc(3, sizeof(*objects), GFP_KERNEL);
	if (!patch || !objects)
		return -ENOMEM;
	if (fill(&objects[0], object_kernel) || fill(&objects[1], object_module))
		return -ENOMEM;
	objects[0].callbacks.pre_patch = pre.first.fn;
	objects[1].callbacks.post_unpatch = post.first.fn;
	patch->mod = THIS_MODULE;
	patch->objs = objects;
	patch->replace = WANT_REPLACE;
	return klp_enable_patch(patch);
}

static void __exit fmt_exit(void)
{
}

module_init(fmt_init);
module_exit(fmt_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
