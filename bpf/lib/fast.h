/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The established path: parse a plain TCP, UDP or SCTP packet, look its flow up once, check that
 * the decision is current and made for this ingress, act. Whatever is not plain is tail-called
 * away. Each line here is paid for by every packet: justify what you add with a figure.
 */
#ifndef TW_FAST_H
#define TW_FAST_H

#include "forward.h"
#include "packet.h"

/* A tail call that returns means that the slot is empty: fail closed. */
static __always_inline int packet_jump(struct __sk_buff *skb, __u32 jump, __u32 hook)
{
	bpf_tail_call(skb, &tw_jumps, jump);
	metric_count(TW_REASON_NO_PROGRAM, hook, skb->len);
	return TC_DROP;
}

/*
 * Larger than the way out takes? A GSO packet is measured by its segments (I9): what the card
 * or the stack will make of it has these headers each time.
 */
static __always_inline bool packet_too_big(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *offset = data + (p->l4_off & (HEADERS_MAX - 1)) + 12;
	__u32 headers = p->l4_off - ETH_HLEN;

	if (likely(p->len <= mtu))
		return false;
	if (!skb->gso_size)
		return true;
	if (p->tuple.proto != PROTO_TCP)
		headers += 8;
	else if ((void *)(offset + 1) > end)
		return true;
	else
		headers += (*offset >> 4) * 4;
	return skb->gso_size + headers > mtu;
}

/* A result that is no TC_* code: the packet was not acted upon, and why. */
#define NOT_DONE(reason) (256 + (reason))
#define NOT_CURRENT NOT_DONE(TW_REASON_COUNT) /* no decision that holds: to the slow path */

/*
 * Acts on a half whose decision, read at once, was `decided`. Returns a TC_* code or
 * NOT_DONE(reason).
 */
static __always_inline int half_forward(struct __sk_buff *skb, struct tw_half *h,
					struct tw_half *other, const struct packet *p,
					__u64 decided)
{
	const struct tw_half now = { .decided = decided };
	__u32 ifindex = h->out;
	__u8 dmac[6];

	if (now.kind == TW_KIND_STACK || now.kind == TW_KIND_PASS) {
		half_count(h, p->len, p->tcp);
		return TC_NEXT;
	}
	if (h->mtu && packet_too_big(skb, p, h->mtu))
		return NOT_DONE(TW_REASON_TOO_BIG);
	__builtin_memcpy(dmac, h->dmac, 6);
	if (now.flags & (TW_HALF_TTL | TW_HALF_REWRITE)) {
		struct rewrite r = {
			.source = kind_is_out(now.kind),
			.ttl = now.flags & TW_HALF_TTL,
			.nat = now.flags & TW_HALF_REWRITE,
			.l4 = !(p->flags & PACKET_FRAG_LATER),
			.family = p->tuple.family,
			.proto = p->tuple.proto,
			.l4_off = p->l4_off,
			.port = h->port,
			.addr = &h->addr,
		};
		int reason;

		reason = packet_rewrite(skb, &r);
		if (reason)
			return NOT_DONE(reason);
	}
	half_count(h, p->len, p->tcp);
	return redirect_half(skb, h, other, now.kind, now.flags, ifindex, dmac);
}

static __always_inline __u64 half_decided(const struct tw_half *h)
{
	return *(const volatile __u64 *)&h->decided;
}

/* Is the decision current, for this ingress? */
static __always_inline bool half_current(const struct tw_half *h, __u64 decided, __u32 in)
{
	const struct tw_half now = { .decided = decided };
	const struct tw_epochs *e = epochs_get();

	if (!e || h->in != in || now.kind == TW_KIND_NONE)
		return false;
	return now.stamp == stamp_of(e, h->slot_from, h->slot_to);
}

static __always_inline void packet_save(struct scratch *s, const struct packet *p, __u32 hook,
					__u8 flags)
{
	s->packet.in = p->in;
	s->packet.len = p->len;
	s->packet.l4_off = p->l4_off;
	s->packet.tcp = p->tcp;
	s->packet.flags = flags;
	s->packet.icmp_type = s->packet.icmp_code = 0;
	s->packet.hook = hook;
	s->packet.tuple.sport = p->tuple.sport;
	s->packet.tuple.dport = p->tuple.dport;
	s->packet.tuple.proto = p->tuple.proto;
	s->packet.tuple.family = p->tuple.family;
}

/* Everything but the looked-up flow's checks: those are the same for both families. */
static __always_inline int fast_flow(struct __sk_buff *skb, struct tw_flow *f, __u32 dir,
				     const struct packet *p, __u32 hook)
{
	struct tw_half *h = &f->half[dir & 1], *other = &f->half[(dir & 1) ^ 1];
	const struct tw_half now = { .decided = half_decided(h) };

	if (unlikely(!half_current(h, now.decided, p->in)))
		return NOT_CURRENT;
	if (unlikely(tcp_reopens(f, p->tcp)))
		return NOT_CURRENT;
	if (unlikely(now.kind == TW_KIND_DENY)) {
		struct scratch *s = scratch_get();
		struct ends none = {};

		if (!s)
			return TC_DROP;
		packet_save(s, p, hook, 0);
		half_count(h, p->len, p->tcp);
		return packet_drop(skb, s, &none, TW_REASON_REVOKED);
	}
	return half_forward(skb, h, other, p, now.decided);
}

/* What the fast path cannot even parse. */
static __always_inline int packet_odd(struct __sk_buff *skb, __u32 in, __u32 hook)
{
	struct scratch *s = scratch_get();

	if (!s)
		return TC_DROP;
	s->packet.in = in;
	s->packet.hook = hook;
	return packet_jump(skb, TW_JUMP_ODD, hook);
}

/* Leaves the parsed packet in the scratch and goes the slow way. Nothing of it was changed yet. */
static __always_inline int packet_new(struct __sk_buff *skb, const struct packet *p, __u32 hook,
				      __u8 flags)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct scratch *s = scratch_get();

	if (!s)
		return TC_DROP;
	packet_save(s, p, hook, flags);
	if (p->tuple.family == 4) {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return TC_DROP;
		addr_map4(&s->packet.tuple.saddr, ip->saddr);
		addr_map4(&s->packet.tuple.daddr, ip->daddr);
	} else {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return TC_DROP;
		__builtin_memcpy(&s->packet.tuple.saddr, &ip->saddr, 16);
		__builtin_memcpy(&s->packet.tuple.daddr, &ip->daddr, 16);
	}
	return packet_jump(skb, TW_JUMP_NEW, hook);
}

/* Ports and TCP flags; 8 bytes from `ports` on are there. False: odd. */
static __always_inline bool transport_parse(struct packet *p, __u8 proto, const __be16 *ports,
					    const void *end)
{
	p->tuple.proto = proto;
	p->tuple.sport = ports[0];
	p->tuple.dport = ports[1];
	if (proto != PROTO_TCP)
		return proto == PROTO_UDP || proto == PROTO_SCTP;
	if ((const void *)ports + 14 > end)
		return false;
	p->tcp = ((const __u8 *)ports)[13];
	return true;
}

static __always_inline int fast_path(struct __sk_buff *skb, __u32 in, const enum tw_hook hook)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct packet p = { .in = in };
	struct tw_flow *f;
	__be16 *ports;
	__u32 dir;
	int ret;

	p.len = skb->len - ETH_HLEN;
	if ((void *)(eth + 1) > end)
		return packet_odd(skb, in, hook);
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_HLEN;
		struct tw_flow4_key key;

		ports = (void *)(ip + 1);
		/* Version 4, five words, unfragmented, whole: else it is odd. */
		if ((void *)(ports + 4) > end || *(__u8 *)ip != 0x45 ||
		    (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)))
			return packet_odd(skb, in, hook);
		p.tuple.family = 4;
		p.l4_off = ETH_HLEN + sizeof(*ip);
		if (!transport_parse(&p, ip->protocol, ports, end))
			return packet_odd(skb, in, hook);
		dir = flow4_key(&key, ip->saddr, ip->daddr, ports[0], ports[1], p.tuple.proto);
		f = bpf_map_lookup_elem(&tw_flow4, &key);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		struct tw_flow6_key key;

		ports = (void *)(ip + 1);
		if ((void *)(ports + 4) > end || ip->version != 6)
			return packet_odd(skb, in, hook);
		p.tuple.family = 6;
		p.l4_off = ETH_HLEN + sizeof(*ip);
		if (!transport_parse(&p, ip->nexthdr, ports, end))
			return packet_odd(skb, in, hook);
		dir = flow6_key(&key, (union tw_addr *)&ip->saddr, (union tw_addr *)&ip->daddr,
				ports[0], ports[1], p.tuple.proto);
		f = bpf_map_lookup_elem(&tw_flow6, &key);
	} else {
		return packet_odd(skb, in, hook);
	}
	if (likely(f != NULL)) {
		ret = fast_flow(skb, f, dir, &p, hook);
		if (likely(ret < NOT_DONE(0)))
			return ret;
		/* Too big or TTL: the odd program parses again and answers. */
		if (ret != NOT_CURRENT)
			return packet_odd(skb, in, hook);
	}
	return packet_new(skb, &p, hook, f ? 0 : PACKET_NO_ENTRY);
}

#endif
