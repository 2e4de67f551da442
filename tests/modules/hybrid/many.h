/* SPDX-License-Identifier: GPL-2.0 */
/* One of many off-band livepatches on one node: patches the function of its number in lp_targets. */
#include "hybrid.h"

#define TEXT(number) #number
#define NAMED(number) "lp_target_" TEXT(number) "_show"

static struct klp_func funcs[] = { { .old_name = NAMED(NUMBER), .new_func = patched_show }, {} };
static struct klp_object objects[] = { { .name = "lp_targets", .funcs = funcs }, {} };
LIVEPATCH_OF_OBJECTS("one of many off-band livepatches");
