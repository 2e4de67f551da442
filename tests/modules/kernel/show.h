/* SPDX-License-Identifier: GPL-2.0 */
/* A livepatch of one function of the kernel, given by `struct klp_func` initialisers. */
#ifndef LIVEPATCH_KERNEL_TESTS_SHOW_H
#define LIVEPATCH_KERNEL_TESTS_SHOW_H

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/utsname.h>

static int __maybe_unused patched_version_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s version %s\n", utsname()->sysname, utsname()->release);
	seq_puts(m, "livepatch: " KBUILD_MODNAME "\n");
	return 0;
}

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

#define LIVEPATCH_OF(text, ...)                                                                        \
	static struct klp_func funcs[] = { __VA_ARGS__, {} };                                          \
	static struct klp_object objects[] = { { .funcs = funcs }, {} };                               \
	static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };                       \
	LIVEPATCH_MODULE(patch, text)

#endif
