// SPDX-License-Identifier: GPL-2.0
/* A cumulative that contains the fix of off-band A. */
#include "hybrid.h"

FUNCTIONS(VERSION, EXECDOMAINS);
LIVEPATCH("cumulative livepatch with atomic replace that contains off-band A", .replace = true);
