/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The parser of the edge, in two steps: edge_packet_ip() finds the IP header and the addresses,
 * which is all that the filter on sources needs; edge_packet_rest() the transport. Everything
 * read is the attacker's: each read is checked against the frame, each loop is bounded. Headers
 * are expected in a frame's first buffer, where drivers put them.
 */
#ifndef TW_EDGE_PACKET_H
#define TW_EDGE_PACKET_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "edge_maps.h"
#include "wire.h"

#ifndef ETH_P_8021AD
#define ETH_P_8021AD 0x88A8
#endif

/* VLAN and QinQ. */
#define EDGE_VLAN_MAX 2
/* Transport headers begin below this, so that offsets stay small for the verifier. */
#define EDGE_HEADERS_MAX 512

enum edge_packet_flags {
	EDGE_FRAG_FIRST = 1 << 0,
	EDGE_FRAG_LATER = 1 << 1, /* has no transport header: ports and all below are 0 */
	EDGE_OPTIONS = 1 << 2,	  /* IPv4 options, or IPv6 extension headers */
	EDGE_ICMP_ERROR = 1 << 3, /* the packet that it is about begins at l4_off + 8 */
	EDGE_NO_PORTS = 1 << 4,	  /* a protocol without ports: both 0 */
	EDGE_BAD_LENGTH = 1 << 5, /* UDP whose length is not that of the packet */
};

struct edge_packet {
	struct tw_tuple tuple; /* ICMP echo: both ports are the identifier */
	__u32 len;	       /* of the whole frame, fragments (xdp.frags) with it */
	__u16 class;	       /* what the filter says of it: TW_EDGE_CLASS_*, 0: nothing */
	__u16 l4_off;	       /* edge_packet_rest() and later */
	__be32 frag_id;	       /* of a fragment; IPv4: 16 bits */
	__u8 tcp;	       /* TCP flags as on the wire */
	__u8 flags;	       /* enum edge_packet_flags */
	__u8 icmp_type;
	__u8 l3_off; /* from the start of the frame */
};

/* A rule allows it: neither filter nor limits hold. */
static __always_inline bool edge_allowed(const struct edge_packet *p)
{
	return (p->class & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_ALLOW;
}

struct edge_vlan {
	__be16 tci;
	__be16 proto;
};

/*
 * For an offset into the frame: in one register from the comparison to the addition, so that the
 * verifier knows its bounds; compilers like to compare a copy.
 */
static __always_inline bool offset_beyond(__u32 *off, __u32 max)
{
	asm volatile("" : "+r"(*off));
	if (*off > max)
		return true;
	asm volatile("" : "+r"(*off));
	return false;
}

static __always_inline __u32 edge_frame_len(struct xdp_md *xdp)
{
	if (tw_edge_settings.jumbo)
		return (__u32)bpf_xdp_get_buff_len(xdp);
	return xdp->data_end - xdp->data;
}

/* l3_off, len and the addresses; 0, or an enum tw_edge_reason. */
static __always_inline __u32 edge_packet_ip(struct xdp_md *xdp, struct edge_packet *p)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end, *l3;
	struct ethhdr *eth = data;
	__u32 off = sizeof(*eth);
	__be16 proto;

	*p = (struct edge_packet){ .len = edge_frame_len(xdp) };
	if ((void *)(eth + 1) > end)
		return TW_EDGE_TRUNCATED;
	proto = eth->h_proto;
	for (int i = 0; i <= EDGE_VLAN_MAX; i++) {
		struct edge_vlan *vlan = data + off;

		if (likely(proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD)))
			break;
		if (i == EDGE_VLAN_MAX)
			return TW_EDGE_VLAN_DEPTH;
		if ((void *)(vlan + 1) > end)
			return TW_EDGE_TRUNCATED;
		proto = vlan->proto;
		off += sizeof(*vlan);
	}
	p->l3_off = (__u8)off;
	l3 = data + off;
	if (likely(proto == bpf_htons(ETH_P_IP))) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		p->tuple.family = 4;
		addr_map4(&p->tuple.saddr, ip->saddr);
		addr_map4(&p->tuple.daddr, ip->daddr);
		return 0;
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		p->tuple.family = 6;
		__builtin_memcpy(&p->tuple.saddr, &ip->saddr, 16);
		__builtin_memcpy(&p->tuple.daddr, &ip->daddr, 16);
		return 0;
	}
	return TW_EDGE_NOT_IP;
}

static __always_inline __u32 edge_packet_ip4(const struct iphdr *ip, struct edge_packet *p)
{
	__u32 len = bpf_ntohs(ip->tot_len), head = ip->ihl * 4u;

	if (ip->version != 4 || head < sizeof(*ip) || len < head)
		return TW_EDGE_MALFORMED;
	if (len > p->len - p->l3_off)
		return TW_EDGE_TRUNCATED;
	p->tuple.proto = ip->protocol;
	p->l4_off = (__u16)(p->l3_off + head);
	if (head > sizeof(*ip))
		p->flags |= EDGE_OPTIONS;
	p->frag_id = ip->id;
	if (ip->frag_off & bpf_htons(IP_OFFSET))
		p->flags |= EDGE_FRAG_LATER;
	else if (ip->frag_off & bpf_htons(IP_MF))
		p->flags |= EDGE_FRAG_FIRST;
	return 0;
}

/* One extension header of type `next`: moves off behind it, and returns the next type in `next`. */
static __always_inline __u32 edge_packet_extension(void *data, void *end, struct edge_packet *p,
						   __u32 *off, __u8 *next)
{
	struct {
		__u8 next;
		__u8 len;
		__be16 offset;
		__be32 id;
	} *ext = data + *off;

	if ((void *)(ext + 1) > end)
		return TW_EDGE_TRUNCATED;
	if (*next == PROTO_FRAGMENT) {
		/* A fragment of a fragment would be a first and a later one at once. */
		if (p->flags & (EDGE_FRAG_FIRST | EDGE_FRAG_LATER))
			return TW_EDGE_MALFORMED;
		p->frag_id = ext->id;
		*off += 8;
		if (ext->offset & bpf_htons(0xfff8))
			p->flags |= EDGE_FRAG_LATER;
		else if (ext->offset & bpf_htons(1)) /* else a whole packet (RFC 6946) */
			p->flags |= EDGE_FRAG_FIRST;
	} else if (*next == PROTO_AH) {
		*off += (ext->len + 2u) * 4;
	} else {
		*off += (ext->len + 1u) * 8;
	}
	*next = ext->next;
	return 0;
}

static __always_inline __u32 edge_packet_ip6(void *data, void *end, const struct ipv6hdr *ip,
					     struct edge_packet *p)
{
	__u32 off = p->l3_off + (__u32)sizeof(*ip), reason;
	__u8 next = ip->nexthdr;

	if (ip->version != 6)
		return TW_EDGE_MALFORMED;
	if (bpf_ntohs(ip->payload_len) + sizeof(*ip) > p->len - p->l3_off)
		return TW_EDGE_TRUNCATED;
	for (int i = 0; i < IPV6_EXT_MAX; i++) {
		if (likely(!proto_is_extension(next)) || p->flags & EDGE_FRAG_LATER)
			break;
		p->flags |= EDGE_OPTIONS;
		if (offset_beyond(&off, EDGE_HEADERS_MAX))
			return TW_EDGE_EXT_HEADERS;
		reason = edge_packet_extension(data, end, p, &off, &next);
		if (reason)
			return reason;
	}
	if (off > EDGE_HEADERS_MAX || (proto_is_extension(next) && !(p->flags & EDGE_FRAG_LATER)))
		return TW_EDGE_EXT_HEADERS;
	p->tuple.proto = next;
	p->l4_off = (__u16)off;
	return 0;
}

/* A UDP length is that of the packet; a first fragment's, that of all fragments. */
static __always_inline void edge_packet_udp_length(__be16 len, __u32 l4_len, struct edge_packet *p)
{
	if (p->tuple.proto != PROTO_UDP || p->flags & EDGE_FRAG_FIRST)
		return;
	if (bpf_ntohs(len) != l4_len)
		p->flags |= EDGE_BAD_LENGTH;
}

/* Ports of the transport header at l4_off, the TCP flags, or the ICMP type and identifier. */
static __always_inline __u32 edge_packet_l4(void *l4, void *end, __u32 l4_len,
					    struct edge_packet *p)
{
	struct tcphdr_start {
		__be16 sport;
		__be16 dport;
		__u32 sequence[2];
		__u8 off;
		__u8 flags;
		__u8 rest[6];
	} *tcp = l4;
	struct {
		__u8 type;
		__u8 code;
		__u16 checksum;
		__be16 id;
		__u16 sequence;
	} *icmp = l4;

	switch (p->tuple.proto) {
	case PROTO_TCP:
		if ((void *)(tcp + 1) > end)
			return TW_EDGE_TRUNCATED;
		if (tcp->off >> 4 < 5)
			return TW_EDGE_MALFORMED;
		p->tcp = tcp->flags;
		p->tuple.sport = tcp->sport;
		p->tuple.dport = tcp->dport;
		return 0;
	case PROTO_UDP:
	case PROTO_SCTP:
		if (l4 + 8 > end)
			return TW_EDGE_TRUNCATED;
		if (tw_edge_settings.drop & TW_EDGE_DROP_BAD_LENGTH)
			edge_packet_udp_length(((__be16 *)l4)[2], l4_len, p);
		p->tuple.sport = tcp->sport;
		p->tuple.dport = tcp->dport;
		return 0;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		if ((p->tuple.proto == PROTO_ICMP) != (p->tuple.family == 4))
			return TW_EDGE_MALFORMED;
		if ((void *)(icmp + 1) > end)
			return TW_EDGE_TRUNCATED;
		p->icmp_type = icmp->type;
		if (icmp_classify(p->tuple.proto, icmp->type) == ICMP_CLASS_ECHO)
			p->tuple.sport = p->tuple.dport = icmp->id;
		else if (icmp_classify(p->tuple.proto, icmp->type) == ICMP_CLASS_ERROR)
			p->flags |= EDGE_ICMP_ERROR | EDGE_NO_PORTS;
		else
			p->flags |= EDGE_NO_PORTS;
		return 0;
	default:
		p->flags |= EDGE_NO_PORTS;
		return 0;
	}
}

/* All that edge_packet_ip() left open; 0, or the reason to drop it for. */
static __always_inline __u32 edge_packet_rest(struct xdp_md *xdp, struct edge_packet *p)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 l3_off = p->l3_off, l4_off, l3_len, reason;
	void *l3;

	if (offset_beyond(&l3_off,
			  sizeof(struct ethhdr) + EDGE_VLAN_MAX * sizeof(struct edge_vlan)))
		return TW_EDGE_INTERNAL;
	l3 = data + l3_off;
	if (p->tuple.family == 4) {
		if (l3 + sizeof(struct iphdr) > end)
			return TW_EDGE_TRUNCATED;
		reason = edge_packet_ip4(l3, p);
		l3_len = bpf_ntohs(((struct iphdr *)l3)->tot_len);
	} else {
		if (l3 + sizeof(struct ipv6hdr) > end)
			return TW_EDGE_TRUNCATED;
		reason = edge_packet_ip6(data, end, l3, p);
		l3_len = bpf_ntohs(((struct ipv6hdr *)l3)->payload_len) +
			 (__u32)sizeof(struct ipv6hdr);
	}
	if (reason || p->flags & EDGE_FRAG_LATER)
		return reason;
	l4_off = p->l4_off;
	if (offset_beyond(&l4_off, EDGE_HEADERS_MAX))
		return TW_EDGE_EXT_HEADERS;
	return edge_packet_l4(data + l4_off, end, l3_len - (l4_off - l3_off), p);
}

#endif
