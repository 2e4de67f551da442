// SPDX-License-Identifier: GPL-2.0
/* Another build of the second, with the same state. */
#define STATE_VERSION 2
#define TAKES_OVER 1
#include "state.h"
