// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The shapes of a livepatch for arm64, without kernel headers: no kernel for arm64 with livepatching was at hand, so
 * the structures are written down from include/linux/livepatch.h. They cannot be loaded; they show what a compiler for
 * arm64 makes of pointers in data and of the store to the replace flag.
 *
 *   aarch64-linux-gnu-gcc-12 -O2 -ffreestanding -fno-pic -fno-asynchronous-unwind-tables -fno-ident -DTABLE=... \
 *       -DREPLACE=... -c probe.c && aarch64-linux-gnu-ld -r --build-id=none probe.o -o probe.ko
 */
typedef unsigned long u64;
typedef _Bool bool;
#define NULL ((void *)0)
#define SECTION(name) __attribute__((used, section(name)))

struct kobject { u64 opaque[8]; };
struct list_head { void *next, *prev; };

struct klp_func {
	const char *old_name;
	void *new_func;
	u64 old_sympos;
	void *old_func;
	struct kobject kobj;
	struct list_head node, stack_node;
	u64 old_size, new_size;
	bool nop, patched, transition;
};

struct klp_callbacks {
	void *pre_patch, *post_patch, *pre_unpatch, *post_unpatch;
	bool post_unpatch_enabled;
};

struct klp_object {
	const char *name;
	struct klp_func *funcs;
	struct klp_callbacks callbacks;
	struct kobject kobj;
	struct list_head func_list, node;
	void *mod;
	bool dynamic, patched;
};

struct klp_patch {
	void *mod;
	struct klp_object *objs;
	void *states;
	bool replace;
	u64 rest[22];
};

_Static_assert(sizeof(struct klp_func) == 152, "stride of functions");
_Static_assert(sizeof(struct klp_object) == 168, "stride of objects");

struct module {
	int state;
	struct list_head list;
	char name[56];
	u64 rest[64];
};

SECTION(".gnu.linkonce.this_module") struct module __this_module = { .name = "arm64_probe" };
SECTION(".modinfo") static const char info[] =
	"name=arm64_probe\0vermagic=6.18.0-probe SMP preempt mod_unload aarch64\0livepatch=Y\0license=GPL";

int klp_enable_patch(struct klp_patch *patch);
void *allocate(u64 size);

static int replacement(void)
{
	return 1;
}

#if TABLE == 'S'
static struct klp_func funcs[] = { { "cmdline_proc_show", replacement, 2 }, {} };
static struct klp_object objects[] = { { .funcs = funcs }, {} };
static struct klp_patch patch = { .mod = &__this_module, .objs = objects, .replace = 1 };

__attribute__((section(".init.text"))) int init_module(void)
{
#ifdef PARAMETER
	extern bool parameter;
	patch.replace = parameter;
#endif
	return klp_enable_patch(&patch);
}
#else
struct table_b_func {
	void *new_addr;
	u64 new_size, old_addr, old_size, sympos;
	const char *name, *objname;
};
SECTION(".kpatch.strings") static const char name[] = "cmdline_proc_show";
SECTION(".kpatch.strings") static const char object[] = "vmlinux";
SECTION(".kpatch.funcs") static struct table_b_func table[] = {
	{ .new_addr = replacement, .sympos = 2, .name = name, .objname = object },
};

static struct klp_patch *patch;

__attribute__((section(".init.text"))) int init_module(void)
{
	patch = allocate(sizeof(*patch));
	if (!patch)
		return -12;
	patch->mod = &__this_module;
#ifdef PARAMETER
	extern bool parameter;
	patch->replace = parameter;
#else
	patch->replace = REPLACE;
#endif
	return klp_enable_patch(patch);
}
#endif
