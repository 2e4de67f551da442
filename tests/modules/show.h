/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Replacements of three /proc show functions that exist under the same name in every kernel the project supports.
 * Each prints what the original prints (or near enough for whoever reads it) and then one line "livepatch: MARKER",
 * so that a test can tell from user space which livepatch is effective, without trusting sysfs.
 */
#ifndef LIVEPATCH_TESTS_SHOW_H
#define LIVEPATCH_TESTS_SHOW_H

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched/loadavg.h>
#include <linux/seq_file.h>
#include <linux/utsname.h>

/* /proc/version */
#define DEFINE_VERSION_SHOW(marker)                                                                    \
	static int patched_version_show(struct seq_file *m, void *v)                                   \
	{                                                                                              \
		seq_printf(m, "%s version %s %s\n", utsname()->sysname, utsname()->release,            \
			   utsname()->version);                                                        \
		seq_puts(m, "livepatch: " marker "\n");                                                \
		return 0;                                                                              \
	}
#define PATCH_VERSION_SHOW { .old_name = "version_proc_show", .new_func = patched_version_show }

/* /proc/execdomains */
#define DEFINE_EXECDOMAINS_SHOW(marker)                                                                \
	static int patched_execdomains_show(struct seq_file *m, void *v)                               \
	{                                                                                              \
		seq_puts(m, "0-0\tLinux           \t[kernel]\n");                                      \
		seq_puts(m, "livepatch: " marker "\n");                                                \
		return 0;                                                                              \
	}
#define PATCH_EXECDOMAINS_SHOW { .old_name = "execdomains_proc_show", .new_func = patched_execdomains_show }

/* /proc/loadavg; the counts of tasks are made up, nothing exports them */
#define LOAD_HUNDREDTHS(index) ((avenrun[index] * 100) >> FSHIFT)
#define DEFINE_LOADAVG_SHOW(marker)                                                                    \
	static int patched_loadavg_show(struct seq_file *m, void *v)                                   \
	{                                                                                              \
		seq_printf(m, "%lu.%02lu %lu.%02lu %lu.%02lu 1/1 1\n", LOAD_HUNDREDTHS(0) / 100,       \
			   LOAD_HUNDREDTHS(0) % 100, LOAD_HUNDREDTHS(1) / 100, LOAD_HUNDREDTHS(1) % 100, \
			   LOAD_HUNDREDTHS(2) / 100, LOAD_HUNDREDTHS(2) % 100);                        \
		seq_puts(m, "livepatch: " marker "\n");                                                \
		return 0;                                                                              \
	}
#define PATCH_LOADAVG_SHOW { .old_name = "loadavg_proc_show", .new_func = patched_loadavg_show }

/* The list of functions patched in vmlinux, from PATCH_* initialisers. */
#define DEFINE_VMLINUX_FUNCS(...) static struct klp_func vmlinux_funcs[] = { __VA_ARGS__, {} }
#define VMLINUX_OBJECT { .funcs = vmlinux_funcs }

/* The module itself; `patch` is a struct klp_patch of that file. */
#define LIVEPATCH_MODULE(patch, text)                                                                  \
	static int __init livepatch_init(void)                                                         \
	{                                                                                              \
		return klp_enable_patch(&patch);                                                       \
	}                                                                                              \
	static void __exit livepatch_exit(void)                                                        \
	{                                                                                              \
	}                                                                                              \
	module_init(livepatch_init);                                                                   \
	module_exit(livepatch_exit);                                                                   \
	MODULE_LICENSE("GPL");                                                                         \
	MODULE_DESCRIPTION(text);                                                                      \
	MODULE_INFO(livepatch, "Y")

#endif
