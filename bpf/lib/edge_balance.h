/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The balancer's stage: frontend, backend, and on to it. An established connection costs the
 * look-up of its frontend, a hash of its addresses, and one load from a Maglev table.
 */
#ifndef TW_EDGE_BALANCE_H
#define TW_EDGE_BALANCE_H

#include "edge_error.h"
#include "edge_nat_error.h"
#include "edge_odd.h"
#include "edge_quic.h"
#include "edge_send.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_EDGE_BACKENDS);
	__type(key, __u32);
	__type(value, struct tw_edge_backend_count);
} tw_edge_backend_count SEC(".maps");

static __always_inline void edge_backend_count(__u32 backend, __u32 bytes, bool opening)
{
	struct tw_edge_backend_count *n = bpf_map_lookup_elem(&tw_edge_backend_count, &backend);

	if (n) {
		n->packets++;
		n->bytes += bytes;
		n->opened += opening;
	}
}

static __always_inline bool edge_tcp_opening(const struct edge_packet *p)
{
	return (p->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* A translated packet, changed already, on its way out. */
static __always_inline int edge_nat_send(struct xdp_md *xdp, const struct edge_packet *p,
					 const struct edge_hop *hop)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;

	if (data + sizeof(struct ethhdr) > end)
		return edge_drop(p, TW_EDGE_TRUNCATED);
	edge_mac_write(data, hop);
	edge_count(TW_EDGE_BALANCED, p->len);
	return edge_out(xdp, hop);
}

static __always_inline __u32 edge_nat_change(struct xdp_md *xdp, const struct edge_packet *p,
					     const struct tw_edge_nat *n)
{
	return p->flags & EDGE_ICMP_ERROR ? edge_nat_error(xdp, p, n) : edge_nat_rewrite(xdp, p, n);
}

/* The IP packet's length, by the frame: padding makes no frame too long for anything. */
static __always_inline __u32 edge_ip_len(const struct edge_packet *p)
{
	return p->len - p->l3_off;
}

/* What a packet of an open connection changes in its entry. */
static __always_inline void edge_nat_seen(struct xdp_md *xdp, const struct edge_packet *p,
					  struct edge_nat_work *w, struct tw_edge_nat *at,
					  bool reopen)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct ethhdr *eth = data;

	at->seen = edge_jiffies();
	if (reopen)
		at->tcp = p->tcp;
	else if ((w->n.tcp | p->tcp) != w->n.tcp)
		at->tcp = w->n.tcp | p->tcp;
	if ((void *)(eth + 1) > end || w->n.flags & TW_EDGE_NAT_REPLY)
		return;
	if (*(__u32 *)eth->h_source != *(__u32 *)(w->n.link + 6) ||
	    *(__u16 *)(eth->h_source + 4) != *(__u16 *)(w->n.link + 10))
		edge_nat_follow(xdp, at);
}

/* From the client to a backend. */
static __noinline int edge_nat_forward(struct xdp_md *xdp, struct edge_packet *p,
				       const struct edge_flow *flow)
{
	struct edge_nat_work *w = edge_nat_work();
	const struct tw_edge_backend *b;
	struct tw_edge_nat *at;
	__u32 reason, backend;
	struct edge_hop hop;
	bool reopen;

	if (!p || !flow || !w)
		return XDP_ABORTED;
	edge_nat_key(&w->key, &p->tuple);
	at = edge_nat_find(&w->key, &w->n);
	/* Its ports are used again, and where it went takes no new connections. */
	reopen = at && flow->opening && w->n.tcp & (TCP_FIN | TCP_RST);
	if (reopen && !edge_backend_takes(w->n.backend)) {
		edge_nat_twin(w);
		bpf_map_delete_elem(&tw_edge_nats, &w->key);
		bpf_map_delete_elem(&tw_edge_nats, &w->reply);
		at = NULL;
	}
	if (at && !flow->looking) {
		edge_nat_seen(xdp, p, w, at, reopen);
	} else if (!at) {
		if (flow->looking || (p->tuple.proto == PROTO_TCP && !flow->opening))
			return edge_drop(p, TW_EDGE_NAT_NO_FLOW);
		reason = edge_nat_open(xdp, flow);
		if (reason)
			return edge_drop(p, reason);
	}
	backend = w->n.backend;
	b = bpf_map_lookup_elem(&tw_edge_backends, &backend);
	if (!b || b->way != TW_EDGE_WAY_NAT)
		return edge_drop(p, TW_EDGE_NO_BACKEND);
	if (!edge_hop_find(b, &hop))
		return edge_drop(p, TW_EDGE_NO_NEIGHBOUR);
	/* By the frame, in which the shortest ones are padded. */
	if (edge_ip_len(p) > b->mtu)
		return edge_answer(xdp, p, TW_EDGE_TOO_BIG, b->mtu);
	reason = edge_nat_change(xdp, p, &w->n);
	if (reason == TW_EDGE_TTL)
		return edge_answer(xdp, p, reason, 0);
	if (reason)
		return edge_drop(p, reason);
	edge_backend_count(backend, edge_ip_len(p), flow->opening);
	return edge_nat_send(xdp, p, &hop);
}

/* From a backend to the client: EDGE_NEXT when it is no reply of a connection. */
static __noinline int edge_nat_reply(struct xdp_md *xdp, struct edge_packet *p)
{
	struct edge_nat_work *w = edge_nat_work();
	struct tw_edge_nat *at;
	struct edge_hop hop;
	__u32 reason;
	union {
		__u64 word;
		__u8 mac[8];
	} dst = {}, src = {};

	if (!p || !w)
		return EDGE_NEXT;
	edge_nat_key(&w->key, &p->tuple);
	at = edge_nat_find(&w->key, &w->n);
	if (!at || !(w->n.flags & TW_EDGE_NAT_REPLY))
		return EDGE_NEXT;
	__builtin_memcpy(dst.mac, w->n.link + 6, 6);
	__builtin_memcpy(src.mac, w->n.link, 6);
	hop = (struct edge_hop){ .dst = dst.word, .src = src.word, .ifindex = w->n.ifindex };
	if (!(p->flags & EDGE_ICMP_ERROR))
		edge_nat_seen(xdp, p, w, at, p->tcp & TCP_SYN);
	if (p->flags & EDGE_FRAG_FIRST)
		edge_frag_keep(p);
	reason = edge_nat_change(xdp, p, &w->n);
	if (reason == TW_EDGE_TTL)
		return edge_answer(xdp, p, reason, 0);
	if (reason)
		return edge_drop(p, reason);
	return edge_nat_send(xdp, p, &hop);
}

/* To a backend that knows the frontend's address, which answers the client itself (DSR). */
static __always_inline int edge_balance_send(struct xdp_md *xdp, const struct edge_packet *p,
					     const struct edge_flow *flow, __u32 backend)
{
	struct edge_outer o = { .inner4 = p->tuple.family == 4, .hash = (__u32)flow->hash };
	struct edge_hop hop;
	bool outer4;
	__u32 reason, size = 0;
	int action;

	o.b = bpf_map_lookup_elem(&tw_edge_backends, &backend);
	/* Neither NONE nor NAT, which this program may have been loaded without. */
	if (unlikely(!o.b || o.b->way - 1u >= TW_EDGE_WAY_NAT - 1u || !backend))
		return edge_drop(p, TW_EDGE_NO_BACKEND);
	if (unlikely(!edge_hop_find(o.b, &hop)))
		return edge_drop(p, TW_EDGE_NO_NEIGHBOUR);
	reason = edge_inner(xdp, p, &o);
	if (unlikely(reason == TW_EDGE_TTL))
		return edge_answer(xdp, p, reason, 0);
	if (unlikely(reason))
		return edge_drop(p, reason);
	o.gue = o.b->way == TW_EDGE_WAY_GUE;
	outer4 = o.b->addr.word[2] == bpf_htonl(0xffff) && !o.b->addr.quad[0];
	if (o.b->way != TW_EDGE_WAY_L2)
		size = edge_outer_size(&o, outer4);
	if (unlikely(o.len + size > o.b->mtu))
		return edge_answer(xdp, p, TW_EDGE_TOO_BIG, o.b->mtu - size);
	edge_backend_count(backend, o.len, flow->opening);
	if (o.b->way == TW_EDGE_WAY_L2)
		action = edge_send_l2(xdp, p, &o, &hop);
	else if (likely(outer4))
		action = edge_wrap(xdp, p, &o, &hop, true);
	else
		action = edge_wrap(xdp, p, &o, &hop, false);
	edge_count(likely(action != XDP_ABORTED) ? TW_EDGE_BALANCED : TW_EDGE_NO_HEADROOM, p->len);
	return action == XDP_ABORTED ? XDP_DROP : action;
}

static __always_inline int edge_balance(struct xdp_md *xdp, struct edge_packet *p)
{
	const struct tw_edge_balance *b = edge_balance_get();
	struct edge_flow flow = { .tuple = &p->tuple };
	enum edge_odd odd = EDGE_ODD_FLOW;
	const struct tw_edge_front *front;
	__u32 backend = 0;

	if (unlikely(!b))
		return EDGE_NEXT;
	if (unlikely(p->flags & (EDGE_FRAG_LATER | EDGE_ICMP_ERROR))) {
		odd = edge_odd(xdp, p);
		if (odd == EDGE_ODD_NONE)
			return EDGE_NEXT;
	}
	front = edge_front(b, &p->tuple.daddr, p->tuple.dport, p->tuple.proto);
	if (likely(!front)) {
		__u16 port = bpf_ntohs(p->tuple.dport);

		if (tw_edge_settings.nat && port >= b->nat_first && port <= b->nat_last)
			return edge_nat_reply(xdp, p);
		return EDGE_NEXT;
	}
	if (unlikely(odd == EDGE_ODD_NO_PORTS) && !(front->flags & TW_EDGE_FRONT_ADDRESS))
		return edge_drop(p, TW_EDGE_FRAG_NO_FIRST);
	if (unlikely(p->flags & EDGE_FRAG_FIRST))
		edge_frag_keep(p);
	if (unlikely(!edge_flow_entry(&flow, front)))
		return edge_drop(p, TW_EDGE_INTERNAL);
	flow.looking = p->flags & EDGE_ICMP_ERROR;
	flow.opening = edge_tcp_opening(p);
	flow.ending = p->tcp & (TCP_FIN | TCP_RST);
	if (tw_edge_settings.nat && unlikely(front->flags & TW_EDGE_FRONT_NAT))
		return edge_nat_forward(xdp, p, &flow);
	if (unlikely(front->flags & TW_EDGE_FRONT_QUIC && !flow.looking &&
		     !(p->flags & EDGE_FRAG_LATER)))
		backend = edge_quic_backend(xdp, p, front->service, &flow.opening);
	if (likely(!backend)) {
		backend = TW_MAGLEV_NOW(flow.word);
		if (unlikely(flow.word & TW_MAGLEV_OPEN)) {
			if (p->tuple.proto == PROTO_UDP && !(front->flags & TW_EDGE_FRONT_QUIC))
				flow.opening = edge_udp_opening(front->service);
			backend = edge_conn_backend(&flow);
		}
	}
	return edge_balance_send(xdp, p, &flow, backend);
}

#endif
