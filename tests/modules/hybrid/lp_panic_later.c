// SPDX-License-Identifier: GPL-2.0
/* A bad livepatch for a test that cannot wait for long. */
#define SECONDS 20
#include "panic_later.h"
