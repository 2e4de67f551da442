// SPDX-License-Identifier: GPL-2.0
/* The next one: contains what version 1 patches, and one function more. */
#include "hybrid.h"

FUNCTIONS(VERSION, UPTIME);
LIVEPATCH("cumulative livepatch without atomic replace, version 2");
