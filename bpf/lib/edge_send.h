/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * On to a backend without translation: encapsulated (RFC 2003, 2473, 4213; Generic UDP
 * Encapsulation, draft-ietf-intarea-gue variant 1), or with another MAC address. A balancer is a
 * router: the client's packet loses one hop of its life here, so that no misconfigured backend
 * that sends it back keeps it going round.
 */
#ifndef TW_EDGE_SEND_H
#define TW_EDGE_SEND_H

#include "edge_conn.h"

#define EDGE_TTL 64
#define EDGE_GUE_HEAD 8

/* What leaves: the link layer's side of it. */
struct edge_hop {
	__u64 dst; /* as in struct tw_edge_backend */
	__u64 src;
	__u32 ifindex;
};

/* Tags of a frame that arrived with some: it leaves with the same. */
struct edge_tags {
	__be32 word[EDGE_VLAN_MAX];
};

struct edge_udp {
	__be16 sport;
	__be16 dport;
	__be16 len;
	__u16 check;
};

static __always_inline __u16 edge_csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

/* Ones' complement sum of size bytes, a multiple of 4 and a constant. */
static __always_inline __u64 edge_sum(const void *at, __u32 size)
{
	const __u32 *word = at;
	__u64 sum = 0;

	for (__u32 i = 0; i < size / 4; i++)
		sum += word[i];
	return sum;
}

/* RFC 1624, equation 3: old and new are sums of 16-bit words. */
static __always_inline __u16 edge_csum_update(__u16 check, __u32 old, __u32 new)
{
	return ~edge_csum_fold((__u64)(__u16)~check + (__u16)~edge_csum_fold(old) + new);
}

/* One hop less; the caller has looked that there is one. */
static __always_inline void edge_ttl4(struct iphdr *ip)
{
	ip->check = edge_csum_update(ip->check, bpf_htons(0x0100), 0);
	ip->ttl--;
}

/* The agent keeps it: bpf_fib_lookup costs 107 ns and wants forwarding switched on. */
static __always_inline bool edge_hop_find(const struct tw_edge_backend *b, struct edge_hop *hop)
{
	hop->dst = *(volatile const __u64 *)&b->dst;
	hop->src = *(volatile const __u64 *)&b->src;
	hop->ifindex = b->ifindex;
	return b->flags & TW_EDGE_BACKEND_HOP;
}

static __always_inline void edge_mac_write(struct ethhdr *eth, const struct edge_hop *hop)
{
	union {
		__u64 word;
		__u16 half[4];
	} dst = { hop->dst }, src = { hop->src };
	__u16 *to = (__u16 *)eth;

	to[0] = dst.half[0];
	to[1] = dst.half[1];
	to[2] = dst.half[2];
	to[3] = src.half[0];
	to[4] = src.half[1];
	to[5] = src.half[2];
}

static __always_inline int edge_out(const struct xdp_md *xdp, const struct edge_hop *hop)
{
	if (hop->ifindex == xdp->ingress_ifindex)
		return XDP_TX;
	return (int)bpf_redirect(hop->ifindex, 0);
}

/* The header before an inner packet of `len` bytes; at points behind the link layer. */
struct edge_outer {
	const struct tw_edge_backend *b;
	__u32 hash;
	__u16 len;
	__u8 tos; /* of the inner packet: its congestion marks count on the way, too (RFC 6040) */
	bool inner4;
	bool gue;
};

static __always_inline __u8 edge_outer_proto(const struct edge_outer *o)
{
	if (o->gue)
		return PROTO_UDP;
	return o->inner4 ? PROTO_IPIP : PROTO_IPV6;
}

static __always_inline void edge_outer_udp(struct edge_udp *udp, void *end,
					   const struct edge_outer *o)
{
	/* The caller has looked; the verifier has not seen it. */
	if ((void *)(udp + 1) > end)
		return;
	/* The source port tells flows apart for whoever spreads packets over queues or paths. */
	udp->sport = (__be16)(o->hash | bpf_htons(0xc000));
	udp->dport = o->b->port;
	udp->len = bpf_htons(o->len + EDGE_GUE_HEAD);
	udp->check = 0; /* allowed for IPv6, too: RFC 6935, RFC 6936 */
}

static __always_inline void edge_outer4(struct iphdr *ip, void *end, const struct edge_outer *o)
{
	__u16 len = bpf_htons((__u16)(o->len + sizeof(*ip) + (o->gue ? EDGE_GUE_HEAD : 0)));
	__u8 proto = edge_outer_proto(o);

	*(__u16 *)ip = bpf_htons((__u16)(0x4500 | o->tos));
	ip->tot_len = len;
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = EDGE_TTL;
	ip->protocol = proto;
	ip->check = ~edge_csum_fold((__u64)o->b->sum + len + bpf_htons(o->tos) +
				    bpf_htons((__u16)(EDGE_TTL << 8 | proto)));
	ip->saddr = o->b->source.word[3];
	ip->daddr = o->b->addr.word[3];
	if (o->gue)
		edge_outer_udp((struct edge_udp *)(ip + 1), end, o);
}

static __always_inline void edge_outer6(struct ipv6hdr *ip, void *end, const struct edge_outer *o)
{
	*(__be32 *)ip = bpf_htonl(0x60000000u | (__u32)o->tos << 20 | (o->hash & 0xfffff));
	ip->payload_len = bpf_htons((__u16)(o->len + (o->gue ? EDGE_GUE_HEAD : 0)));
	ip->nexthdr = edge_outer_proto(o);
	ip->hop_limit = EDGE_TTL;
	__builtin_memcpy(&ip->saddr, &o->b->source, 16);
	__builtin_memcpy(&ip->daddr, &o->b->addr, 16);
	if (o->gue)
		edge_outer_udp((struct edge_udp *)(ip + 1), end, o);
}

/* Length and TOS of the client's packet, and its hop. 0, or the reason why it cannot go on. */
static __always_inline __u32 edge_inner(struct xdp_md *xdp, const struct edge_packet *p,
					struct edge_outer *o)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	void *l3 = data + (p->l3_off & 31);

	if (o->inner4) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		if (unlikely(ip->ttl <= 1))
			return TW_EDGE_TTL;
		o->len = bpf_ntohs(ip->tot_len);
		o->tos = ip->tos;
	} else {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		if (unlikely(ip->hop_limit <= 1))
			return TW_EDGE_TTL;
		o->len = (__u16)(bpf_ntohs(ip->payload_len) + sizeof(*ip));
		o->tos = (__u8)(bpf_ntohs(*(__be16 *)ip) >> 4);
	}
	return 0;
}

static __always_inline void edge_inner_hop(void *l3, bool inner4)
{
	if (inner4)
		edge_ttl4(l3);
	else
		((struct ipv6hdr *)l3)->hop_limit--;
}

/* The bytes that encapsulation puts in front. */
static __always_inline __u32 edge_outer_size(const struct edge_outer *o, bool outer4)
{
	return (__u32)(outer4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) +
	       (o->gue ? EDGE_GUE_HEAD : 0);
}

/* The tags that it came with, and the type of what follows. */
static __always_inline void edge_type_write(struct ethhdr *eth, __u32 l3_off,
					    const struct edge_tags *tags, __be16 type)
{
	struct edge_tags *at = (void *)&eth->h_proto;

	if (likely(l3_off == sizeof(*eth))) {
		eth->h_proto = type;
		return;
	}
	*at = *tags;
	if (l3_off == sizeof(*eth) + sizeof(at->word[0]))
		*(__be16 *)&at->word[1] = type;
	else
		*(__be16 *)(at + 1) = type;
}

/* Everything in its place; size and the kinds of both packets are constants where this is used. */
static __always_inline int edge_wrap(struct xdp_md *xdp, const struct edge_packet *p,
				     const struct edge_outer *o, const struct edge_hop *hop,
				     bool outer4)
{
	__u32 size = edge_outer_size(o, outer4), l3_off = p->l3_off & 31;
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct edge_tags tags = {};
	struct ethhdr *eth;
	void *l3;

	if (data + sizeof(*eth) + sizeof(tags) > end || data + l3_off + sizeof(struct iphdr) > end)
		return XDP_ABORTED;
	if (unlikely(l3_off > sizeof(*eth)))
		__builtin_memcpy(&tags, data + 12, sizeof(tags));
	edge_inner_hop(data + l3_off, o->inner4);
	if (unlikely(bpf_xdp_adjust_head(xdp, -(int)size)))
		return XDP_ABORTED;
	data = (void *)(long)xdp->data;
	end = (void *)(long)xdp->data_end;
	if (data + sizeof(*eth) + sizeof(tags) > end || data + l3_off + size > end)
		return XDP_ABORTED;
	eth = data;
	edge_mac_write(eth, hop);
	edge_type_write(eth, l3_off, &tags, bpf_htons(outer4 ? ETH_P_IP : ETH_P_IPV6));
	l3 = data + l3_off;
	if (outer4)
		edge_outer4(l3, end, o);
	else
		edge_outer6(l3, end, o);
	return edge_out(xdp, hop);
}

static __always_inline int edge_send_l2(struct xdp_md *xdp, const struct edge_packet *p,
					const struct edge_outer *o, const struct edge_hop *hop)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 l3_off = p->l3_off & 31;

	if (data + sizeof(struct ethhdr) > end || data + l3_off + sizeof(struct iphdr) > end)
		return XDP_ABORTED;
	edge_inner_hop(data + l3_off, o->inner4);
	edge_mac_write(data, hop);
	return edge_out(xdp, hop);
}

#endif
