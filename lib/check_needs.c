/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a program uses, read from its instructions, and the first kernel that had each. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_internal.h"
#include "kernel_since.h"
#include "userprog_internal.h"

#define NEEDS_MAX 256

/* Of instruction sets that came after the kernel headers of this build. */
#ifndef BPF_JCOND
#define BPF_JCOND 0xe0 /* may_goto */
#endif

struct scan {
	struct tw_check *c;
	struct tw_check_program *out;
	struct bpf_object *obj;
	const int *fds;
	const struct btf *kernel; /* loaded when the first kfunc is met */
	struct tw_check_need needs[NEEDS_MAX];
	size_t n;
	bool has_function, has_tail_call;
};

static void need_add(struct scan *s, uint16_t since, const char *kind, const char *name)
{
	char what[160];

	snprintf(what, sizeof(what), "%s%s%s", kind, *name ? " " : "", name);
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->needs[i].what, what))
			return;
	if (s->n == NEEDS_MAX)
		return;
	s->needs[s->n] =
		(struct tw_check_need){ (uint16_t)KERNEL_MAJOR(since),
					(uint16_t)KERNEL_MINOR(since), check_keep(s->c, what) };
	s->n += s->needs[s->n].what != NULL;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void call_helper(struct scan *s, uint32_t id)
{
	const char *name = kernel_helper_name(id);
	char number[32];

	/* libbpf's numbers for what is not there, which no kernel will ever have as helpers. */
	if (id > 1u << 20)
		return;
	snprintf(number, sizeof(number), "number %u", id);
	check_list_add(s->c, &s->out->helpers, &s->out->n_helpers, name ? name : number);
	need_add(s, kernel_since_helper(id), "helper", name ? name : number);
	s->has_tail_call |= id == BPF_FUNC_tail_call;
}

/* Of modules (off is not 0) the name is not looked up. */
static void call_kfunc(struct scan *s, const struct bpf_insn *insn)
{
	const struct btf_type *type;
	const char *name = NULL;

	if (!s->kernel)
		s->kernel = btf__load_vmlinux_btf();
	type = s->kernel && !insn->off ? btf__type_by_id(s->kernel, (uint32_t)insn->imm) : NULL;
	if (type && btf_is_func(type))
		name = btf__name_by_offset(s->kernel, type->name_off);
	if (name)
		check_list_add(s->c, &s->out->kfuncs, &s->out->n_kfuncs, name);
	/* Declared __weak: the program asks whether it is there, and does without. */
	if (name && userprog_elf_is_weak(&s->c->file, name))
		return;
	need_add(s, KERNEL(5, 13), "calls of kfuncs", "");
	if (name)
		need_add(s, kernel_since_kfunc(name), "kfunc", name);
}

static void call_read(struct scan *s, const struct bpf_insn *insn)
{
	if (insn->src_reg == BPF_PSEUDO_CALL) {
		s->has_function = true;
		need_add(s, KERNEL(4, 16), "functions that are not inlined", "");
	} else if (insn->src_reg == BPF_PSEUDO_KFUNC_CALL) {
		call_kfunc(s, insn);
	} else if (!insn->src_reg) {
		call_helper(s, (uint32_t)insn->imm);
	}
}

/* ---- maps and instructions ------------------------------------------------------------------- */

static void map_read(struct scan *s, const struct bpf_map *map)
{
	uint32_t type = bpf_map__type(map), flags = bpf_map__map_flags(map);
	const char *name = libbpf_bpf_map_type_str(type);

	check_list_add(s->c, &s->out->maps, &s->out->n_maps, bpf_map__name(map));
	need_add(s, kernel_since_map_type(type), "map type", name ? name : "of a newer libbpf");
	if (flags & BPF_F_MMAPABLE && !bpf_map__is_internal(map))
		need_add(s, KERNEL(5, 5), "map flag", "BPF_F_MMAPABLE");
	if (flags & BPF_F_INNER_MAP)
		need_add(s, KERNEL(5, 10), "map flag", "BPF_F_INNER_MAP");
}

static void load_read(struct scan *s, const struct bpf_insn *insn)
{
	const struct bpf_map *map;
	size_t i = 0;

	switch (insn->src_reg) {
	case BPF_PSEUDO_MAP_VALUE:
		need_add(s, KERNEL(5, 2), "global variables", "");
		/* fallthrough */
	case BPF_PSEUDO_MAP_FD:
		bpf_object__for_each_map(map, s->obj)
		{
			if (s->fds[i++] == insn->imm)
				map_read(s, map);
		}
		return;
	case BPF_PSEUDO_BTF_ID:
		need_add(s, KERNEL(5, 10), "variables of the kernel (__ksym)", "");
		return;
	case BPF_PSEUDO_FUNC:
		need_add(s, KERNEL(5, 13), "callbacks", "");
		return;
	default:
		return;
	}
}

static void jump_read(struct scan *s, const struct bpf_insn *insn)
{
	uint8_t op = BPF_OP(insn->code);
	bool narrow = BPF_CLASS(insn->code) == BPF_JMP32;

	if (op == BPF_CALL && !narrow) {
		call_read(s, insn);
		return;
	}
	if (op == BPF_EXIT)
		return;
	if (op == BPF_JCOND)
		need_add(s, KERNEL(6, 9), "instruction", "may_goto");
	else if (narrow && op == BPF_JA)
		need_add(s, KERNEL(6, 6), "instructions of -mcpu=v4", "");
	else if (narrow)
		need_add(s, KERNEL(5, 1), "32-bit comparisons (-mcpu=v3)", "");
	else if (op == BPF_JLT || op == BPF_JLE || op == BPF_JSLT || op == BPF_JSLE)
		need_add(s, KERNEL(4, 14), "instructions of -mcpu=v2", "");
	if (insn->off < 0)
		need_add(s, KERNEL(5, 3), "loops", "");
}

/* v4 has signed division and moves (off is not 0), and byte swaps without a conversion. */
static bool is_v4_arithmetic(const struct bpf_insn *insn)
{
	uint8_t op = BPF_OP(insn->code);

	if (op == BPF_END)
		return BPF_CLASS(insn->code) == BPF_ALU64;
	return (op == BPF_DIV || op == BPF_MOD || op == BPF_MOV) && insn->off;
}

static void insn_read(struct scan *s, const struct bpf_insn *insn)
{
	uint8_t class = BPF_CLASS(insn->code), mode = insn->code & 0xe0;

	if (class == BPF_JMP || class == BPF_JMP32)
		jump_read(s, insn);
	else if (insn->code == (BPF_LD | BPF_IMM | BPF_DW))
		load_read(s, insn);
	else if (class == BPF_STX && mode == BPF_ATOMIC && insn->imm != BPF_ADD)
		need_add(s, KERNEL(5, 12), "atomic operations but for add", "");
	else if (class == BPF_LDX && mode == 0x80 /* BPF_MEMSX */)
		need_add(s, KERNEL(6, 6), "instructions of -mcpu=v4", "");
	else if ((class == BPF_ALU || class == BPF_ALU64) && is_v4_arithmetic(insn))
		need_add(s, KERNEL(6, 6), "instructions of -mcpu=v4", "");
}

/* ---- the program ------------------------------------------------------------------------------ */

/* "xdp.frags/devmap", "fentry.s/name": flags that libbpf takes from the section and keeps to itself. */
static bool section_has(const struct bpf_program *prog, const char *suffix)
{
	const char *section = bpf_program__section_name(prog);
	size_t len = strcspn(section, "/"), n = strlen(suffix);

	return len > n && !strncmp(section + len - n, suffix, n);
}

static void program_read(struct scan *s, const struct bpf_program *prog)
{
	uint32_t type = bpf_program__type(prog), attach = bpf_program__expected_attach_type(prog);
	const char *type_name = libbpf_bpf_prog_type_str(type);
	const char *attach_name = attach ? libbpf_bpf_attach_type_str(attach) : NULL;

	need_add(s, kernel_since_prog_type(type), "program type",
		 type_name ? type_name : "of a newer libbpf");
	/* libbpf leaves XDP's out on kernels that do not know it. */
	if (attach_name && attach != BPF_XDP)
		need_add(s, kernel_since_attach_type(attach), "attach type", attach_name);
	if (section_has(prog, ".s"))
		need_add(s, KERNEL(5, 10), "sleepable programs", "");
	if (section_has(prog, ".frags"))
		need_add(s, KERNEL(5, 18), "XDP with fragments", "");
	if (s->out->instructions > 4096)
		need_add(s, KERNEL(5, 2), "more than 4096 instructions", "");
	if (s->has_function && s->has_tail_call)
		need_add(s, KERNEL(5, 10), "tail calls beside functions", "");
}

static int by_release(const void *a, const void *b)
{
	const struct tw_check_need *x = a, *y = b;
	int newer = KERNEL(y->major, y->minor) - KERNEL(x->major, x->minor);

	return newer ? newer : strcmp(x->what, y->what);
}

void check_needs(struct tw_check *c, struct tw_check_program *out, struct bpf_object *obj,
		 struct bpf_program *prog, const int *fds)
{
	const struct bpf_insn *insns = bpf_program__insns(prog);
	struct scan s = { .c = c, .out = out, .obj = obj, .fds = fds };
	struct tw_check_need *needs;

	out->instructions = bpf_program__insn_cnt(prog);
	for (size_t i = 0; i < out->instructions; i++) {
		insn_read(&s, &insns[i]);
		i += insns[i].code == (BPF_LD | BPF_IMM | BPF_DW); /* two slots */
	}
	btf__free((struct btf *)s.kernel);
	program_read(&s, prog);
	qsort(s.needs, s.n, sizeof(*s.needs), by_release);
	needs = check_alloc(c, s.n, sizeof(*needs));
	if (!needs)
		return;
	memcpy(needs, s.needs, s.n * sizeof(*needs));
	out->needs = needs;
	out->n_needs = s.n;
}
