// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#define WANT_REPLACE true
#include "kpatch.h"
