/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Packets that the fast path does not take: not plain TCP or UDP, or not plain IP. */
#ifndef TW_ODD_H
#define TW_ODD_H

#include "icmp.h"

/* RFC 4861, RFC 2710, RFC 3810: what IPv6 needs on a link, and only there. */
static __always_inline bool icmp6_is_link(const struct packet *p)
{
	return p->tuple.proto == PROTO_ICMP6 &&
	       ((p->icmp_type >= 130 && p->icmp_type <= 137) || p->icmp_type == 143);
}

static __always_inline int odd_unparsed(struct __sk_buff *skb, struct scratch *s, __u32 reason)
{
	struct ends none = {};

	/*
	 * From an uplink the host's stack decides (neighbour discovery, multicast, its own
	 * fragments); should it forward such a packet to a container, the port's other hook
	 * drops it. What the host itself sends is its own. But nobody out there has an address
	 * of ours, whatever headers hide it (I2); in neighbour discovery that is a duplicate
	 * address, which the stack must hear of.
	 */
	if (s->packet.hook == TW_HOOK_FROM_UPLINK && !icmp6_is_link(&s->packet) &&
	    source_is_ours(s))
		return packet_drop(skb, s, &none, TW_REASON_SPOOFED);
	if (s->packet.hook == TW_HOOK_FROM_UPLINK || s->packet.in == TW_IN_HOST)
		return TC_NEXT;
	/*
	 * Every container's kernel does neighbour discovery and multicast listening by itself.
	 * Nobody asks after those drops; they are counted, and do not fill the log.
	 */
	if (reason == TW_REASON_ICMP_TYPE && icmp6_is_link(&s->packet)) {
		metric_count(reason, s->packet.hook, s->packet.len);
		return TC_DROP;
	}
	return packet_drop(skb, s, &none, reason);
}

static __always_inline int slow_odd(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct ends none = {};
	struct tw_flow *f;
	int reason;
	__u32 dir;

	if (!s)
		return TC_DROP;
	s->packet.len = skb->len;
	__builtin_memset(&s->packet.tuple, 0, sizeof(s->packet.tuple));
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return odd_unparsed(skb, s, TW_REASON_NOT_IP);
	/* So that headers can be read and written in place; data beyond is of no interest. */
	bpf_skb_pull_data(skb, skb->len < HEADERS_MAX ? skb->len : HEADERS_MAX);
	reason = packet_parse(skb, &s->packet);
	if (reason)
		return odd_unparsed(skb, s, reason);
	if (s->packet.flags & PACKET_ICMP_ERROR)
		return icmp_error_carry(skb, s);
	f = flow_find(s, &s->packet.tuple, &dir);
	if (f) {
		struct tw_half *h = &f->half[dir & 1];

		if (packet_asks_back(&s->packet, h))
			s->packet.flags |= PACKET_ASKS_BACK;
		else if (half_current(h, half_decided(h), s->packet.in) &&
			 !tcp_reopens(f, s->packet.tcp))
			return flow_finish(skb, s, f, dir, &none);
	} else {
		s->packet.flags |= PACKET_NO_ENTRY;
	}
	return packet_jump(skb, TW_JUMP_NEW, s->packet.hook);
}

#endif
