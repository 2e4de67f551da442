// SPDX-License-Identifier: GPL-2.0
/* The entry code is not instrumented, so nothing can be redirected there. */
#include "show.h"

LIVEPATCH_OF("livepatch of a function that cannot be traced",
	     { .old_name = "do_syscall_64", .new_func = patched_version_show });
