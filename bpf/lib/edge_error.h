/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP errors that the balancer makes itself, in place of the packet that caused one: too big for
 * the way to the backend (RFC 1191, RFC 8201), time exceeded. The sender is the address that the
 * client speaks to.
 */
#ifndef TW_EDGE_ERROR_H
#define TW_EDGE_ERROR_H

#include "edge_send.h"

/* What is quoted: for IPv4 the header and 8 bytes (RFC 792), for IPv6 as much. */
#define EDGE_QUOTE4 28
#define EDGE_QUOTE6 48

struct edge_icmp {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 info; /* frag-needed: MTU in the lower half; packet-too-big: MTU */
};

struct edge_error {
	__u8 type;
	__u8 code;
	__be32 info;
};

/* The frame goes back where it came from. */
static __always_inline void edge_mac_swap(struct ethhdr *eth)
{
	__u8 mac[6];

	__builtin_memcpy(mac, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, mac, 6);
}

static __always_inline bool edge_error4(void *l3, void *end, const struct edge_packet *p,
					const struct edge_error *e)
{
	struct iphdr *ip = l3;
	struct edge_icmp *icmp = (void *)(ip + 1);
	__u16 len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + EDGE_QUOTE4);

	if (l3 + sizeof(*ip) + sizeof(*icmp) + EDGE_QUOTE4 > end)
		return false;
	*(__u16 *)ip = bpf_htons(0x4500);
	ip->tot_len = len;
	ip->id = ip->frag_off = ip->check = 0;
	ip->ttl = EDGE_TTL;
	ip->protocol = PROTO_ICMP;
	ip->saddr = p->tuple.daddr.word[3];
	ip->daddr = p->tuple.saddr.word[3];
	ip->check = ~edge_csum_fold(edge_sum(ip, sizeof(*ip)));
	*icmp = (struct edge_icmp){ .type = e->type, .code = e->code, .info = e->info };
	icmp->check = ~edge_csum_fold(edge_sum(icmp, sizeof(*icmp) + EDGE_QUOTE4));
	return true;
}

static __always_inline bool edge_error6(void *l3, void *end, const struct edge_packet *p,
					const struct edge_error *e)
{
	struct ipv6hdr *ip = l3;
	struct edge_icmp *icmp = (void *)(ip + 1);
	__u16 len = bpf_htons(sizeof(*icmp) + EDGE_QUOTE6);

	if (l3 + sizeof(*ip) + sizeof(*icmp) + EDGE_QUOTE6 > end)
		return false;
	*(__be32 *)ip = bpf_htonl(0x60000000u);
	ip->payload_len = len;
	ip->nexthdr = PROTO_ICMP6;
	ip->hop_limit = EDGE_TTL;
	__builtin_memcpy(&ip->saddr, &p->tuple.daddr, 16);
	__builtin_memcpy(&ip->daddr, &p->tuple.saddr, 16);
	*icmp = (struct edge_icmp){ .type = e->type, .code = e->code, .info = e->info };
	/* Pseudo header: addresses, length, next header (RFC 8200, 8.1). */
	icmp->check = ~edge_csum_fold(edge_sum(&ip->saddr, 32) + len + bpf_htons(PROTO_ICMP6) +
				      edge_sum(icmp, sizeof(*icmp) + EDGE_QUOTE6));
	return true;
}

/* Turns the frame into the error: false, with the frame spoilt, when it has no room for it. */
static __always_inline bool edge_error_build(struct xdp_md *xdp, const struct edge_packet *p,
					     const struct edge_error *e)
{
	bool v4 = p->tuple.family == 4;
	__u32 l3_off = p->l3_off & 31;
	int head = (int)(v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) +
		   (int)sizeof(struct edge_icmp);
	__u32 quote = v4 ? EDGE_QUOTE4 : EDGE_QUOTE6;
	void *data, *end;
	__u8 link[sizeof(struct ethhdr) + sizeof(struct edge_tags)] __attribute__((aligned(8)));

	/* Every transport has 8 bytes; a frame that has not is no loss. */
	if (p->len < l3_off + quote || bpf_xdp_adjust_tail(xdp, -(int)(p->len - l3_off - quote)) ||
	    bpf_xdp_load_bytes(xdp, 0, link, sizeof(link)) || bpf_xdp_adjust_head(xdp, -head))
		return false;
	edge_mac_swap((struct ethhdr *)link);
	data = (void *)(long)xdp->data;
	end = (void *)(long)xdp->data_end;
	/* What is written beyond the link layer is overwritten next. */
	if (data + sizeof(link) > end)
		return false;
	__builtin_memcpy(data, link, sizeof(link));
	return v4 ? edge_error4(data + l3_off, end, p, e) : edge_error6(data + l3_off, end, p, e);
}

/*
 * Answers a packet that cannot go on. Not: ICMP errors, fragments but the first (RFC 1122 3.2.2),
 * IPv4 packets with options, whose first bytes behind the header would not be quoted.
 */
static __noinline int edge_answer(struct xdp_md *xdp, const struct edge_packet *p, __u32 reason,
				  __u32 mtu)
{
	const struct tw_edge_balance *b = edge_balance_get();
	struct edge_error e = {};
	__u32 zero = 0;
	struct edge_budget *budget = bpf_map_lookup_elem(&tw_edge_budget, &zero);

	if (!p || !b || !budget)
		return XDP_ABORTED;
	edge_count(reason, p->len);
	if (p->flags & (EDGE_FRAG_LATER | EDGE_ICMP_ERROR) ||
	    (p->tuple.family == 4 && p->flags & EDGE_OPTIONS))
		return XDP_DROP;
	if (!edge_take(&budget->icmp_since, &budget->icmp, b->icmp_rate)) {
		edge_balance_count(TW_EDGE_COUNT_ICMP_RATE);
		return XDP_DROP;
	}
	if (reason == TW_EDGE_TTL) {
		e.type = p->tuple.family == 4 ? 11 : 3;
	} else {
		e.type = p->tuple.family == 4 ? 3 : 2;
		e.code = p->tuple.family == 4 ? 4 : 0;
		e.info = bpf_htonl(mtu);
	}
	if (!edge_error_build(xdp, p, &e))
		return XDP_DROP;
	edge_balance_count(TW_EDGE_COUNT_ICMP_SENT);
	return XDP_TX;
}

#endif
