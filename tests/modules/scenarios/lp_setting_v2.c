// SPDX-License-Identifier: GPL-2.0
/* The second: takes the changed setting over from whoever had it. */
#define STATE_VERSION 2
#define TAKES_OVER 1
#include "state.h"
