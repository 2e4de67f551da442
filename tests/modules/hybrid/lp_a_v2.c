// SPDX-License-Identifier: GPL-2.0
/* The next version of off-band A: the same function. */
#include "hybrid.h"

FUNCTIONS(EXECDOMAINS);
LIVEPATCH("off-band livepatch A, version 2");
