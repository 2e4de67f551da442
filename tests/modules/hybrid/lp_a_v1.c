// SPDX-License-Identifier: GPL-2.0
/* Off-band A. */
#include "hybrid.h"

FUNCTIONS(EXECDOMAINS);
LIVEPATCH("off-band livepatch A, version 1");
