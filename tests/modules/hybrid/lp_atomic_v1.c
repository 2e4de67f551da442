// SPDX-License-Identifier: GPL-2.0
/* The cumulative livepatch that a fleet runs. */
#include "hybrid.h"

FUNCTIONS(VERSION);
LIVEPATCH("cumulative livepatch with atomic replace, version 1", .replace = true);
