/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Backends that know nothing of a balancer: destination and source are translated, and replies
 * come back here. A connection has two entries, under the client's tuple and under the
 * backend's. A port is claimed by inserting the backend's, which only one CPU can; the loser of a
 * race for the client's entry takes the winner's, and its own claim lapses unused.
 */
#ifndef TW_EDGE_NAT_H
#define TW_EDGE_NAT_H

#include "edge_send.h"

#define EDGE_NAT_TRIES 16

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tw_edge_nat_key);
	__type(value, struct tw_edge_nat);
} tw_edge_nats SEC(".maps");

/* Too large for the stack; valid for one packet. */
struct edge_nat_work {
	struct tw_edge_nat_key key;   /* of the packet */
	struct tw_edge_nat n;	      /* its entry, copied or made */
	struct tw_edge_nat_key reply; /* the twin's */
	struct tw_edge_nat back;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct edge_nat_work);
} tw_edge_scratch SEC(".maps");

static __always_inline struct edge_nat_work *edge_nat_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tw_edge_scratch, &zero);
}

static __always_inline void edge_nat_key(struct tw_edge_nat_key *key, const struct tw_tuple *t)
{
	key->saddr = t->saddr;
	key->daddr = t->daddr;
	key->sport = t->sport;
	key->dport = t->dport;
	*(__u32 *)&key->proto = t->proto;
}

static __always_inline __u32 edge_nat_tag(const struct tw_edge_nat_key *key)
{
	__u64 h = tw_edge_flow_hash(&key->saddr, (__u32)key->sport << 16 | key->dport, key->proto);

	h ^= (key->daddr.quad[0] ^ key->daddr.quad[1]) * 0x9e3779b97f4a7c15ull;
	return (__u32)(h >> 32) | 1;
}

/*
 * The entry of a tuple, copied. An element that is deleted meanwhile may be used again at once: its
 * tag is written before the rest, so it is looked at after the rest was read.
 */
static __always_inline struct tw_edge_nat *edge_nat_find(const struct tw_edge_nat_key *key,
							 struct tw_edge_nat *out)
{
	struct tw_edge_nat *n = bpf_map_lookup_elem(&tw_edge_nats, key);

	if (!n)
		return NULL;
	*out = *n;
	barrier();
	return *(volatile __u32 *)&n->tag == edge_nat_tag(key) ? n : NULL;
}

/* Addresses and ports in the packet become the entry's. 0, or the reason to drop it. */
static __always_inline __u32 edge_nat_rewrite(struct xdp_md *xdp, const struct edge_packet *p,
					      const struct tw_edge_nat *n)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	void *l3 = data + (p->l3_off & 31), *l4 = data + (p->l4_off & 1023);
	__u64 old = 0, new = 0;
	__be16 *ports = l4;
	__u16 *check;

	if (p->tuple.family == 4) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		if (ip->ttl <= 1)
			return TW_EDGE_TTL;
		old = (__u64)ip->saddr + ip->daddr;
		new = (__u64)n->saddr.word[3] + n->daddr.word[3];
		ip->saddr = n->saddr.word[3];
		ip->daddr = n->daddr.word[3];
		ip->check = ~edge_csum_fold((__u64)(__u16)~ip->check + (__u16)~edge_csum_fold(old) +
					    new);
		edge_ttl4(ip);
	} else {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return TW_EDGE_TRUNCATED;
		if (ip->hop_limit <= 1)
			return TW_EDGE_TTL;
		old = edge_sum(&ip->saddr, 32);
		new = edge_sum(&n->saddr, 32);
		__builtin_memcpy(&ip->saddr, &n->saddr, 32);
		ip->hop_limit--;
	}
	if (p->flags & EDGE_FRAG_LATER)
		return 0;
	if (l4 + 8 > end)
		return TW_EDGE_TRUNCATED;
	old += *(__u32 *)ports;
	ports[0] = n->sport;
	ports[1] = n->dport;
	new += *(__u32 *)ports;
	check = l4 + (p->tuple.proto == PROTO_TCP ? 16 : 6);
	if ((void *)(check + 1) > end)
		return TW_EDGE_TRUNCATED;
	if (p->tuple.proto == PROTO_UDP && !*check)
		return 0; /* sent without (RFC 768) */
	*check = ~edge_csum_fold((__u64)(__u16) ~*check + (__u16)~edge_csum_fold(old) + new);
	if (p->tuple.proto == PROTO_UDP && !*check)
		*check = 0xffff;
	return 0;
}

/* Everything in w is right but the port. 0, or the reason. */
static __noinline __u32 edge_nat_claim(__u32 hash)
{
	const struct tw_edge_balance *b = edge_balance_get();
	struct edge_nat_work *w = edge_nat_work();
	__u32 range;

	if (!b || !w)
		return TW_EDGE_INTERNAL;
	range = b->nat_last - b->nat_first + 1;
	for (__u32 i = 0; i < EDGE_NAT_TRIES; i++) {
		long err;

		w->reply.dport =
			bpf_htons((__u16)(b->nat_first + (hash + i * 0x9e37u) % (range ?: 1)));
		w->back.tag = edge_nat_tag(&w->reply);
		err = bpf_map_update_elem(&tw_edge_nats, &w->reply, &w->back, BPF_NOEXIST);
		if (!err)
			return 0;
		if (err != -17 /* EEXIST */)
			return TW_EDGE_NAT_FULL;
	}
	return TW_EDGE_NAT_NO_PORT;
}

/* Opens the connection of w->key: w->n is its entry. 0, or the reason to drop the packet. */
static __noinline __u32 edge_nat_open(struct xdp_md *xdp, const struct edge_flow *flow)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct edge_nat_work *w = edge_nat_work();
	const struct tw_edge_backend *b;
	__u32 backend, reason;

	if (!flow || !w || data + sizeof(struct ethhdr) > end)
		return TW_EDGE_INTERNAL;
	backend = TW_MAGLEV_NOW(flow->word);
	b = bpf_map_lookup_elem(&tw_edge_backends, &backend);
	if (!backend || !b || b->way != TW_EDGE_WAY_NAT)
		return TW_EDGE_NO_BACKEND;
	if (!edge_insert_allowed())
		return TW_EDGE_NAT_RATE;
	/* Field by field: a literal would be put together on the stack, which is full (Linux 6.1). */
	__builtin_memset(&w->reply, 0, sizeof(w->reply));
	w->reply.saddr = b->addr;
	w->reply.daddr = b->source;
	w->reply.sport = b->port ?: w->key.dport;
	w->reply.proto = w->key.proto;
	__builtin_memset(&w->back, 0, sizeof(w->back));
	w->back.backend = (__u16)backend;
	w->back.flags = TW_EDGE_NAT_REPLY;
	w->back.saddr = w->key.daddr;
	w->back.sport = w->key.dport;
	w->back.daddr = w->key.saddr;
	w->back.dport = w->key.sport;
	w->back.seen = edge_jiffies();
	w->back.ifindex = xdp->ingress_ifindex;
	__builtin_memcpy(w->back.link, data, sizeof(w->back.link));
	reason = edge_nat_claim((__u32)flow->hash);
	if (reason)
		return reason;
	w->n = w->back;
	w->n.tag = edge_nat_tag(&w->key);
	w->n.flags = 0;
	w->n.saddr = b->source;
	w->n.sport = w->reply.dport;
	w->n.daddr = b->addr;
	w->n.dport = w->reply.sport;
	if (!bpf_map_update_elem(&tw_edge_nats, &w->key, &w->n, BPF_NOEXIST))
		return 0;
	bpf_map_delete_elem(&tw_edge_nats, &w->reply);
	return edge_nat_find(&w->key, &w->n) ? 0 : TW_EDGE_NAT_FULL;
}

/* The key of the entry by which packets of w->n are answered. */
static __always_inline void edge_nat_twin(struct edge_nat_work *w)
{
	w->reply = (struct tw_edge_nat_key){ .saddr = w->n.daddr,
					     .daddr = w->n.saddr,
					     .sport = w->n.dport,
					     .dport = w->n.sport,
					     .proto = w->key.proto };
}

/* The client's packets come from another neighbour than before: replies follow them. */
static __noinline int edge_nat_follow(struct xdp_md *xdp, struct tw_edge_nat *n)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct edge_nat_work *w = edge_nat_work();
	struct tw_edge_nat *r;

	if (!n || !w || data + sizeof(struct ethhdr) > end)
		return 0;
	edge_nat_twin(w);
	r = bpf_map_lookup_elem(&tw_edge_nats, &w->reply);
	if (!r || r->tag != edge_nat_tag(&w->reply))
		return 0;
	__builtin_memcpy(r->link, data, sizeof(r->link));
	r->ifindex = xdp->ingress_ifindex;
	__builtin_memcpy(n->link, data, sizeof(n->link));
	n->ifindex = xdp->ingress_ifindex;
	return 0;
}

#endif
