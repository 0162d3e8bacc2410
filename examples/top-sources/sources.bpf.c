// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Who sends to a container: packets and bytes by source address. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <towpath/bpf/packet.h>

/* IPv4 addresses are mapped (::ffff:192.0.2.1), so there is one map for both. */
struct source {
	struct in6_addr address;
};

struct amount {
	__u64 packets;
	__u64 bytes;
	__u64 last; /* ns since the boot */
};

/* When it is full, who has been silent for longest makes room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct source);
	__type(value, struct amount);
} sources SEC(".maps");

static __always_inline bool source_of(struct __sk_buff *skb, struct source *out)
{
	struct cursor c = cursor_skb(skb);
	struct packet_eth eth;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u8 protocol;

	if (!packet_eth(&c, &eth))
		return false;
	if (eth.protocol == bpf_htons(ETH_P_IP)) {
		ip = packet_ipv4(&c);
		if (!ip)
			return false;
		out->address.s6_addr32[2] = bpf_htonl(0xffff);
		out->address.s6_addr32[3] = ip->saddr;
		return true;
	}
	if (eth.protocol != bpf_htons(ETH_P_IPV6))
		return false;
	ip6 = packet_ipv6(&c, &protocol);
	if (!ip6)
		return false;
	out->address = ip6->saddr;
	return true;
}

SEC("tc")
int sources_count(struct __sk_buff *skb)
{
	struct source source = {};
	struct amount first = {}, *amount;

	if (!source_of(skb, &source))
		return TC_ACT_UNSPEC;
	amount = bpf_map_lookup_elem(&sources, &source);
	if (!amount) {
		/* Another CPU may be first; then its entry counts. */
		bpf_map_update_elem(&sources, &source, &first, BPF_NOEXIST);
		amount = bpf_map_lookup_elem(&sources, &source);
	}
	if (amount) {
		__sync_fetch_and_add(&amount->packets, 1);
		__sync_fetch_and_add(&amount->bytes, skb->len);
		amount->last = bpf_ktime_get_ns();
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
