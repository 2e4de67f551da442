// SPDX-License-Identifier: GPL-2.0
/*
 * An ordinary module that holds version_proc_show with a kprobe. Because of its post handler the kprobe may redirect
 * the function, which only one user may do at a time: a livepatch of it is refused while this is loaded.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static void after(struct kprobe *probe, struct pt_regs *registers, unsigned long flags)
{
}

static struct kprobe probe = { .symbol_name = "version_proc_show", .post_handler = after };

static int __init probe_init(void)
{
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
