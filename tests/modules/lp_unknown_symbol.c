// SPDX-License-Identifier: GPL-2.0
/* Refused by the kernel with EINVAL: there is no function of that name. */
#include "show.h"

DEFINE_VERSION_SHOW("unknown-symbol")
DEFINE_VMLINUX_FUNCS({ .old_name = "livepatch_tests_no_such_function", .new_func = patched_version_show });

static struct klp_object objects[] = { VMLINUX_OBJECT, {} };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects, .replace = true };

LIVEPATCH_MODULE(patch, "cumulative livepatch of a function that does not exist");
