/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP errors: those of others are led along the flow they speak of and translated with it;
 * our own (too big, time exceeded) are made here from the packet that caused them.
 */
#ifndef TW_ICMP_H
#define TW_ICMP_H

#include "slow.h"

/* An ICMP header as far as an error needs it. */
struct icmp_head {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 info; /* frag-needed: MTU in the low half; packet-too-big: MTU */
};

/* The packet inside an error. */
struct inner {
	struct tw_tuple tuple;
	__u16 l3_off;
	__u16 l4_off;
};

/* 0 or a drop reason. Extension headers inside are not followed. */
static __always_inline int inner_parse(struct __sk_buff *skb, const struct packet *p,
				       struct inner *in)
{
	__be16 ports[4];

	in->l3_off = p->l4_off + sizeof(struct icmp_head);
	in->tuple.family = p->tuple.family;
	in->tuple.pad[0] = in->tuple.pad[1] = 0;
	in->tuple.sport = in->tuple.dport = 0;
	if (p->tuple.family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, in->l3_off, &ip, sizeof(ip)))
			return TW_REASON_TRUNCATED;
		if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(IP_OFFSET))
			return TW_REASON_ICMP_UNRELATED;
		addr_map4(&in->tuple.saddr, ip.saddr);
		addr_map4(&in->tuple.daddr, ip.daddr);
		in->tuple.proto = ip.protocol;
		in->l4_off = in->l3_off + ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, in->l3_off, &ip, sizeof(ip)))
			return TW_REASON_TRUNCATED;
		if (ip.version != 6)
			return TW_REASON_ICMP_UNRELATED;
		__builtin_memcpy(&in->tuple.saddr, &ip.saddr, 16);
		__builtin_memcpy(&in->tuple.daddr, &ip.daddr, 16);
		in->tuple.proto = ip.nexthdr;
		in->l4_off = in->l3_off + sizeof(ip);
	}
	if (!proto_has_ports(in->tuple.proto) && in->tuple.proto != PROTO_SCTP)
		return 0;
	if (bpf_skb_load_bytes(skb, in->l4_off, ports, sizeof(ports)))
		return TW_REASON_TRUNCATED;
	if (in->tuple.proto == PROTO_ICMP || in->tuple.proto == PROTO_ICMP6) {
		in->tuple.sport = in->tuple.dport = ports[2];
	} else {
		in->tuple.sport = ports[0];
		in->tuple.dport = ports[1];
	}
	return 0;
}

/*
 * Rewrites an error for a translated flow: outer source (OUT) or destination, and the same
 * address and port inside. The inner IP header's checksum is mended, so for ICMPv4 the inner
 * address leaves the ICMP checksum alone. The inner transport checksum is left: nobody can
 * verify it over a part. 0 or a drop reason.
 */
__weak __noinline int icmp_translate(struct __sk_buff *skb, const struct tw_half *h,
				     const struct inner *in, __u32 l4_off)
{
	bool out, v4;
	__u32 addr_size, outer_off, inner_off, port_off, check = l4_off + 2;
	union tw_addr old = {}, new;
	__be16 old_port = 0, new_port;

	if (!h || !in)
		return TW_REASON_INTERNAL;
	out = kind_is_out(h->kind);
	v4 = in->tuple.family == 4;
	new = h->addr;
	new_port = h->port;
	addr_size = v4 ? 4 : 16;
	/* The error runs against the inner packet: outer source = inner destination. */
	outer_off = L3_OFF + (v4 ? (out ? 12 : 16) : (out ? 8 : 24));
	inner_off = in->l3_off + (v4 ? (out ? 16 : 12) : (out ? 24 : 8));
	port_off = in->l4_off + l4_port_off(in->tuple.proto, !out);
	if (v4) {
		__be32 a = new.word[3], before;

		if (bpf_skb_load_bytes(skb, outer_off, &before, 4))
			return TW_REASON_TRUNCATED;
		if (bpf_skb_store_bytes(skb, outer_off, &a, 4, 0) ||
		    bpf_l3_csum_replace(skb, L3_OFF + 10, before, a, 4))
			return TW_REASON_TRUNCATED;
		if (bpf_skb_store_bytes(skb, inner_off, &a, 4, 0) ||
		    bpf_l3_csum_replace(skb, in->l3_off + 10, before, a, 4))
			return TW_REASON_TRUNCATED;
	} else {
		/* As in csum_by_helper(): a complete checksum does not change. */
		__u64 ipv6 = tw_settings.csum_ipv6 ? BPF_F_IPV6 : 0;
		__s64 diff;

		if (bpf_skb_load_bytes(skb, outer_off, &old, 16))
			return TW_REASON_TRUNCATED;
		diff = bpf_csum_diff((__be32 *)&old, 16, (__be32 *)&new, 16, 0);
		if (bpf_skb_store_bytes(skb, outer_off, &new, 16, 0) ||
		    bpf_skb_store_bytes(skb, inner_off, &new, 16, 0) ||
		    bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | ipv6) ||
		    bpf_l4_csum_replace(skb, check, 0, diff, 0))
			return TW_REASON_TRUNCATED;
	}
	if (!proto_has_ports(in->tuple.proto))
		return 0;
	if (bpf_skb_load_bytes(skb, port_off, &old_port, 2) ||
	    bpf_skb_store_bytes(skb, port_off, &new_port, 2, 0) ||
	    bpf_l4_csum_replace(skb, check, old_port, new_port, 2))
		return TW_REASON_TRUNCATED;
	(void)addr_size;
	return 0;
}

/*
 * An error counts when a flow carries packets in its direction from where it came, and its
 * inner packet was sent by its receiver; from a container also: was sent to it (I12).
 */
static __always_inline int icmp_error_carry(struct __sk_buff *skb, struct scratch *s)
{
	const struct packet *p = &s->packet;
	struct inner in = {};
	struct ends none = {};
	struct tw_half *h, *other;
	struct tw_flow *f;
	__u32 dir, word;
	int reason;

	/* Errors that the host makes itself (no route, frag-needed, ...) always pass. */
	if (p->in == TW_IN_HOST)
		return TC_NEXT;
	if (p->hook == TW_HOOK_FROM_UPLINK && source_is_ours(s))
		return packet_drop(skb, s, &none, TW_REASON_SPOOFED);
	reason = inner_parse(skb, p, &in);
	if (reason)
		goto unrelated;
	reason = TW_REASON_ICMP_UNRELATED;
	if (in.tuple.saddr.quad[0] != p->tuple.daddr.quad[0] ||
	    in.tuple.saddr.quad[1] != p->tuple.daddr.quad[1])
		goto unrelated;
	if (p->hook == TW_HOOK_FROM_CONTAINER &&
	    (in.tuple.daddr.quad[0] != p->tuple.saddr.quad[0] ||
	     in.tuple.daddr.quad[1] != p->tuple.saddr.quad[1]))
		goto unrelated;
	tuple_reverse(&s->opener, &in.tuple);
	f = flow_find(s, &s->opener, &dir);
	if (!f)
		goto unrelated;
	h = &f->half[dir & 1];
	other = &f->half[(dir & 1) ^ 1];
	/* Through the stack a router's error may come in elsewhere than the flow. */
	if (p->hook != TW_HOOK_TO_CONTAINER && !half_current(h, half_decided(h), p->in))
		goto unrelated;
	if (queue_passed(skb, s, h, other))
		return TC_NEXT;
	if (h->kind == TW_KIND_DENY || h->kind == TW_KIND_NONE)
		goto unrelated;
	metric_count(TW_REASON_OK, p->hook, p->len);
	if (p->hook == TW_HOOK_TO_CONTAINER || h->kind == TW_KIND_STACK || h->kind == TW_KIND_PASS)
		return TC_NEXT;
	if (h->flags & TW_HALF_TTL) {
		struct rewrite r = { .ttl = true, .family = p->tuple.family };

		reason = packet_rewrite(skb, &r);
		if (reason)
			return packet_drop(skb, s, &none, reason);
	}
	if (h->flags & TW_HALF_REWRITE) {
		reason = icmp_translate(skb, h, &in, p->l4_off);
		if (reason)
			return packet_drop(skb, s, &none, reason);
	}
	return redirect_half(skb, h, other, h->kind, h->flags, h->out, h->dmac);
unrelated:
	/* On an uplink it may be about the host's own packets. */
	if (p->hook == TW_HOOK_FROM_UPLINK) {
		word = ipcache_word(s, &p->tuple.daddr, p->tuple.family);
		if (!word_is_endpoint(word))
			return TC_NEXT;
	}
	return packet_drop(skb, s, &none, reason);
}

/* Bytes of the offending packet that an error carries: header and first 8 bytes of payload. */
#define ICMP_QUOTE4 28
#define ICMP_QUOTE6 48

static __always_inline __u16 csum_bytes(const void *buf, __u32 len, __u32 seed)
{
	__s64 sum = bpf_csum_diff(NULL, 0, (__be32 *)buf, len, seed);

	return ~csum_fold16((__u32)sum);
}

/* Lays out the IPv4 error in s->bytes. The quote is at its end. */
static __always_inline void icmp_build4(struct scratch *s, __u16 mtu, __be32 from)
{
	struct iphdr *ip = (struct iphdr *)s->bytes;
	struct icmp_head *icmp = (struct icmp_head *)(s->bytes + 20);
	__be32 to = ((struct iphdr *)(s->bytes + 28))->saddr;

	__builtin_memset(s->bytes, 0, 28);
	icmp->type = mtu ? 3 : 11;
	icmp->code = mtu ? 4 : 0;
	icmp->info = bpf_htonl(mtu);
	icmp->check = csum_bytes(icmp, 8 + ICMP_QUOTE4, 0);
	*(__u8 *)ip = 0x45;
	ip->tot_len = bpf_htons(28 + ICMP_QUOTE4);
	ip->ttl = 64;
	ip->protocol = PROTO_ICMP;
	ip->saddr = from;
	ip->daddr = to;
	ip->check = csum_bytes(ip, 20, 0);
}

static __always_inline void icmp_build6(struct scratch *s, __u16 mtu, const union tw_addr *from)
{
	struct ipv6hdr *ip = (struct ipv6hdr *)s->bytes;
	struct icmp_head *icmp = (struct icmp_head *)(s->bytes + 40);
	struct {
		__be32 len;
		__be32 next;
	} pseudo = { bpf_htonl(8 + ICMP_QUOTE6), bpf_htonl(PROTO_ICMP6) };
	__u32 sum;

	__builtin_memcpy(&ip->daddr, s->bytes + 48 + 8, 16);
	__builtin_memset(s->bytes, 0, 24);
	__builtin_memset(icmp, 0, 8);
	*(__u8 *)ip = 0x60;
	ip->payload_len = pseudo.len >> 16;
	ip->nexthdr = PROTO_ICMP6;
	ip->hop_limit = 64;
	__builtin_memcpy(&ip->saddr, from, 16);
	icmp->type = mtu ? 2 : 3;
	icmp->info = bpf_htonl(mtu);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 32, 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, 8, sum);
	icmp->check = csum_bytes(icmp, 8 + ICMP_QUOTE6, sum);
}

/*
 * Whose words the answer is: the gateway's for a container, the node's for the network. False:
 * it is not answered. What strangers can cause is limited (RFC 4443 2.4 f), as drop events are.
 */
static __always_inline bool icmp_speaker(struct __sk_buff *skb, struct scratch *s,
					 union tw_addr *from)
{
	bool v4 = s->packet.tuple.family == 4;
	struct tw_uplink *uplink;
	__u32 ifindex = skb->ifindex;

	if (s->packet.hook == TW_HOOK_FROM_CONTAINER) {
		from->word[0] = v4 ? 0 : bpf_htonl(0xfe800000); /* fe80::1 */
		from->word[1] = from->word[2] = 0;
		from->word[3] = bpf_htonl(v4 ? 0xa9fe0101 : 1); /* 169.254.1.1 */
		return true;
	}
	if (s->packet.hook != TW_HOOK_FROM_UPLINK || !event_drop_allowed(s))
		return false;
	uplink = bpf_map_lookup_elem(&tw_uplinks, &ifindex);
	if (!uplink)
		return false;
	if (v4)
		addr_map4(from, uplink->masq4);
	else
		*from = uplink->masq6;
	return v4 ? uplink->masq4 : from->quad[0] | from->quad[1];
}

/*
 * The packet in skb was dropped and counted; answer its sender with frag-needed or
 * packet-too-big (s->packet.mtu) or time exceeded (mtu 0). It goes straight into the container,
 * or back by the uplink. Never about ICMP errors or later fragments (RFC 1122 3.2.2, RFC 4443
 * 2.4).
 */
static __always_inline int icmp_answer(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	union tw_addr from;
	__u8 macs[12];
	__u32 quote, head;
	bool v4;

	if (!s || s->packet.flags & (PACKET_ICMP_ERROR | PACKET_FRAG_LATER) ||
	    !icmp_speaker(skb, s, &from))
		return TC_DROP;
	v4 = s->packet.tuple.family == 4;
	quote = v4 ? ICMP_QUOTE4 : ICMP_QUOTE6;
	head = v4 ? 28 : 48;
	if (bpf_skb_load_bytes(skb, 0, macs, 12))
		return TC_DROP;
	if (v4) {
		if (bpf_skb_load_bytes(skb, L3_OFF, s->bytes + 28, ICMP_QUOTE4))
			return TC_DROP;
		icmp_build4(s, s->packet.mtu, from.word[3]);
	} else {
		if (bpf_skb_load_bytes(skb, L3_OFF, s->bytes + 48, ICMP_QUOTE6))
			return TC_DROP;
		icmp_build6(s, s->packet.mtu, &from);
	}
	/* Room for all of it, then exactly that: one store, whatever was there before. */
	if (bpf_skb_change_tail(skb, ETH_HLEN + head + quote, 0))
		return TC_DROP;
	if (v4) {
		if (bpf_skb_store_bytes(skb, L3_OFF, s->bytes, 28 + ICMP_QUOTE4, 0))
			return TC_DROP;
	} else if (bpf_skb_store_bytes(skb, L3_OFF, s->bytes, 48 + ICMP_QUOTE6, 0)) {
		return TC_DROP;
	}
	if (bpf_skb_store_bytes(skb, 0, macs + 6, 6, 0) || bpf_skb_store_bytes(skb, 6, macs, 6, 0))
		return TC_DROP;
	counter_add(TW_COUNTER_ICMP_SENT, 1);
	if (s->packet.hook == TW_HOOK_FROM_UPLINK)
		return bpf_redirect_neigh(skb->ifindex, NULL, 0, 0);
	return bpf_redirect_peer(skb->ifindex, 0);
}

#endif
