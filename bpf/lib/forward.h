/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a current half says is done to the packet: translate, decrement, redirect. One copy,
 * used by the fast path (constant layer-4 offset) and the slow path (variable).
 */
#ifndef TW_FORWARD_H
#define TW_FORWARD_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "event.h"
#include "flow.h"

#define AF_INET 2
#define AF_INET6 10
#ifndef BPF_F_IPV6 /* 6.16 */
#define BPF_F_IPV6 (1ULL << 7)
#endif

/* RFC 1624, equation 3, folded. old and new are sums of 16-bit words. */
static __always_inline __u16 csum_update(__u16 sum, __u32 old, __u32 new)
{
	__u32 acc = (__u16)~sum + (__u32)(__u16)~old + new;

	acc = (acc & 0xffff) + (acc >> 16);
	acc = (acc & 0xffff) + (acc >> 16);
	return ~acc;
}

static __always_inline __u16 csum_fold16(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Where the checksum of a protocol sits in its header; -1: it does not cover addresses. */
static __always_inline int l4_csum_off(__u8 proto)
{
	switch (proto) {
	case PROTO_TCP:
		return 16;
	case PROTO_UDP:
		return 6;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		return 2;
	default:
		return -1;
	}
}

/* Where the translated port or echo identifier sits. */
static __always_inline __u32 l4_port_off(__u8 proto, bool source)
{
	if (proto == PROTO_ICMP || proto == PROTO_ICMP6)
		return 4;
	return source ? 0 : 2;
}

struct rewrite {
	bool source; /* else the destination */
	bool ttl;    /* decrement */
	bool nat;    /* replace addr and port */
	bool l4;     /* the packet has a layer-4 header */
	__u8 family;
	__u8 proto;
	__u16 l4_off;
	__be16 port;
	const union tw_addr *addr;
};

/* The ones' complement sum of an address; the 0xffff of a mapped one is that sum's zero. */
static __always_inline __u16 addr_sum(const union tw_addr *a)
{
	__u64 sum = (__u64)a->word[0] + a->word[1] + a->word[2] + a->word[3];

	return csum_fold16(sum);
}

#define CHECKSUM_COMPLETE 2
#define CHECKSUM_PARTIAL 3

/* In skb.bpf.c. COMPLETE also when the kernel cannot be asked. */
__hidden int skb_ip_summed(struct __sk_buff *skb);
/*
 * Does the frame begin with its IP header? Behind XDP in generic mode, anybody's, Linux 6.9 and newer
 * forget how long the MAC header is when they copy the frame for it.
 */
__hidden bool skb_mac_lost(struct __sk_buff *skb);

/*
 * A complete checksum covers the whole packet, by the receiving device; only the helper can keep
 * it right. (For IPv6 it must be told so, from 6.16 on. Older kernels get it wrong: the receiver
 * notices and adds the packet up by itself, which is slow, not wrong.)
 */
static __always_inline int csum_by_helper(struct __sk_buff *skb, const struct rewrite *r, __u32 off,
					  __u16 old_sum, __u16 new_sum, __be16 old_port)
{
	__u64 zero = r->proto == PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u64 ipv6 = r->family == 6 && tw_settings.csum_ipv6 ? BPF_F_IPV6 : 0;

	/* Size 0: by difference. */
	if (old_sum != new_sum && bpf_l4_csum_replace(skb, off, 0, (__u16)~old_sum + new_sum,
						      BPF_F_PSEUDO_HDR | ipv6 | zero))
		return TW_REASON_TRUNCATED;
	if (old_port != r->port && bpf_l4_csum_replace(skb, off, old_port, r->port, zero | 2))
		return TW_REASON_TRUNCATED;
	return 0;
}

/*
 * Translates and decrements. Checksums are changed by hand, by how far they are done; but for
 * complete ones, which live in the skb (a helper call costs 21 ns a field). 0, or a drop reason.
 */
static __always_inline int packet_rewrite(struct __sk_buff *skb, const struct rewrite *r)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	int csum_off = l4_csum_off(r->proto);
	__be16 old_port = 0, new_port = r->port;
	union tw_addr old = {};
	__u16 old_sum, new_sum;
	__u32 summed;

	if (r->family == 4) {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return TW_REASON_TRUNCATED;
		if (r->ttl) {
			if (ip->ttl <= 1)
				return TW_REASON_TTL;
			ip->check = csum_update(ip->check, bpf_htons(0x0100), 0);
			ip->ttl--;
		}
		if (!r->nat)
			return 0;
		old.word[3] = r->source ? ip->saddr : ip->daddr;
		ip->check = csum_update(ip->check, csum_fold16(old.word[3]),
					csum_fold16(r->addr->word[3]));
		if (r->source)
			ip->saddr = r->addr->word[3];
		else
			ip->daddr = r->addr->word[3];
	} else {
		struct ipv6hdr *ip = data + ETH_HLEN;
		union tw_addr *at;

		if ((void *)(ip + 1) > end)
			return TW_REASON_TRUNCATED;
		if (r->ttl) {
			if (ip->hop_limit <= 1)
				return TW_REASON_TTL;
			ip->hop_limit--;
			/* No header checksum makes up for it: a complete one must hear of it. */
			if (skb_ip_summed(skb) == CHECKSUM_COMPLETE)
				bpf_csum_update(skb, (__u16)~bpf_htons(1));
		}
		if (!r->nat)
			return 0;
		at = r->source ? (union tw_addr *)&ip->saddr : (union tw_addr *)&ip->daddr;
		old = *at;
		*at = *r->addr;
	}
	if (!r->l4)
		return 0;
	if (r->proto == PROTO_TCP || r->proto == PROTO_UDP || r->proto == PROTO_ICMP ||
	    r->proto == PROTO_ICMP6) {
		__u32 off = (r->l4_off & (HEADERS_MAX - 1)) + l4_port_off(r->proto, r->source);
		__be16 *port = data + off;

		if ((void *)(port + 1) > end)
			return TW_REASON_TRUNCATED;
		old_port = *port;
		*port = new_port;
	}
	if (csum_off < 0)
		return 0;
	old_sum = addr_sum(&old);
	new_sum = addr_sum(r->addr);
	/* ICMPv4 has no pseudo header; SCTP's CRC covers no address, and its port is kept. */
	if (r->proto == PROTO_ICMP)
		old_sum = new_sum = 0;
	summed = skb_ip_summed(skb);
	if (summed != CHECKSUM_COMPLETE) {
		__u16 *check = data + (r->l4_off & (HEADERS_MAX - 1)) + csum_off;

		if ((void *)(check + 1) > end)
			return TW_REASON_TRUNCATED;
		if (summed == CHECKSUM_PARTIAL && r->proto != PROTO_ICMP) {
			/* The field holds the sum of the pseudo header only, not inverted. */
			*check = ~csum_update(~*check, old_sum, new_sum);
			return 0;
		}
		if (r->proto == PROTO_UDP && !*check)
			return 0; /* sent without (RFC 768) */
		*check = csum_update(*check, csum_fold16((__u32)old_sum + old_port),
				     csum_fold16((__u32)new_sum + new_port));
		if (r->proto == PROTO_UDP && !*check)
			*check = 0xffff;
		return 0;
	}
	return csum_by_helper(skb, r, r->l4_off + csum_off, old_sum, new_sum, old_port);
}

/* The next hop of an OUT half: its own addr, or the unused half's when it translates. */
static __always_inline long redirect_out(const struct tw_half *h, const struct tw_half *other,
					 __u8 flags)
{
	const union tw_addr *hop = flags & TW_HALF_REWRITE ? &other->addr : &h->addr;
	struct bpf_redir_neigh nh = {};

	if (!(flags & TW_HALF_NEXTHOP))
		return bpf_redirect_neigh(h->out, NULL, 0, 0);
	if (flags & TW_HALF_NEXTHOP6) {
		nh.nh_family = AF_INET6;
		__builtin_memcpy(nh.ipv6_nh, hop, 16);
	} else {
		nh.nh_family = AF_INET;
		nh.ipv4_nh = hop->word[3];
	}
	return bpf_redirect_neigh(h->out, &nh, sizeof(nh), 0);
}

/* What a half translates: the source on the way to the outside, else the destination. */
static __always_inline bool kind_is_out(__u8 kind)
{
	_Static_assert(!(TW_KIND_OUT & 1) && !(TW_KIND_UP & 1), "outwards");
	_Static_assert(TW_KIND_LOCAL & 1 && TW_KIND_QUEUE & 1, "inwards");
	return !(kind & 1);
}

/* Into the container behind port `out`, with the frame addressed to it. */
static __always_inline long redirect_local(struct __sk_buff *skb, __u32 out, const __u8 *dmac,
					   bool queue)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u8 *smac = (__u8 *)tw_settings.gateway_mac;

	if ((void *)(eth + 1) > end)
		return TC_DROP;
	__builtin_memcpy(eth->h_dest, dmac, 4);
	__builtin_memcpy(eth->h_dest + 4, dmac + 4, 2);
	*(__u32 *)eth->h_source = *(volatile __u32 *)smac;
	*(__u16 *)(eth->h_source + 4) = *(volatile __u16 *)(smac + 4);
	return queue ? bpf_redirect(out, 0) : bpf_redirect_peer(out, 0);
}

/*
 * Where a packet goes that is ready to. LOCAL first: it is what this is fast for. UP lets the
 * port's ingress qdisc have it; the host's stack takes it on from there.
 */
static __always_inline long redirect_half(struct __sk_buff *skb, const struct tw_half *h,
					  const struct tw_half *other, __u8 kind, __u8 flags,
					  __u32 out, const __u8 *dmac)
{
	if (likely(kind == TW_KIND_LOCAL))
		return redirect_local(skb, out, dmac, false);
	if (likely(kind == TW_KIND_OUT))
		return redirect_out(h, other, flags);
	return kind == TW_KIND_QUEUE ? redirect_local(skb, out, dmac, true) : TC_NEXT;
}

static __always_inline void half_count(struct tw_half *h, __u32 len, __u8 tcp)
{
	if (unlikely(!++h->packets))
		h->packets_hi++;
	h->bytes += len;
	h->seen = jiffies_now();
	/* RST stays only while it is the last word: later data cancels a forged one (I11). */
	if (unlikely((h->tcp | tcp) & TCP_KEPT))
		h->tcp = (h->tcp & ~TCP_RST) | (tcp & TCP_KEPT);
}

#endif
