/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Features that Towpath uses, and what it does without them. */
#include "feature_list.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

#include "kernel_since.h"

enum probe {
	PROBE_PROGRAM,
	PROBE_MAP,
	PROBE_HELPER,
	PROBE_XDP_HELPER,
	PROBE_KFUNC,
	PROBE_LINK,
	PROBE_BTF,
	PROBE_JIT,
	PROBE_DROPS
};

struct feature {
	const char *name;
	const char *use;
	const char *without; /* NULL: nothing goes without it */
	enum probe probe;
	unsigned int id;    /* of the program type, map type, helper, attach type */
	unsigned int since; /* 0: kernel_since.h knows */
};

static const struct feature features[] = {
	{ "BTF of the kernel", "loading one build on every kernel", NULL, PROBE_BTF, 0,
	  KERNEL(5, 4) },
	{ "JIT", "speed", "programs are interpreted", PROBE_JIT, 0, KERNEL(4, 1) },
	{ "program tc", "the data path of containers and uplinks", NULL, PROBE_PROGRAM,
	  BPF_PROG_TYPE_SCHED_CLS, 0 },
	{ "tcx links", "attaching, in an order with others' programs",
	  "clsact filters, which the agent watches", PROBE_LINK, BPF_TCX_INGRESS, 0 },
	{ "program xdp", "the edge", "no edge", PROBE_PROGRAM, BPF_PROG_TYPE_XDP, 0 },
	{ "program syscall", "collecting flows inside the kernel", NULL, PROBE_PROGRAM,
	  BPF_PROG_TYPE_SYSCALL, 0 },
	{ "map hash", "flows, policy peers", NULL, PROBE_MAP, BPF_MAP_TYPE_HASH, 0 },
	{ "map array", "endpoints, policies, address pages", NULL, PROBE_MAP, BPF_MAP_TYPE_ARRAY,
	  0 },
	{ "map percpu_array", "counters", NULL, PROBE_MAP, BPF_MAP_TYPE_PERCPU_ARRAY, 0 },
	{ "map lru_hash", "fragments", NULL, PROBE_MAP, BPF_MAP_TYPE_LRU_HASH, 0 },
	{ "map lpm_trie", "IPv6 prefixes", NULL, PROBE_MAP, BPF_MAP_TYPE_LPM_TRIE, 0 },
	{ "map prog_array", "tail calls into the slow path", NULL, PROBE_MAP,
	  BPF_MAP_TYPE_PROG_ARRAY, 0 },
	{ "map ringbuf", "events of the flow log", NULL, PROBE_MAP, BPF_MAP_TYPE_RINGBUF, 0 },
	{ "helper redirect_peer", "container to container without a backlog", NULL, PROBE_HELPER,
	  BPF_FUNC_redirect_peer, 0 },
	{ "helper redirect_neigh", "to the outside past the host's stack", NULL, PROBE_HELPER,
	  BPF_FUNC_redirect_neigh, 0 },
	{ "helper fib_lookup", "routes to the outside", NULL, PROBE_HELPER, BPF_FUNC_fib_lookup,
	  0 },
	{ "helper for_each_map_elem", "collecting flows inside the kernel", NULL, PROBE_HELPER,
	  BPF_FUNC_for_each_map_elem, 0 },
	{ "helper jiffies64", "cheap time", NULL, PROBE_HELPER, BPF_FUNC_jiffies64, 0 },
	{ "helper sk_lookup_tcp", "keeping off ports that sockets of the host hold", NULL,
	  PROBE_HELPER, BPF_FUNC_sk_lookup_tcp, 0 },
	{ "helper ringbuf_reserve", "events of the flow log", NULL, PROBE_HELPER,
	  BPF_FUNC_ringbuf_reserve, 0 },
	{ "helper xdp_get_buff_len", "the edge, on devices with large frames", "no edge",
	  PROBE_XDP_HELPER, BPF_FUNC_xdp_get_buff_len, 0 },
	{ "reasons of kfree_skb",
	  "drops of the kernel's own stack, in the flow log and `towpath log`",
	  "these drops are not told", PROBE_DROPS, 0, KERNEL(5, 17) },
	{ "kfunc bpf_cast_to_kern_ctx", "checksums by hand", "one helper call more a packet",
	  PROBE_KFUNC, 0, KERNEL(6, 2) },
};

/* A program that reads the third argument of the tracepoint, the reason. */
int feature_tracing(const struct btf *btf)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .src_reg = BPF_REG_1, .off = 16 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int id = btf ? btf__find_by_name_kind(btf, "btf_trace_kfree_skb", BTF_KIND_TYPEDEF)
		     : -ENOENT;
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_RAW_TP,
		    .attach_btf_id = id > 0 ? (uint32_t)id : 0);

	if (id < 0)
		return id == -ENOENT ? 0 : id;
	int prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "tw_probe", "GPL", insns, 3, &opts);

	if (prog < 0)
		return prog == -EPERM ? prog : 0;
	close(prog);
	return 1;
}

static int jit_probe(void)
{
	FILE *f = fopen("/proc/sys/net/core/bpf_jit_enable", "re");
	int on = -1;

	if (!f)
		return -errno;
	if (fscanf(f, "%d", &on) != 1)
		on = -1;
	fclose(f);
	return on < 0 ? -EINVAL : on > 0;
}

static int probe(const struct feature *f, const struct btf *btf)
{
	/* Only a syscall program may walk a map in every kernel that has both. */
	enum bpf_prog_type type = f->probe == PROBE_XDP_HELPER		? BPF_PROG_TYPE_XDP
				  : f->id == BPF_FUNC_for_each_map_elem ? BPF_PROG_TYPE_SYSCALL
									: BPF_PROG_TYPE_SCHED_CLS;

	switch (f->probe) {
	case PROBE_PROGRAM:
		return libbpf_probe_bpf_prog_type((enum bpf_prog_type)f->id, NULL);
	case PROBE_MAP:
		return libbpf_probe_bpf_map_type((enum bpf_map_type)f->id, NULL);
	case PROBE_HELPER:
	case PROBE_XDP_HELPER:
		return feature_helper(type, f->id);
	case PROBE_KFUNC:
		return btf ? btf__find_by_name_kind(btf, strchr(f->name, ' ') + 1, BTF_KIND_FUNC) >
				       0
			   : -ENOENT;
	case PROBE_LINK:
		return feature_link(f->id);
	case PROBE_DROPS:
		return feature_tracing(btf);
	case PROBE_BTF:
		return btf != NULL;
	case PROBE_JIT:
		return jit_probe();
	}
	return -EINVAL;
}

static unsigned int since(const struct feature *f)
{
	switch (f->probe) {
	case PROBE_PROGRAM:
		return kernel_since_prog_type(f->id);
	case PROBE_MAP:
		return kernel_since_map_type(f->id);
	case PROBE_HELPER:
	case PROBE_XDP_HELPER:
		return kernel_since_helper(f->id);
	case PROBE_LINK:
		return kernel_since_attach_type(f->id);
	default:
		return f->since;
	}
}

json_t *features_towpath(const struct features *f)
{
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(features) / sizeof(*features); i++) {
		const struct feature *one = &features[i];
		json_t *item = feature_json(one->name, probe(one, f->btf), since(one));

		json_object_set_new(item, "required", json_boolean(!one->without));
		json_object_set_new(item, "use", json_string(one->use));
		if (one->without)
			json_object_set_new(item, "without", json_string(one->without));
		json_array_append_new(list, item);
	}
	return list;
}
