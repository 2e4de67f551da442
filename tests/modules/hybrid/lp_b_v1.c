// SPDX-License-Identifier: GPL-2.0
/* Off-band B, which shares nothing with A and the cumulative ones. */
#include "hybrid.h"

FUNCTIONS(LOADAVG);
LIVEPATCH("off-band livepatch B");
