// SPDX-License-Identifier: GPL-2.0
/* A cumulative without the replace flag, for a fleet that exchanges them by hand. */
#include "hybrid.h"

FUNCTIONS(VERSION);
LIVEPATCH("cumulative livepatch without atomic replace, version 1");
