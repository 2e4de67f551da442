// SPDX-License-Identifier: GPL-2.0
/* The next cumulative: contains what version 1 patches, and one function more. */
#include "hybrid.h"

FUNCTIONS(VERSION, UPTIME);
LIVEPATCH("cumulative livepatch with atomic replace, version 2", .replace = true);
