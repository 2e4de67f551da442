// SPDX-License-Identifier: GPL-2.0
/* A system call that every process makes at will: the patched one answers the same and counts. */
#include "scenario.h"
#include <linux/pid.h>
#include <linux/sched.h>

static atomic_t calls;
module_param_named(calls, calls.counter, int, 0444);
MODULE_PARM_DESC(calls, "how often the patched function ran");

static asmlinkage long patched_getpid(const struct pt_regs *registers)
{
	atomic_inc(&calls);
	return task_tgid_vnr(current);
}

static struct klp_func funcs[] = { { .old_name = "__x64_sys_getpid", .new_func = patched_getpid }, {} };
static struct klp_object objects[] = { { .funcs = funcs }, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

LIVEPATCH_MODULE(patch, "livepatch of a system call");
