// SPDX-License-Identifier: GPL-2.0
/*
 * A large livepatch, to be read and never loaded: a thousand functions of a thousand bytes each, relocations included,
 * every one of which replaces a function of the kernel that does not exist.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#define LINE(number, text) seq_printf(m, #number " " text " %d\n", v != NULL)
#define FUNCTION(number)                                                                               \
	static int patched_##number(struct seq_file *m, void *v)                                       \
	{                                                                                              \
		LINE(number, "one");                                                                   \
		LINE(number, "two");                                                                   \
		LINE(number, "three");                                                                 \
		LINE(number, "four");                                                                  \
		LINE(number, "five");                                                                  \
		LINE(number, "six");                                                                   \
		return 0;                                                                              \
	}
#define ENTRY(number) { .old_name = "original_" #number, .new_func = patched_##number },

#define TEN(what, n) what(n##0) what(n##1) what(n##2) what(n##3) what(n##4)                            \
	what(n##5) what(n##6) what(n##7) what(n##8) what(n##9)
#define HUNDRED(what, n) TEN(what, n##0) TEN(what, n##1) TEN(what, n##2) TEN(what, n##3) TEN(what, n##4) \
	TEN(what, n##5) TEN(what, n##6) TEN(what, n##7) TEN(what, n##8) TEN(what, n##9)
#define THOUSAND(what) HUNDRED(what, 1) HUNDRED(what, 2) HUNDRED(what, 3) HUNDRED(what, 4)             \
	HUNDRED(what, 5) HUNDRED(what, 6) HUNDRED(what, 7) HUNDRED(what, 8) HUNDRED(what, 9)           \
	HUNDRED(what, 10)

THOUSAND(FUNCTION)

static struct klp_func funcs[] = { THOUSAND(ENTRY) {} };
static struct klp_object objects[] = { { .funcs = funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init large_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit large_exit(void)
{
}

module_init(large_init);
module_exit(large_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("large livepatch");
MODULE_INFO(livepatch, "Y");
