/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Source translation to the outside (I6, I7). A port is claimed by inserting the reply entry,
 * which only one CPU can; then the forward entry. Each entry names the other's tuple, so
 * either rebuilds a lost twin.
 */
#ifndef TW_NAT_H
#define TW_NAT_H

#include "decide.h"

#define SNAT_TRIES 16

/* Does a flow to this destination leave with the uplink's address? */
static __always_inline bool masq_wanted(struct scratch *s)
{
	if (s->opener.family == 4 ? !tw_settings.masquerade4 : !tw_settings.masquerade6)
		return false;
	if (!tw_settings.have_nomasq)
		return true;
	s->prefix.prefixlen = 128;
	__builtin_memcpy(s->prefix.addr, &s->opener.daddr, 16);
	return !bpf_map_lookup_elem(&tw_nomasq, &s->prefix);
}

static __always_inline bool proto_has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_ICMP ||
	       proto == PROTO_ICMP6;
}

/* Does a socket of the host use (masquerade address, port) with this peer, or listen there? */
static __always_inline bool host_socket(struct __sk_buff *skb, struct scratch *s,
					const struct tw_tuple *t)
{
	struct bpf_sock_tuple *tuple = (void *)s->bytes; /* the stack is short here */
	struct bpf_sock *sk;
	__u32 size;

	if (t->family == 4) {
		tuple->ipv4.saddr = t->saddr.word[3];
		tuple->ipv4.daddr = t->daddr.word[3];
		tuple->ipv4.sport = t->sport;
		tuple->ipv4.dport = t->dport;
		size = sizeof(tuple->ipv4);
	} else {
		__builtin_memcpy(tuple->ipv6.saddr, &t->saddr, 16);
		__builtin_memcpy(tuple->ipv6.daddr, &t->daddr, 16);
		tuple->ipv6.sport = t->sport;
		tuple->ipv6.dport = t->dport;
		size = sizeof(tuple->ipv6);
	}
	if (t->proto == PROTO_TCP)
		sk = bpf_sk_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	else if (t->proto == PROTO_UDP)
		sk = bpf_sk_lookup_udp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Builds the reply entry of s->opener in s->flow; s->twin is its tuple. */
static __always_inline void reply_build(struct scratch *s, const struct decision *d, __u32 dir)
{
	struct tw_half *h = &s->flow.half[dir & 1];
	__u32 stamp = decision_stamp(d);

	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	h->stamp = s->flow.half[(dir & 1) ^ 1].stamp = stamp;
	h->seen = s->flow.half[(dir & 1) ^ 1].seen = jiffies_now();
	h->slot_to = d->from.slot;
	h->in = d->oif;
	half_local(h, &d->to, &d->from);
	h->flags = TW_HALF_TTL | TW_HALF_REWRITE | TW_HALF_TWIN | TW_HALF_REPLY_ENTRY;
	h->addr = s->opener.saddr;
	h->port = s->opener.sport;
}

/* Does the entry under s->twin belong to s->opener? */
static __always_inline bool reply_is_ours(struct scratch *s, const struct tw_half *h)
{
	return h->flags & TW_HALF_REPLY_ENTRY && h->port == s->opener.sport &&
	       h->addr.quad[0] == s->opener.saddr.quad[0] &&
	       h->addr.quad[1] == s->opener.saddr.quad[1];
}

/*
 * The forward entry found no room: the reply entry that was made for it (s->twin) goes out of
 * use at once and is collected by the next pass, as if it had been idle and marked.
 */
static __always_inline void reply_undo(struct scratch *s)
{
	struct tw_flow *f;
	__u32 dir;

	f = flow_find(s, &s->twin, &dir);
	if (!f || !reply_is_ours(s, &f->half[dir & 1]))
		return;
	f->half[0].seen = f->half[1].seen = jiffies_now() - LONG_AGO;
	if (state_swap(f, TW_IDLE_NO, TW_IDLE_MARKED))
		f->half[1].kind = TW_KIND_NONE;
	counter_add(TW_COUNTER_INSERTS, -1);
}

static __always_inline void twin_port(struct scratch *s, __be16 port)
{
	s->twin.dport = port;
	if (s->opener.proto == PROTO_ICMP || s->opener.proto == PROTO_ICMP6)
		s->twin.sport = port;
}

/*
 * Puts the reply entry for port s->twin.dport in place: made, or found to be ours and brought
 * up to date. 0, -EEXIST when another connection has the port, or another -errno.
 */
__weak __noinline int reply_claim(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	const struct decision *d;
	struct tw_flow *f;
	__u32 dir;
	int err;

	if (!s)
		return -EBUSY;
	d = &s->decision;
	dir = flow_key(s, &s->twin);
	reply_build(s, d, dir);
	err = (int)flow_insert(s, &s->twin);
	if (err != -EEXIST)
		return err;
	f = flow_find(s, &s->twin, &dir);
	if (!f || !reply_is_ours(s, &f->half[dir & 1]))
		return -EEXIST;
	/* Busy: another CPU renews the same, or the flow dies of age with its other entry. */
	flow_rewrite(f, &s->flow, d->reopen);
	return 0;
}

/* Where the search for a port begins. The finaliser is MurmurHash3's: each bit counts. */
static __always_inline __u32 tuple_hash(const struct tw_tuple *t)
{
	__u32 h = t->saddr.word[3] ^ t->daddr.word[3] * 0x9e3779b1u;

	h ^= (__u32)t->sport << 16 | t->dport;
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	return h ^ h >> 16;
}

/*
 * Chooses a port and claims it. `keep` is the port of a connection that is judged again, or 0.
 * Sockets of the host are avoided: the range is reserved, but a bind() may name a port.
 */
__weak __noinline int snat_claim(struct __sk_buff *skb, __be16 keep)
{
	struct scratch *s = scratch_get();
	__u32 range, first, i, hash;
	int err;

	if (!s)
		return TW_REASON_INTERNAL;
	tuple_reverse(&s->twin, &s->opener);
	s->twin.daddr = s->nat_addr;
	if (!proto_has_ports(s->opener.proto)) {
		err = reply_claim(skb);
		return !err ? 0 : err == -EEXIST ? TW_REASON_NO_PORT : TW_REASON_MAP_FULL;
	}
	if (keep) {
		twin_port(s, keep);
		s->nat_port = keep;
		err = reply_claim(skb);
		return !err ? 0 : err == -EEXIST ? TW_REASON_NO_PORT : TW_REASON_MAP_FULL;
	}
	first = tw_settings.snat_first;
	range = tw_settings.snat_last - first + 1;
	hash = tuple_hash(&s->opener);
	for (i = 0; i < SNAT_TRIES; i++) {
		__u32 port = first + (hash + i * 0x9e37u) % (range ?: 1);

		twin_port(s, bpf_htons(port));
		if (host_socket(skb, s, &s->twin))
			continue;
		s->nat_port = bpf_htons(port);
		err = reply_claim(skb);
		if (!err)
			return 0;
		if (err != -EEXIST)
			return TW_REASON_MAP_FULL;
	}
	s->nat_port = 0;
	return TW_REASON_NO_PORT;
}

/* Turns the OUT half that flow_build() made into a translated one; its next hop moves over. */
static __always_inline void flow_translate(struct scratch *s, const struct decision *d, __u32 dir)
{
	struct tw_half *fwd = &s->flow.half[dir & 1], *other = &s->flow.half[(dir & 1) ^ 1];
	__u32 stamp = other->stamp, seen = other->seen;

	__builtin_memset(other, 0, sizeof(*other));
	other->stamp = stamp;
	other->seen = seen;
	other->addr = d->hop;
	/* Its packets are expected at the port's egress hook, and nowhere else: queue_passed(). */
	if (d->from.flags & TW_EP_QUEUE_TO) {
		other->kind = TW_KIND_QUEUE;
		other->in = TW_IN_NOWHERE;
	}
	fwd->flags |= TW_HALF_REWRITE | TW_HALF_TWIN;
	fwd->addr = s->nat_addr;
	fwd->port = s->nat_port;
}

#endif
