/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The tables that kpatch-build and klp-build leave in the modules they make, written down from their published
 * layouts. They let one compiler and one set of headers produce all the formats that inspect reads.
 */
#ifndef FORMATS_LAYOUTS_H
#define FORMATS_LAYOUTS_H

#include <linux/livepatch.h>
#include <linux/types.h>

/* kpatch-build, section .kpatch.funcs: 56 bytes each, no terminator. */
struct table_b_func {
	unsigned long new_addr;
	unsigned long new_size;
	unsigned long old_addr;
	unsigned long old_size;
	unsigned long sympos;
	const char *name;
	const char *objname;
};

/* kpatch-build, sections .kpatch.callbacks.*: then one zero word. */
struct table_b_callback {
	void *fn;
	const char *objname;
};

struct table_b_callbacks {
	struct table_b_callback first;
	unsigned long end;
};

/* klp-build, section .init.klp_funcs: 24 bytes each. */
struct table_c_func {
	const char *old_name;
	void *new_func;
	unsigned long sympos;
};

/* klp-build, section .init.klp_objects: 64 bytes each. */
struct table_c_object {
	const char *name;
	struct table_c_func *funcs;
	struct klp_callbacks callbacks;
	unsigned int nr_funcs;
};

#endif
