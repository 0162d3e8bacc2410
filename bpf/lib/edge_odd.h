/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets that belong to a flow without saying so: ICMP errors speak of it inside, and fragments but
 * the first have no ports. Both end up with the tuple of the client's packets.
 */
#ifndef TW_EDGE_ODD_H
#define TW_EDGE_ODD_H

#include "edge_conn.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tw_frag_key);
	__type(value, struct tw_frag);
} tw_edge_frags SEC(".maps");

/* Linux gives up on a packet's missing fragments after as long (net.ipv4.ipfrag_time). */
#define EDGE_FRAG_SECONDS 30

/* What the inner packet of an ICMP error begins with, IPv6 extension headers not followed. */
struct edge_inner4 {
	struct iphdr ip;
	__be16 ports[2];
};

struct edge_inner6 {
	struct ipv6hdr ip;
	__be16 ports[2];
};

/*
 * An error is about a packet that went to the client, so the flow's tuple is that packet's
 * reversed. Its receiver must have sent that packet: who else may speak of the flow, nobody can say,
 * and the backend's own stack looks at it again (RFC 5927). False: it is not about a flow.
 */
static __always_inline bool edge_odd_error(struct xdp_md *xdp, struct edge_packet *p)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	void *at = data + (p->l4_off & 1023) + 8;
	struct tw_tuple t = { .family = p->tuple.family };

	if (p->tuple.family == 4) {
		struct edge_inner4 *in = at;

		if ((void *)(in + 1) > end || in->ip.version != 4 || in->ip.ihl != 5 ||
		    in->ip.frag_off & bpf_htons(IP_OFFSET))
			return false;
		addr_map4(&t.saddr, in->ip.daddr);
		addr_map4(&t.daddr, in->ip.saddr);
		t.proto = in->ip.protocol;
		t.sport = in->ports[1];
		t.dport = in->ports[0];
	} else {
		struct edge_inner6 *in = at;

		if ((void *)(in + 1) > end || in->ip.version != 6)
			return false;
		__builtin_memcpy(&t.saddr, &in->ip.daddr, 16);
		__builtin_memcpy(&t.daddr, &in->ip.saddr, 16);
		t.proto = in->ip.nexthdr;
		t.sport = in->ports[1];
		t.dport = in->ports[0];
	}
	if (t.proto != PROTO_TCP && t.proto != PROTO_UDP && t.proto != PROTO_SCTP)
		return false;
	if (!addr_equal(&t.daddr, &p->tuple.daddr))
		return false;
	p->tuple = t;
	return true;
}

static __always_inline void edge_frag_key(struct tw_frag_key *key, const struct edge_packet *p)
{
	*key = (struct tw_frag_key){
		.saddr = p->tuple.saddr,
		.daddr = p->tuple.daddr,
		.id = p->frag_id,
		.proto = p->tuple.proto,
	};
}

/* A first fragment leaves its ports for the others. */
static __noinline int edge_frag_keep(const struct edge_packet *p)
{
	struct tw_frag_key key;
	struct tw_frag ports;

	if (!p)
		return 0;
	edge_frag_key(&key, p);
	ports = (struct tw_frag){ p->tuple.sport, p->tuple.dport, edge_jiffies() };
	return (int)bpf_map_update_elem(&tw_edge_frags, &key, &ports, BPF_ANY);
}

/* Which gets its ports. */
static __always_inline bool edge_frag_ports(struct edge_packet *p)
{
	struct tw_frag_key key;
	struct tw_frag *ports;

	edge_frag_key(&key, p);
	ports = bpf_map_lookup_elem(&tw_edge_frags, &key);
	if (!ports || edge_jiffies() - ports->seen > EDGE_FRAG_SECONDS * tw_edge_settings.hz)
		return false;
	p->tuple.sport = ports->sport;
	p->tuple.dport = ports->dport;
	return true;
}

enum edge_odd {
	EDGE_ODD_FLOW,	   /* the tuple is the flow's */
	EDGE_ODD_NO_PORTS, /* a fragment whose first one is not known */
	EDGE_ODD_NONE,	   /* of no flow */
};

static __noinline enum edge_odd edge_odd(struct xdp_md *xdp, struct edge_packet *p)
{
	if (!p)
		return EDGE_ODD_NONE;
	if (p->flags & EDGE_ICMP_ERROR)
		return edge_odd_error(xdp, p) ? EDGE_ODD_FLOW : EDGE_ODD_NONE;
	if (p->flags & EDGE_FRAG_LATER && !edge_frag_ports(p))
		return EDGE_ODD_NO_PORTS;
	return EDGE_ODD_FLOW;
}

#endif
