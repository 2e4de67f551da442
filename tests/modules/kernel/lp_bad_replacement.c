// SPDX-License-Identifier: GPL-2.0
/* The new function is at an address where no function is, so its size cannot be looked up. */
#include "show.h"

LIVEPATCH_OF("livepatch with a function that is none", { .old_name = "version_proc_show", .new_func = (void *)4096 });
