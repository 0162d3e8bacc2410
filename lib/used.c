/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "used.h"

#include <bpf/libbpf.h>
#include <elf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>

#include "datapath_internal.h"
#include "edge.h"

#include "drops.skel.h"
#include "edge.skel.h"
#include "towpath.skel.h"

/* A helper, and neither a function of the program nor one of the kernel's. */
static void code_read(struct used *u, const struct bpf_insn *insns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (insns[i].code == (BPF_JMP | BPF_CALL) && !insns[i].src_reg &&
		    insns[i].imm > 0 && insns[i].imm < (int)USED_HELPERS)
			u->helper[insns[i].imm] = true;
}

/* Every section of code: libbpf shows programs only, without the functions that they call. */
static void sections_read(struct used *u, const void *elf)
{
	const Elf64_Ehdr *head = elf;
	const Elf64_Shdr *sections = (const void *)((const char *)elf + head->e_shoff);

	for (unsigned int i = 0; i < head->e_shnum; i++)
		if (sections[i].sh_type == SHT_PROGBITS && sections[i].sh_flags & SHF_EXECINSTR)
			code_read(u, (const void *)((const char *)elf + sections[i].sh_offset),
				  sections[i].sh_size / sizeof(struct bpf_insn));
}

static void object_read(struct used *u, const struct bpf_object *obj, const void *elf)
{
	struct bpf_program *prog;
	struct bpf_map *map;

	bpf_object__for_each_program(prog, obj) if (bpf_program__type(prog) < USED_TYPES)
		u->prog[bpf_program__type(prog)] = true;
	bpf_object__for_each_map(map, obj) if (bpf_map__type(map) < USED_TYPES)
		u->map[bpf_map__type(map)] = true;
	sections_read(u, elf);
}

int used_read(struct used *out)
{
	struct towpath_bpf *towpath = towpath_bpf__open();
	struct drops_bpf *drops = drops_bpf__open();
	struct edge_bpf *edge = edge_bpf__open();
	int res = towpath && drops && edge ? 0 : -ENOMEM;
	size_t size;

	if (!res) {
		memset(out, 0, sizeof(*out));
		object_read(out, towpath->obj, towpath_bpf__elf_bytes(&size));
		object_read(out, drops->obj, drops_bpf__elf_bytes(&size));
		object_read(out, edge->obj, edge_bpf__elf_bytes(&size));
	}
	towpath_bpf__destroy(towpath);
	drops_bpf__destroy(drops);
	edge_bpf__destroy(edge);
	return res;
}
