// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Counts TCP and UDP packets by source, and tells of the first one of each. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <towpath/bpf/packet.h>

struct amount {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, struct amount);
} sources SEC(".maps");

/* The reader finds its fields by the name of the struct. */
struct first {
	__be32 saddr;
	__be32 daddr;
	__u8 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} firsts SEC(".maps");

/* A struct that is only a local variable is in no BTF: this one is. */
const struct first *unused __attribute__((unused));

static __always_inline void tell(const struct iphdr *ip)
{
	struct first *first = bpf_ringbuf_reserve(&firsts, sizeof(*first), 0);

	if (!first)
		return;
	__builtin_memset(first, 0, sizeof(*first));
	first->saddr = ip->saddr;
	first->daddr = ip->daddr;
	first->protocol = ip->protocol;
	bpf_ringbuf_submit(first, 0);
}

SEC("tc")
int watch(struct __sk_buff *skb)
{
	struct cursor c = cursor_skb(skb);
	struct packet_eth eth;
	struct iphdr *ip = packet_eth(&c, &eth) ? packet_ipv4(&c) : NULL;
	struct amount *amount, one = { 1, skb->len };

	if (!ip)
		return TC_ACT_UNSPEC;
	amount = bpf_map_lookup_elem(&sources, &ip->saddr);
	if (amount) {
		amount->packets++;
		amount->bytes += skb->len;
	} else {
		tell(ip);
		bpf_map_update_elem(&sources, &ip->saddr, &one, BPF_ANY);
	}
	return TC_ACT_UNSPEC; /* the next program decides */
}

char _license[] SEC("license") = "Dual BSD/GPL";
