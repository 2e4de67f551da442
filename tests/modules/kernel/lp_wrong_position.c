// SPDX-License-Identifier: GPL-2.0
/* There are not that many functions called name_show. */
#include "show.h"

LIVEPATCH_OF("livepatch of a symbol at a position that does not exist",
	     { .old_name = "name_show", .new_func = patched_version_show, .old_sympos = 9999 });
