/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Program types, map types, helpers and kernel functions that networking programs can use. */
#include "feature_list.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

#include "kernel_since.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define HELPERS_MAX 256u
#define ENOTSUPP_KERNEL 524

static const enum bpf_prog_type program_types[] = {
	BPF_PROG_TYPE_XDP,
	BPF_PROG_TYPE_SCHED_CLS,
	BPF_PROG_TYPE_SCHED_ACT,
	BPF_PROG_TYPE_CGROUP_SKB,
	BPF_PROG_TYPE_CGROUP_SOCK,
	BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
	BPF_PROG_TYPE_CGROUP_SOCKOPT,
	BPF_PROG_TYPE_SOCK_OPS,
	BPF_PROG_TYPE_SK_SKB,
	BPF_PROG_TYPE_SK_MSG,
	BPF_PROG_TYPE_SK_LOOKUP,
	BPF_PROG_TYPE_SK_REUSEPORT,
	BPF_PROG_TYPE_SOCKET_FILTER,
	BPF_PROG_TYPE_FLOW_DISSECTOR,
	BPF_PROG_TYPE_LWT_IN,
	BPF_PROG_TYPE_LWT_OUT,
	BPF_PROG_TYPE_LWT_XMIT,
	BPF_PROG_TYPE_LWT_SEG6LOCAL,
	BPF_PROG_TYPE_NETFILTER,
	BPF_PROG_TYPE_SYSCALL,
	BPF_PROG_TYPE_STRUCT_OPS,
	BPF_PROG_TYPE_TRACING,
};

/* Types whose helpers can be tried without a place to attach to. */
static bool type_has_helpers(enum bpf_prog_type type)
{
	return type != BPF_PROG_TYPE_STRUCT_OPS && type != BPF_PROG_TYPE_TRACING;
}

/*
 * libbpf's own probe, up to 1.4, takes the words of newer kernels ("program of this type cannot use
 * helper") for another error, behind which the helper is there.
 */
static int helper_try(unsigned int type, unsigned int helper, bool *known)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = (int)helper },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	char log[4096] = "";
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .log_buf = log, .log_size = sizeof(log),
		    .log_level = 1);

	if (type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR)
		opts.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
	else if (type == BPF_PROG_TYPE_CGROUP_SOCKOPT)
		opts.expected_attach_type = BPF_CGROUP_GETSOCKOPT;
	else if (type == BPF_PROG_TYPE_SK_LOOKUP)
		opts.expected_attach_type = BPF_SK_LOOKUP;
	else if (type == BPF_PROG_TYPE_NETFILTER)
		opts.expected_attach_type = BPF_NETFILTER;
	else if (type == BPF_PROG_TYPE_SYSCALL)
		opts.prog_flags = BPF_F_SLEEPABLE;
	int prog = bpf_prog_load((enum bpf_prog_type)type, "tw_probe", "GPL", insns, 2, &opts);

	*known = true;
	if (prog >= 0) {
		close(prog);
		return 1;
	}
	*known = !strstr(log, "invalid func ");
	if (!*known || strstr(log, "unknown func ") ||
	    strstr(log, "program of this type cannot use helper "))
		return 0;
	/* Without a word of the verifier it was something else that failed. */
	return *log ? 1 : prog;
}

int feature_helper(unsigned int type, unsigned int helper)
{
	bool known;

	return helper_try(type, helper, &known);
}

static const char *const kfuncs[] = {
	"bpf_cast_to_kern_ctx",
	"bpf_crypto_decrypt",
	"bpf_crypto_encrypt",
	"bpf_ct_change_timeout",
	"bpf_ct_insert_entry",
	"bpf_ct_release",
	"bpf_ct_set_nat_info",
	"bpf_dynptr_from_skb",
	"bpf_dynptr_from_skb_meta",
	"bpf_dynptr_from_xdp",
	"bpf_dynptr_slice",
	"bpf_iter_num_new",
	"bpf_kfree_skb",
	"bpf_map_sum_elem_count",
	"bpf_obj_new_impl",
	"bpf_qdisc_skb_drop",
	"bpf_rbtree_add_impl",
	"bpf_rdonly_cast",
	"bpf_res_spin_lock",
	"bpf_sk_assign_tcp_reqsk",
	"bpf_skb_ct_alloc",
	"bpf_skb_ct_lookup",
	"bpf_skb_get_fou_encap",
	"bpf_skb_get_hash",
	"bpf_skb_get_xfrm_info",
	"bpf_skb_set_fou_encap",
	"bpf_skb_set_xfrm_info",
	"bpf_sock_addr_set_sun_path",
	"bpf_sock_destroy",
	"bpf_sock_ops_enable_tx_tstamp",
	"bpf_wq_init",
	"bpf_xdp_ct_alloc",
	"bpf_xdp_ct_lookup",
	"bpf_xdp_flow_lookup",
	"bpf_xdp_get_xfrm_state",
	"bpf_xdp_metadata_rx_hash",
	"bpf_xdp_metadata_rx_timestamp",
	"bpf_xdp_metadata_rx_vlan_tag",
	"bpf_xdp_pull_data",
};

const char *feature_here(int result)
{
	return result == 1 ? "yes" : !result ? "no" : "unknown";
}

const char *feature_since(char buf[16], unsigned int since)
{
	snprintf(buf, 16, since ? "%u.%u" : "%.0u%.0u", KERNEL_MAJOR(since), KERNEL_MINOR(since));
	return buf;
}

json_t *feature_json(const char *name, int result, unsigned int since)
{
	json_t *item = json_pack("{s:s, s:s}", "name", name, "here", feature_here(result));
	char buf[16];

	if (since)
		json_object_set_new(item, "since", json_string(feature_since(buf, since)));
	return item;
}

json_t *features_programs(const struct features *f)
{
	json_t *list = json_array();

	for (size_t i = 0; i < COUNT(program_types); i++) {
		enum bpf_prog_type type = program_types[i];
		/* libbpf tries tracing by fentry, which is more than tracepoints need. */
		int here = type == BPF_PROG_TYPE_TRACING ? feature_tracing(f->btf)
							 : libbpf_probe_bpf_prog_type(type, NULL);
		json_t *item = feature_json(libbpf_bpf_prog_type_str(type), here,
					    kernel_since_prog_type(type));

		json_object_set_new(item, "used", json_boolean(f->used.prog[type]));
		json_array_append_new(list, item);
	}
	return list;
}

/*
 * libbpf's own probe of struct_ops, from 1.4 on, names a field that kernels before 6.9 do not know. A
 * type that is none is refused with a number of the kernel's own.
 */
static int map_probe(enum bpf_map_type type)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .btf_vmlinux_value_type_id = 1);

	if (type != BPF_MAP_TYPE_STRUCT_OPS)
		return libbpf_probe_bpf_map_type(type, NULL);
	int map = bpf_map_create(type, "tw_probe", 4, 4, 1, &opts);

	if (map >= 0)
		close(map);
	return map >= 0 || map == -ENOTSUPP_KERNEL;
}

json_t *features_maps(const struct features *f)
{
	json_t *list = json_array();

	/* What this build's libbpf has a name for. */
	for (unsigned int type = 1; type < USED_TYPES; type++) {
		const char *name = libbpf_bpf_map_type_str((enum bpf_map_type)type);
		json_t *item;

		if (!name)
			break;
		item = feature_json(name, map_probe((enum bpf_map_type)type),
				    kernel_since_map_type(type));
		json_object_set_new(item, "used", json_boolean(f->used.map[type]));
		json_array_append_new(list, item);
	}
	return list;
}

/* Those that make the kernel say something, or switch tracing on, when a program that has them is loaded. */
static bool helper_is_loud(unsigned int id)
{
	return id == BPF_FUNC_trace_printk || id == BPF_FUNC_trace_vprintk ||
	       id == BPF_FUNC_probe_write_user;
}

/* The types that may call it; NULL: others than those of networking only. */
static json_t *helper_types(unsigned int id, const bool there[COUNT(program_types)])
{
	json_t *types = json_array();
	bool known = true;

	for (size_t i = 0; i < COUNT(program_types) && known; i++)
		if (there[i] && helper_try(program_types[i], id, &known) == 1)
			json_array_append_new(
				types, json_string(libbpf_bpf_prog_type_str(program_types[i])));
	if (!known || json_array_size(types))
		return types;
	json_decref(types);
	return NULL;
}

json_t *features_helpers(const struct features *f)
{
	bool there[COUNT(program_types)];
	json_t *list = json_array();

	for (size_t i = 0; i < COUNT(program_types); i++)
		there[i] = type_has_helpers(program_types[i]) &&
			   libbpf_probe_bpf_prog_type(program_types[i], NULL) == 1;
	for (unsigned int id = 1; id < HELPERS_MAX; id++) {
		const char *name = helper_is_loud(id) ? NULL : kernel_helper_name(id);
		json_t *types = name ? helper_types(id, there) : NULL, *item;

		if (!types)
			continue;
		item = feature_json(name, json_array_size(types) > 0, kernel_since_helper(id));
		json_object_set_new(item, "types", types);
		json_object_set_new(item, "used", json_boolean(f->used.helper[id]));
		json_array_append_new(list, item);
	}
	return list;
}

/* ---- functions of the kernel ------------------------------------------------------------------ */

/* Those of modules are in BTF of their own. */
static void modules_search(const struct btf *kernel, bool found[COUNT(kfuncs)])
{
	uint32_t id = 0;

	while (!bpf_btf_get_next_id(id, &id)) {
		struct bpf_btf_info info = {};
		uint32_t len = sizeof(info);
		int fd = bpf_btf_get_fd_by_id(id);
		char name[64] = "";

		if (fd < 0)
			continue;
		info.name = (uint64_t)(uintptr_t)name;
		info.name_len = sizeof(name);
		bool module = !bpf_btf_get_info_by_fd(fd, &info, &len) && info.kernel_btf &&
			      strcmp(name, "vmlinux");

		close(fd);
		struct btf *btf =
			module ? btf__load_from_kernel_by_id_split(id, (struct btf *)kernel) : NULL;

		for (size_t i = 0; btf && i < COUNT(kfuncs); i++)
			found[i] = found[i] ||
				   btf__find_by_name_kind(btf, kfuncs[i], BTF_KIND_FUNC) > 0;
		btf__free(btf);
	}
}

json_t *features_kfuncs(const struct features *f)
{
	bool found[COUNT(kfuncs)] = {};
	json_t *list = json_array();

	for (size_t i = 0; f->btf && i < COUNT(kfuncs); i++)
		found[i] = btf__find_by_name_kind(f->btf, kfuncs[i], BTF_KIND_FUNC) > 0;
	if (f->btf)
		modules_search(f->btf, found);
	for (size_t i = 0; i < COUNT(kfuncs); i++)
		json_array_append_new(list, feature_json(kfuncs[i], f->btf ? found[i] : -ENOENT,
							 kernel_since_kfunc(kfuncs[i])));
	return list;
}
