/* SPDX-License-Identifier: GPL-2.0 */
/* What the livepatches of the scenarios have in common. */
#ifndef LIVEPATCH_SCENARIO_H
#define LIVEPATCH_SCENARIO_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

/* The module itself; `patch` is a struct klp_patch of that file, whose replace flag is the parameter of that name. */
#define LIVEPATCH_MODULE_WITH_FLAG(patch, text)                                                        \
	static bool replace;                                                                           \
	module_param(replace, bool, 0444);                                                             \
	static int __init livepatch_init(void)                                                         \
	{                                                                                              \
		patch.replace = replace;                                                               \
		return klp_enable_patch(&patch);                                                       \
	}                                                                                              \
	LIVEPATCH_MODULE_INFO(text)

#define LIVEPATCH_MODULE(patch, text)                                                                  \
	static int __init livepatch_init(void)                                                         \
	{                                                                                              \
		return klp_enable_patch(&patch);                                                       \
	}                                                                                              \
	LIVEPATCH_MODULE_INFO(text)

#define LIVEPATCH_MODULE_INFO(text)                                                                    \
	static void __exit livepatch_exit(void)                                                        \
	{                                                                                              \
	}                                                                                              \
	module_init(livepatch_init);                                                                   \
	module_exit(livepatch_exit);                                                                   \
	MODULE_LICENSE("GPL");                                                                         \
	MODULE_DESCRIPTION(text);                                                                      \
	MODULE_INFO(livepatch, "Y")

#endif
