/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where programs can be attached. Each place is tried with a program of two instructions. */
#include "feature_list.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel_since.h"

#define LOOPBACK 1 /* its ifindex in every new namespace */

enum how {
	BY_LOAD,   /* the kernel checks the place when the program is loaded */
	BY_DEVICE, /* a link to the loopback of a new namespace */
	BY_NETNS,  /* a link to that namespace */
	BY_SOCKMAP,
	BY_MAP, /* programs as values of a map: `attach` is that of the program */
	BY_BTF, /* struct_ops: `use` begins with the name of the kernel's struct */
};

struct place {
	const char *name;
	const char *use;
	enum how how;
	enum bpf_prog_type prog;
	enum bpf_attach_type attach;
	unsigned int since; /* 0: kernel_since.h knows */
};

#define CGROUP(name, use, prog, attach)                                                            \
	{ "cgroup " name, use, BY_LOAD, BPF_PROG_TYPE_##prog, BPF_##attach, 0 }
#define BOTH(name, use, before, after)                                                             \
	{ "cgroup " name "4",                                                                      \
	  use ", IPv4",                                                                            \
	  BY_LOAD,                                                                                 \
	  BPF_PROG_TYPE_CGROUP_SOCK_ADDR,                                                          \
	  BPF_CGROUP_##before##4##after,                                                           \
	  0 },                                                                                     \
		{ "cgroup " name "6",                                                              \
		  use ", IPv6",                                                                    \
		  BY_LOAD,                                                                         \
		  BPF_PROG_TYPE_CGROUP_SOCK_ADDR,                                                  \
		  BPF_CGROUP_##before##6##after,                                                   \
		  0 }

static const struct place places[] = {
	{ "xdp link", "XDP that goes when its owner does", BY_DEVICE, BPF_PROG_TYPE_XDP, BPF_XDP,
	  0 },
	{ "tcx link", "tc programs in an order, each with an owner", BY_DEVICE,
	  BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS, 0 },
	{ "netkit link", "programs in a container's netkit device", BY_DEVICE,
	  BPF_PROG_TYPE_SCHED_CLS, BPF_NETKIT_PRIMARY, 0 },
	{ "netfilter link", "at a hook of netfilter", BY_NETNS, BPF_PROG_TYPE_NETFILTER,
	  BPF_NETFILTER, 0 },
	{ "sk_lookup link", "which socket gets a packet or connection", BY_NETNS,
	  BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, 0 },
	{ "flow_dissector link", "how the kernel takes packets apart", BY_NETNS,
	  BPF_PROG_TYPE_FLOW_DISSECTOR, BPF_FLOW_DISSECTOR, 0 },
	{ "devmap program", "XDP behind a redirect, on the way out", BY_MAP, BPF_PROG_TYPE_XDP,
	  BPF_XDP_DEVMAP, 0 },
	{ "cpumap program", "XDP behind a redirect to another CPU", BY_MAP, BPF_PROG_TYPE_XDP,
	  BPF_XDP_CPUMAP, 0 },
	{ "sockmap msg verdict", "redirecting what a socket sends", BY_SOCKMAP,
	  BPF_PROG_TYPE_SK_MSG, BPF_SK_MSG_VERDICT, 0 },
	{ "sockmap stream verdict", "redirecting what a socket gets", BY_SOCKMAP,
	  BPF_PROG_TYPE_SK_SKB, BPF_SK_SKB_STREAM_VERDICT, 0 },
	{ "sockmap verdict", "the same, of UDP and Unix sockets, too", BY_SOCKMAP,
	  BPF_PROG_TYPE_SK_SKB, BPF_SK_SKB_VERDICT, 0 },
	CGROUP("ingress", "packets to the sockets of a cgroup", CGROUP_SKB, CGROUP_INET_INGRESS),
	CGROUP("egress", "packets from the sockets of a cgroup", CGROUP_SKB, CGROUP_INET_EGRESS),
	CGROUP("sock_create", "sockets that are made", CGROUP_SOCK, CGROUP_INET_SOCK_CREATE),
	CGROUP("sock_release", "sockets that are closed", CGROUP_SOCK, CGROUP_INET_SOCK_RELEASE),
	CGROUP("post_bind4", "ports that were taken, IPv4", CGROUP_SOCK, CGROUP_INET4_POST_BIND),
	CGROUP("post_bind6", "ports that were taken, IPv6", CGROUP_SOCK, CGROUP_INET6_POST_BIND),
	BOTH("bind", "bind()", INET, _BIND),
	BOTH("connect", "connect()", INET, _CONNECT),
	BOTH("sendmsg", "sendmsg() of UDP", UDP, _SENDMSG),
	BOTH("recvmsg", "recvmsg() of UDP", UDP, _RECVMSG),
	BOTH("getpeername", "getpeername()", INET, _GETPEERNAME),
	BOTH("getsockname", "getsockname()", INET, _GETSOCKNAME),
	CGROUP("connect_unix", "connect() of Unix sockets", CGROUP_SOCK_ADDR, CGROUP_UNIX_CONNECT),
	CGROUP("getsockopt", "getsockopt()", CGROUP_SOCKOPT, CGROUP_GETSOCKOPT),
	CGROUP("setsockopt", "setsockopt()", CGROUP_SOCKOPT, CGROUP_SETSOCKOPT),
	CGROUP("sock_ops", "the life of TCP connections", SOCK_OPS, CGROUP_SOCK_OPS),
	{ "tcp congestion control", "bpf_struct_ops_tcp_congestion_ops", BY_BTF,
	  BPF_PROG_TYPE_STRUCT_OPS, BPF_STRUCT_OPS, KERNEL(5, 6) },
	{ "qdisc", "bpf_struct_ops_Qdisc_ops", BY_BTF, BPF_PROG_TYPE_STRUCT_OPS, BPF_STRUCT_OPS,
	  KERNEL(6, 16) },
};

#define PLACES (sizeof(places) / sizeof(*places))

static int program_load(const struct place *p)
{
	/* 1 lets pass wherever it means anything; of tcx it is -1. */
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
		  .imm = p->attach == BPF_TCX_INGRESS ? -1 : 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = p->attach);

	/* Kernels before the attach type of XDP and tc links take none. */
	if (p->prog == BPF_PROG_TYPE_XDP || p->prog == BPF_PROG_TYPE_SCHED_CLS)
		opts.expected_attach_type = p->how == BY_MAP ? p->attach : 0;
	return bpf_prog_load(p->prog, "tw_probe", "GPL", insns, 2, &opts);
}

static int device_try(const struct place *p, int prog)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts,
		    .flags = p->attach == BPF_XDP ? XDP_FLAGS_SKB_MODE : 0);
	int link = bpf_link_create(prog, LOOPBACK, p->attach, &opts);

	/* The loopback is no netkit device, which only a kernel with netkit finds out. */
	return link >= 0 || (p->attach == BPF_NETKIT_PRIMARY && link == -ENXIO);
}

static int netns_try(const struct place *p, int prog)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (netns < 0)
		return -errno;
	if (p->attach == BPF_NETFILTER) {
		opts.netfilter.pf = NFPROTO_IPV4;
		opts.netfilter.hooknum = NF_INET_LOCAL_OUT;
		opts.netfilter.priority = 1;
	}
	return bpf_link_create(prog, p->attach == BPF_NETFILTER ? 0 : netns, p->attach, &opts) >= 0;
}

static int sockmap_try(const struct place *p, int prog)
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "tw_probe", 4, 4, 1, NULL);

	return map < 0 ? map : !bpf_prog_attach(prog, map, p->attach, 0);
}

static int map_try(const struct place *p, int prog)
{
	struct {
		uint32_t target;
		int prog;
	} value = { p->attach == BPF_XDP_DEVMAP ? LOOPBACK : 192, prog };
	enum bpf_map_type type =
		p->attach == BPF_XDP_DEVMAP ? BPF_MAP_TYPE_DEVMAP : BPF_MAP_TYPE_CPUMAP;
	int map = bpf_map_create(type, "tw_probe", 4, sizeof(value), 1, NULL);
	uint32_t key = 0;

	return map < 0 ? 0 : !bpf_map_update_elem(map, &key, &value, 0);
}

/* In a child with a network namespace of its own, which ends with all that was made. */
static int place_try(const struct place *p)
{
	int prog;

	if (p->how != BY_LOAD && unshare(CLONE_NEWNET))
		return -errno;
	prog = program_load(p);
	if (prog < 0)
		return prog == -EPERM ? prog : 0;
	switch (p->how) {
	case BY_DEVICE:
		return device_try(p, prog);
	case BY_NETNS:
		return netns_try(p, prog);
	case BY_SOCKMAP:
		return sockmap_try(p, prog);
	case BY_MAP:
		return map_try(p, prog);
	default:
		close(prog);
		return 1;
	}
}

static int place_probe(const struct place *p, const struct btf *btf)
{
	int status;
	pid_t pid;

	if (p->how == BY_BTF)
		return btf ? btf__find_by_name_kind(btf, p->use, BTF_KIND_STRUCT) > 0 : -ENOENT;
	if (p->how == BY_LOAD)
		return place_try(p);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		int res = place_try(p);

		_exit(res < 0 ? 2 : res);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? WEXITSTATUS(status) : -EINVAL;
}

int feature_link(unsigned int attach_type)
{
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].attach == attach_type)
			return place_probe(&places[i], NULL);
	return -EINVAL;
}

json_t *features_attach(const struct features *f)
{
	json_t *list = json_array();

	for (size_t i = 0; i < PLACES; i++) {
		const struct place *p = &places[i];
		json_t *item = feature_json(p->name, place_probe(p, f->btf),
					    p->since ?: kernel_since_attach_type(p->attach));

		json_object_set_new(item, "use",
				    json_string(p->how == BY_BTF ? "by struct_ops" : p->use));
		json_array_append_new(list, item);
	}
	return list;
}
