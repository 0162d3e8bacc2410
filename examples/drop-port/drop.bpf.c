// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Drops TCP to one port, 80 unless told otherwise, at XDP: before the stack has done any work for it. */
#include <linux/bpf.h>
#include <towpath/bpf/packet.h>

/* A constant for the verifier, that the loader may set before the program is loaded. */
const volatile __u16 port = 80;

__u64 dropped; /* in .bss, a map of one element */

static __always_inline bool is_unwanted(const struct xdp_md *ctx)
{
	struct cursor c = cursor_xdp(ctx);
	struct packet_eth eth;
	struct ipv6hdr *ip6;
	struct tcphdr *tcp;
	struct iphdr *ip;
	__u8 protocol = 0;

	if (!packet_eth(&c, &eth))
		return false;
	if (eth.protocol == bpf_htons(ETH_P_IP)) {
		ip = packet_ipv4(&c);
		/* A later fragment has no ports; without the first one it is of no use. */
		if (!ip || packet_ipv4_is_later(ip))
			return false;
		protocol = ip->protocol;
	} else if (eth.protocol == bpf_htons(ETH_P_IPV6)) {
		ip6 = packet_ipv6(&c, &protocol);
		if (!ip6)
			return false;
	}
	if (protocol != IPPROTO_TCP)
		return false;
	tcp = packet_tcp(&c);
	return tcp && tcp->dest == bpf_htons(port);
}

SEC("xdp")
int drop_port(struct xdp_md *ctx)
{
	if (!is_unwanted(ctx))
		return XDP_PASS;
	__sync_fetch_and_add(&dropped, 1);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
