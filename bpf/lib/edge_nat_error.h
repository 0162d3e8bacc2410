/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP errors about translated connections, in both directions: the receiver gets one that speaks
 * of the packet that it sent itself.
 */
#ifndef TW_EDGE_NAT_ERROR_H
#define TW_EDGE_NAT_ERROR_H

#include "edge_nat.h"

/* Where the parts of an error are, IPv4 without options and IPv6 without extension headers. */
struct edge_nat_error4 {
	struct iphdr outer;
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 info;
	struct iphdr inner;
	__be16 ports[2];
};

struct edge_nat_error6 {
	struct ipv6hdr outer;
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 info;
	struct ipv6hdr inner;
	__be16 ports[2];
};

/*
 * n: the entry that the flow's packets in the error's own direction have. The packet inside ran
 * the other way, so it becomes that entry's reverse. The transport's checksum inside is left, as
 * nobody can verify it over a part.
 */
static __always_inline __u32 edge_nat_error4(void *l3, void *end, const struct tw_edge_nat *n)
{
	struct edge_nat_error4 *e = l3;
	__u32 old_ports, new_ports;

	if ((void *)(e + 1) > end)
		return TW_EDGE_TRUNCATED;
	if (e->outer.ttl <= 1)
		return TW_EDGE_TTL;
	old_ports = *(__u32 *)e->ports;
	e->inner.check =
		~edge_csum_fold((__u64)(__u16)~e->inner.check +
				(__u16)~edge_csum_fold((__u64)e->inner.saddr + e->inner.daddr) +
				n->daddr.word[3] + n->saddr.word[3]);
	e->inner.saddr = n->daddr.word[3];
	e->inner.daddr = n->saddr.word[3];
	e->ports[0] = n->dport;
	e->ports[1] = n->sport;
	new_ports = *(__u32 *)e->ports;
	/* The inner header's sum makes up for its addresses. */
	e->check = ~edge_csum_fold((__u64)(__u16)~e->check + (__u16)~edge_csum_fold(old_ports) +
				   new_ports);
	e->outer.check = ~edge_csum_fold((__u64)(__u16)~e->outer.check +
					 (__u16)~edge_csum_fold(e->outer.daddr) + n->daddr.word[3]);
	e->outer.daddr = n->daddr.word[3];
	edge_ttl4(&e->outer);
	return 0;
}

static __always_inline __u32 edge_nat_error6(void *l3, void *end, const struct tw_edge_nat *n)
{
	struct edge_nat_error6 *e = l3;
	__u64 old, new;

	if ((void *)(e + 1) > end)
		return TW_EDGE_TRUNCATED;
	if (e->outer.hop_limit <= 1)
		return TW_EDGE_TTL;
	old = edge_sum(&e->outer.daddr, 16) + edge_sum(&e->inner.saddr, 36);
	__builtin_memcpy(&e->outer.daddr, &n->daddr, 16);
	__builtin_memcpy(&e->inner.saddr, &n->daddr, 16);
	__builtin_memcpy(&e->inner.daddr, &n->saddr, 16);
	e->ports[0] = n->dport;
	e->ports[1] = n->sport;
	new = edge_sum(&e->outer.daddr, 16) + edge_sum(&e->inner.saddr, 36);
	e->check = ~edge_csum_fold((__u64)(__u16)~e->check + (__u16)~edge_csum_fold(old) + new);
	e->outer.hop_limit--;
	return 0;
}

static __always_inline __u32 edge_nat_error(struct xdp_md *xdp, const struct edge_packet *p,
					    const struct tw_edge_nat *n)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	void *l3 = data + (p->l3_off & 31);

	/* Offsets are those of plain headers. */
	if (p->flags & EDGE_OPTIONS)
		return TW_EDGE_MALFORMED;
	return p->tuple.family == 4 ? edge_nat_error4(l3, end, n) : edge_nat_error6(l3, end, n);
}

#endif
