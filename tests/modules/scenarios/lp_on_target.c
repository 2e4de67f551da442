// SPDX-License-Identifier: GPL-2.0
/* Patches one function of the module lp_target, and one of the kernel, so that it has two objects. */
#include "scenario.h"
#include <linux/seq_file.h>
#include <linux/utsname.h>

static int patched_target_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\n");
	return 0;
}

static int patched_version_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s version %s\nlivepatch: lp_on_target\n", utsname()->sysname, utsname()->release);
	return 0;
}

static struct klp_func target_funcs[] = { { .old_name = "lp_target_show", .new_func = patched_target_show }, {} };
static struct klp_func vmlinux_funcs[] = { { .old_name = "version_proc_show", .new_func = patched_version_show }, {} };
static struct klp_object objects[] = { { .funcs = vmlinux_funcs }, { .name = "lp_target", .funcs = target_funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE_WITH_FLAG(patch, "livepatch of the kernel and of a module");
