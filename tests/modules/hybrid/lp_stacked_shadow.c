// SPDX-License-Identifier: GPL-2.0
/* A cumulative without the replace flag that uses a shadow variable, which outlives the functions that made it. */
#include "hybrid.h"

#define READS 0x11fe

static int counting_show(struct seq_file *m, void *v)
{
	unsigned long *reads = klp_shadow_get_or_alloc(m->private, READS, sizeof(*reads), GFP_KERNEL, NULL, NULL);

	if (reads)
		++*reads;
	return patched_show(m, v);
}

FUNCTIONS(VERSION, { .old_name = "uptime_proc_show", .new_func = counting_show });
LIVEPATCH("cumulative livepatch without atomic replace, with a shadow variable");
