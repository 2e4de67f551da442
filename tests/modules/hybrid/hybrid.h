/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Livepatches of show functions of /proc files. A patched file holds one line, "livepatch: MODULE", so that a test can
 * tell from user space which livepatch of each function is effective, without trusting sysfs:
 *
 *   version      what a cumulative livepatch patches
 *   uptime       what a later cumulative patches besides
 *   execdomains  off-band A
 *   loadavg      off-band B
 */
#ifndef LIVEPATCH_HYBRID_TESTS_H
#define LIVEPATCH_HYBRID_TESTS_H

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int __maybe_unused patched_show(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatch: " KBUILD_MODNAME "\n");
	return 0;
}

#define VERSION { .old_name = "version_proc_show", .new_func = patched_show }
#define UPTIME { .old_name = "uptime_proc_show", .new_func = patched_show }
#define EXECDOMAINS { .old_name = "execdomains_proc_show", .new_func = patched_show }
#define LOADAVG { .old_name = "loadavg_proc_show", .new_func = patched_show }

/* The functions patched in vmlinux. */
#define FUNCTIONS(...) static struct klp_func funcs[] = { __VA_ARGS__, {} }

/* The module; what follows the text are further fields of struct klp_patch, and it needs `objects`. */
#define LIVEPATCH_OF_OBJECTS(text, ...)                                                                \
	static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, __VA_ARGS__ };          \
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

/* The same for FUNCTIONS alone. */
#define LIVEPATCH(text, ...)                                                                           \
	static struct klp_object objects[] = { { .funcs = funcs }, {} };                               \
	LIVEPATCH_OF_OBJECTS(text, __VA_ARGS__)

#endif
