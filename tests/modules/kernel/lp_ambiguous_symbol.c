// SPDX-License-Identifier: GPL-2.0
/* Many functions of the kernel are called name_show, and this does not say which. */
#include "show.h"

LIVEPATCH_OF("livepatch of an ambiguous symbol", { .old_name = "name_show", .new_func = patched_version_show });
