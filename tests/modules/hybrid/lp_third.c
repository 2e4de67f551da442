// SPDX-License-Identifier: GPL-2.0
/* Somebody's own livepatch of a function that the next cumulative patches too. */
#include "hybrid.h"

FUNCTIONS(UPTIME);
LIVEPATCH("livepatch of somebody else");
