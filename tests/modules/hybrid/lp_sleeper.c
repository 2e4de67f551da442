// SPDX-License-Identifier: GPL-2.0
/*
 * An ordinary module with a function for tasks to sleep in: a read of /proc/lp_sleeper does not return before somebody
 * writes to the file or kills the reader. A livepatch of lp_sleeper_read cannot finish its transition meanwhile; the
 * sleep is killable, not interruptible, so the kernel's own nudge after 15 s does not end it either.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/wait.h>

static DECLARE_WAIT_QUEUE_HEAD(sleepers);
static unsigned int wakeups;

static noinline ssize_t lp_sleeper_read(struct file *file, char __user *buffer, size_t length, loff_t *position)
{
	unsigned int before = READ_ONCE(wakeups);

	return wait_event_killable(sleepers, READ_ONCE(wakeups) != before);
}

static ssize_t lp_sleeper_write(struct file *file, const char __user *buffer, size_t length, loff_t *position)
{
	WRITE_ONCE(wakeups, wakeups + 1);
	wake_up_all(&sleepers);
	return length;
}

static const struct proc_ops operations = {
	.proc_read = lp_sleeper_read,
	.proc_write = lp_sleeper_write,
};

static int __init sleeper_init(void)
{
	return proc_create("lp_sleeper", 0666, NULL, &operations) ? 0 : -ENOMEM;
}

static void __exit sleeper_exit(void)
{
	WRITE_ONCE(wakeups, wakeups + 1);
	wake_up_all(&sleepers);
	remove_proc_entry("lp_sleeper", NULL);
}

module_init(sleeper_init);
module_exit(sleeper_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ordinary module with a function to sleep in");
