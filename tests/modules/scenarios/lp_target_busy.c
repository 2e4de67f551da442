// SPDX-License-Identifier: GPL-2.0
/* An ordinary module whose work sleeps in a function to be patched for as long as `hold` is set. */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/workqueue.h>

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "whether the work goes on");

static noinline void lp_target_busy_work(struct work_struct *work)
{
	while (READ_ONCE(hold))
		msleep(20);
}

static DECLARE_WORK(busy, lp_target_busy_work);

static int __init busy_init(void)
{
	schedule_work(&busy);
	return 0;
}

static void __exit busy_exit(void)
{
	WRITE_ONCE(hold, false);
	flush_work(&busy);
}

module_init(busy_init);
module_exit(busy_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module with a busy worker");
