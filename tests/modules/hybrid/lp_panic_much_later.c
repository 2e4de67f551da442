// SPDX-License-Identifier: GPL-2.0
/* A bad livepatch that shows it when whoever loaded it has turned away. */
#define SECONDS 120
#include "panic_later.h"
