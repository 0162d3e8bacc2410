/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The whole parser, for what the fast path does not take: IPv4 options, IPv6 extension
 * headers, fragments, ICMP. Everything it reads is the attacker's: each read is checked, each
 * loop bounded, and what it cannot follow is a named drop (I12).
 */
#ifndef TW_PACKET_H
#define TW_PACKET_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "flow.h"

#define L3_OFF ETH_HLEN

static __always_inline bool icmp_is_request(__u8 proto, __u8 type)
{
	return type == (proto == PROTO_ICMP ? 8 : 128);
}

/* Ports of a transport header at p->l4_off, or the ICMP identifier. 0 or a drop reason. */
static __always_inline int packet_parse_l4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 type;
		__u8 code;
		__u16 checksum;
		__be16 id;
	} icmp;
	struct {
		__be16 sport;
		__be16 dport;
		__u32 seq;
	} ports;
	__u8 off_flags[2];

	switch (p->tuple.proto) {
	case PROTO_TCP:
		if (bpf_skb_load_bytes(skb, p->l4_off + 12, off_flags, 2))
			return TW_REASON_TRUNCATED;
		if (off_flags[0] >> 4 < 5)
			return TW_REASON_MALFORMED;
		p->tcp = off_flags[1];
		/* fall through */
	case PROTO_UDP:
	case PROTO_SCTP:
		if (bpf_skb_load_bytes(skb, p->l4_off, &ports, sizeof(ports)))
			return TW_REASON_TRUNCATED;
		p->tuple.sport = ports.sport;
		p->tuple.dport = ports.dport;
		return 0;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		if ((p->tuple.proto == PROTO_ICMP) != (p->tuple.family == 4))
			return TW_REASON_MALFORMED;
		if (bpf_skb_load_bytes(skb, p->l4_off, &icmp, sizeof(icmp)))
			return TW_REASON_TRUNCATED;
		p->icmp_type = icmp.type;
		p->icmp_code = icmp.code;
		switch (icmp_classify(p->tuple.proto, icmp.type)) {
		case ICMP_CLASS_ECHO:
			p->tuple.sport = p->tuple.dport = icmp.id;
			return 0;
		case ICMP_CLASS_ERROR:
			p->flags |= PACKET_ICMP_ERROR;
			return 0;
		default:
			return TW_REASON_ICMP_TYPE;
		}
	default:
		p->flags |= PACKET_NO_PORTS;
		return 0;
	}
}

static __always_inline int packet_parse4(struct __sk_buff *skb, struct packet *p, __u32 *frag_id)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, L3_OFF, &ip, sizeof(ip)))
		return TW_REASON_TRUNCATED;
	/* Who sent it counts also when the rest is nonsense (I2), and the log names it. */
	addr_map4(&p->tuple.saddr, ip.saddr);
	addr_map4(&p->tuple.daddr, ip.daddr);
	if (ip.version != 4 || ip.ihl < 5 || bpf_ntohs(ip.tot_len) < ip.ihl * 4u)
		return TW_REASON_MALFORMED;
	/* A GSO packet's tot_len may be 0 or short (BIG TCP); others must be all there. */
	if (!skb->gso_size && bpf_ntohs(ip.tot_len) > p->len)
		return TW_REASON_TRUNCATED;
	p->tuple.proto = ip.protocol;
	p->l4_off = L3_OFF + ip.ihl * 4;
	if (ip.frag_off & bpf_htons(IP_OFFSET))
		p->flags |= PACKET_FRAG_LATER;
	else if (ip.frag_off & bpf_htons(IP_MF))
		p->flags |= PACKET_FRAG_FIRST;
	*frag_id = ip.id;
	return 0;
}

static __always_inline int packet_parse6(struct __sk_buff *skb, struct packet *p, __u32 *frag_id)
{
	struct ipv6hdr ip;
	__u32 off = L3_OFF + sizeof(ip);
	bool fragment = false;
	__u8 next;
	int i;

	if (bpf_skb_load_bytes(skb, L3_OFF, &ip, sizeof(ip)))
		return TW_REASON_TRUNCATED;
	__builtin_memcpy(&p->tuple.saddr, &ip.saddr, 16);
	__builtin_memcpy(&p->tuple.daddr, &ip.daddr, 16);
	if (ip.version != 6)
		return TW_REASON_MALFORMED;
	if (!skb->gso_size && bpf_ntohs(ip.payload_len) + sizeof(ip) > p->len)
		return TW_REASON_TRUNCATED;
	next = ip.nexthdr;
	for (i = 0; i < IPV6_EXT_MAX; i++) {
		struct {
			__u8 next;
			__u8 len;
			__be16 offset;
			__be32 id;
		} ext;

		if (!proto_is_extension(next))
			break;
		if (bpf_skb_load_bytes(skb, off, &ext, sizeof(ext)))
			return TW_REASON_TRUNCATED;
		if (next == PROTO_FRAGMENT) {
			/* A fragment of a fragment would be a first and a later one at once. */
			if (fragment)
				return TW_REASON_MALFORMED;
			fragment = true;
			*frag_id = ext.id;
			off += 8;
			if (ext.offset & bpf_htons(0xfff8)) {
				p->flags |= PACKET_FRAG_LATER;
				next = ext.next;
				break;
			}
			/* An atomic fragment (RFC 6946) is a whole packet. */
			if (ext.offset & bpf_htons(1))
				p->flags |= PACKET_FRAG_FIRST;
		} else if (next == PROTO_AH) {
			off += (ext.len + 2u) * 4;
		} else {
			off += (ext.len + 1u) * 8;
		}
		next = ext.next;
	}
	if (!(p->flags & PACKET_FRAG_LATER) && proto_is_extension(next))
		return TW_REASON_EXT_HEADERS;
	/* What is written to is found by the low bits of l4_off; a TCP header fits behind it. */
	if (off > HEADERS_MAX - 21)
		return TW_REASON_EXT_HEADERS;
	p->tuple.proto = next;
	p->l4_off = off;
	return 0;
}

/* A first fragment leaves its ports for the later ones; those take them from there. */
static __always_inline int packet_fragment(struct packet *p, __u32 frag_id)
{
	struct tw_frag_key key = {
		.saddr = p->tuple.saddr,
		.daddr = p->tuple.daddr,
		.id = frag_id,
		.in = p->in,
		.proto = p->tuple.proto,
	};
	struct tw_frag value = { p->tuple.sport, p->tuple.dport, jiffies_now() };
	struct tw_frag *first;

	if (p->flags & PACKET_FRAG_FIRST) {
		bpf_map_update_elem(&tw_frags, &key, &value, BPF_ANY);
		return 0;
	}
	first = bpf_map_lookup_elem(&tw_frags, &key);
	/* 30 s is Linux's own reassembly limit (net.ipv4.ipfrag_time). */
	if (!first || jiffies_now() - first->seen > 30 * tw_settings.hz)
		return TW_REASON_FRAG_NO_FIRST;
	p->tuple.sport = first->sport;
	p->tuple.dport = first->dport;
	return 0;
}

/* Fills s->packet but for `in` and `hook`, which the caller sets first. 0 or a drop reason. */
static __always_inline int packet_parse(struct __sk_buff *skb, struct packet *p)
{
	__u32 frag_id = 0;
	int reason;

	p->len = skb->len - L3_OFF;
	p->tcp = p->flags = p->icmp_type = p->icmp_code = 0;
	p->mtu = 0;
	p->tuple.sport = p->tuple.dport = 0;
	p->tuple.pad[0] = p->tuple.pad[1] = 0;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		p->tuple.family = 4;
		reason = packet_parse4(skb, p, &frag_id);
	} else {
		p->tuple.family = 6;
		reason = packet_parse6(skb, p, &frag_id);
	}
	if (reason)
		return reason;
	if (p->l4_off > L3_OFF + p->len)
		return TW_REASON_TRUNCATED;
	if (!(p->flags & PACKET_FRAG_LATER)) {
		reason = packet_parse_l4(skb, p);
		if (reason)
			return reason;
	}
	if (p->flags & (PACKET_FRAG_FIRST | PACKET_FRAG_LATER)) {
		/* An ICMP error is never worth a fragment, and must not open a door for one. */
		if (p->flags & PACKET_ICMP_ERROR)
			return TW_REASON_MALFORMED;
		return packet_fragment(p, frag_id);
	}
	return 0;
}

#endif
