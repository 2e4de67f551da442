/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A livepatch in the layout of the kernel's klp-build: tables in .init.klp_objects and .init.klp_funcs. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "layouts.h"

#define NAMED(var, text) static const char var[] __used __section(".rodata.klp.str1.1") = text

NAMED(name_cmdline, "cmdline_proc_show");
NAMED(name_version, "version_proc_show");
NAMED(name_target, "overlay_target");
NAMED(object_module, "overlay");

static int replacement_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "cmdline by the klp-build layout\n");
	return 0;
}

static int replacement_version(struct seq_file *m, void *v)
{
	seq_puts(m, "version by the klp-build layout\n");
	return 0;
}

static void replacement_target(void)
{
	pr_info("target by the klp-build layout\n");
}

static int before_patch(struct klp_object *obj)
{
	return 0;
}

static struct table_c_func funcs_kernel[] __used __section(".init.klp_funcs") = {
	{ name_cmdline, replacement_cmdline, 0 },
	{ name_version, replacement_version, 1 },
};
static struct table_c_func funcs_module[] __used __section(".init.klp_funcs") = {
	{ name_target, replacement_target, 0 },
};

static struct table_c_object objects[] __used __section(".init.klp_objects") = {
	{ NULL, funcs_kernel, {}, ARRAY_SIZE(funcs_kernel) },
	{ object_module, funcs_module, { .pre_patch = before_patch }, ARRAY_SIZE(funcs_module) },
};

extern struct table_c_object __table_c_objects[], __table_c_objects_end[];

static struct klp_patch *patch;

static int __init fmt_init(void)
{
	struct table_c_object *entry;
	struct klp_object *object;
	struct klp_func *functions;
	size_t count = __table_c_objects_end - __table_c_objects;
	unsigned int i;

	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	object = kcalloc(count + 1, sizeof(*object), GFP_KERNEL);
	if (!patch || !object)
		return -ENOMEM;
	patch->mod = THIS_MODULE;
	patch->objs = object;
	for (entry = __table_c_objects; entry < __table_c_objects_end; entry++, object++) {
		functions = kcalloc(entry->nr_funcs + 1, sizeof(*functions), GFP_KERNEL);
		if (!functions)
			return -ENOMEM;
		for (i = 0; i < entry->nr_funcs; i++) {
			functions[i].old_name = entry->funcs[i].old_name;
			functions[i].new_func = entry->funcs[i].new_func;
			functions[i].old_sympos = entry->funcs[i].sympos;
		}
		object->name = entry->name;
		object->funcs = functions;
		object->callbacks = entry->callbacks;
	}
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
