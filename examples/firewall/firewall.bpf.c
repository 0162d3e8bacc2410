// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What the processes of a cgroup may connect to: prefixes that are allowed, everything else gets
 * EPERM from connect() and sendto(), before a packet exists. Loopback is always allowed.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct prefix {
	__u32 len; /* bits; 96 more for IPv4, whose addresses are mapped (::ffff:0:0/96) */
	struct in6_addr address;
};

struct allowed {
	__u16 port; /* host order; 0: any */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct allowed);
} allowed SEC(".maps");

__u64 denied;

static __always_inline int judge(const struct prefix *to, __u32 port)
{
	struct allowed *rule = bpf_map_lookup_elem(&allowed, to);

	if (rule && (!rule->port || rule->port == bpf_ntohs((__u16)port)))
		return 1;
	__sync_fetch_and_add(&denied, 1);
	return 0;
}

static __always_inline int judge4(struct bpf_sock_addr *ctx)
{
	struct prefix to = { .len = 128 };

	if ((bpf_ntohl(ctx->user_ip4) >> 24) == 127)
		return 1;
	to.address.s6_addr32[2] = bpf_htonl(0xffff);
	to.address.s6_addr32[3] = ctx->user_ip4;
	return judge(&to, ctx->user_port);
}

static __always_inline int judge6(struct bpf_sock_addr *ctx)
{
	struct prefix to = { .len = 128 };

	to.address.s6_addr32[0] = ctx->user_ip6[0];
	to.address.s6_addr32[1] = ctx->user_ip6[1];
	to.address.s6_addr32[2] = ctx->user_ip6[2];
	to.address.s6_addr32[3] = ctx->user_ip6[3];
	if (!to.address.s6_addr32[0] && !to.address.s6_addr32[1] && !to.address.s6_addr32[2] &&
	    to.address.s6_addr32[3] == bpf_htonl(1))
		return 1;
	return judge(&to, ctx->user_port);
}

SEC("cgroup/connect4")
int firewall_connect4(struct bpf_sock_addr *ctx)
{
	return judge4(ctx);
}

SEC("cgroup/connect6")
int firewall_connect6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx);
}

SEC("cgroup/sendmsg4")
int firewall_sendmsg4(struct bpf_sock_addr *ctx)
{
	return judge4(ctx);
}

SEC("cgroup/sendmsg6")
int firewall_sendmsg6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
