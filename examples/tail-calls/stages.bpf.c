// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A chain of small programs: one looks what a packet is and jumps to the one for it. Each is verified for
 * itself, so together they may be larger than one program could be.
 */
#include <linux/bpf.h>
#include <towpath/bpf/packet.h>

enum stage { STAGE_TCP, STAGE_UDP, STAGE_OTHER, STAGES };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAGES);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

int stage_tcp(struct xdp_md *ctx);
int stage_udp(struct xdp_md *ctx);
int stage_other(struct xdp_md *ctx);

/* Filled by the loader, with the programs that are named here. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} stages SEC(".maps") = {
	.values = {
		[STAGE_TCP] = (void *)&stage_tcp,
		[STAGE_UDP] = (void *)&stage_udp,
		[STAGE_OTHER] = (void *)&stage_other,
	},
};

static __always_inline void count(__u32 stage)
{
	__u64 *n = bpf_map_lookup_elem(&seen, &stage);

	if (n)
		(*n)++;
}

static __always_inline enum stage stage_of(const struct xdp_md *ctx)
{
	struct cursor c = cursor_xdp(ctx);
	struct packet_eth eth;
	__u8 protocol = 0;
	struct iphdr *ip;

	if (packet_eth(&c, &eth) && eth.protocol == bpf_htons(ETH_P_IP)) {
		ip = packet_ipv4(&c);
		protocol = ip ? ip->protocol : 0;
	} else if (eth.protocol == bpf_htons(ETH_P_IPV6) && !packet_ipv6(&c, &protocol)) {
		protocol = 0;
	}
	return protocol == IPPROTO_TCP	 ? STAGE_TCP
	       : protocol == IPPROTO_UDP ? STAGE_UDP
					 : STAGE_OTHER;
}

SEC("xdp")
int classify(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &stages, stage_of(ctx));
	/* Only when the slot is empty: a tail call does not come back. */
	return XDP_PASS;
}

SEC("xdp")
int stage_tcp(struct xdp_md *ctx)
{
	count(STAGE_TCP);
	return XDP_PASS;
}

SEC("xdp")
int stage_udp(struct xdp_md *ctx)
{
	count(STAGE_UDP);
	return XDP_PASS;
}

SEC("xdp")
int stage_other(struct xdp_md *ctx)
{
	count(STAGE_OTHER);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
