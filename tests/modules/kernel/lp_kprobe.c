// SPDX-License-Identifier: GPL-2.0
/*
 * An ordinary module that holds version_proc_show with a kprobe. With a post handler the kprobe may redirect the
 * function, which only one user may do at a time: a livepatch of it is refused while this is loaded. Without one the
 * two get along.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static bool post = true;
module_param(post, bool, 0444);
MODULE_PARM_DESC(post, "whether the kprobe has a post handler");

static int before(struct kprobe *probe, struct pt_regs *registers)
{
	return 0;
}

static void after(struct kprobe *probe, struct pt_regs *registers, unsigned long flags)
{
}

static struct kprobe probe = { .symbol_name = "version_proc_show", .pre_handler = before };

static int __init probe_init(void)
{
	if (post)
		probe.post_handler = after;
	return register_kprobe(&probe);
}

static void __exit probe_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module with a kprobe");
