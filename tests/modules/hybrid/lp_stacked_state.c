// SPDX-License-Identifier: GPL-2.0
/* A cumulative without the replace flag that keeps a state. */
#include "hybrid.h"

static struct klp_state states[] = { { .id = 7, .version = 1 }, {} };
FUNCTIONS(VERSION, UPTIME);
LIVEPATCH("cumulative livepatch without atomic replace, with a state", .states = states);
