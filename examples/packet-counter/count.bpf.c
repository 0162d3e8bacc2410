// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Packets and bytes by protocol, at tc. Lets everything go its way. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <towpath/bpf/packet.h>

struct amount {
	__u64 packets;
	__u64 bytes;
};

/* Each CPU counts for itself, so nobody waits; who reads adds them up. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32); /* IP protocol number; 0: neither IPv4 nor IPv6 */
	__type(value, struct amount);
} counts SEC(".maps");

static __always_inline __u32 protocol_of(struct __sk_buff *skb)
{
	struct cursor c = cursor_skb(skb);
	struct packet_eth eth;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u8 protocol;

	if (!packet_eth(&c, &eth))
		return 0;
	if (eth.protocol == bpf_htons(ETH_P_IP)) {
		ip = packet_ipv4(&c);
		return ip ? ip->protocol : 0;
	}
	if (eth.protocol == bpf_htons(ETH_P_IPV6)) {
		ip6 = packet_ipv6(&c, &protocol);
		return ip6 ? protocol : 0;
	}
	return 0;
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 protocol = protocol_of(skb);
	struct amount *amount = bpf_map_lookup_elem(&counts, &protocol);

	if (amount) {
		amount->packets++;
		amount->bytes += skb->len;
	}
	return TC_ACT_UNSPEC; /* the next program decides */
}

char _license[] SEC("license") = "Dual BSD/GPL";
