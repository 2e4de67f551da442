// SPDX-License-Identifier: GPL-2.0
/* The first: changes the setting, knows nothing of others. */
#define STATE_VERSION 1
#define TAKES_OVER 0
#include "state.h"
