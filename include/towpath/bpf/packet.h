/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * For programs in the kernel: takes a packet apart so that the verifier sees each bounds check.
 * A cursor stands at the next header; each packet_* function gives the header that it stands at and
 * moves it behind, or gives NULL when the packet ends before. All is inlined.
 *
 *	struct cursor c = cursor_xdp(ctx);
 *	struct packet_eth eth;
 *	struct iphdr *ip = packet_eth(&c, &eth) && eth.protocol == bpf_htons(ETH_P_IP) ?
 *		packet_ipv4(&c) : NULL;
 *	struct tcphdr *tcp = ip && ip->protocol == IPPROTO_TCP ? packet_tcp(&c) : NULL;
 *
 * Numbers in headers are in network order. A helper that can move the packet (bpf_xdp_adjust_head,
 * bpf_skb_store_bytes, bpf_skb_pull_data, ...) makes all of these pointers invalid: begin anew after it.
 */
#ifndef TOWPATH_BPF_PACKET_H
#define TOWPATH_BPF_PACKET_H

/* libbpf's headers need it and do not include it. */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

struct cursor {
	void *pos;
	void *end; /* first byte that is not there */
};

/* At the Ethernet header of an XDP program's packet. */
static __always_inline struct cursor cursor_xdp(const struct xdp_md *ctx)
{
	return (struct cursor){ (void *)(long)ctx->data, (void *)(long)ctx->data_end };
}

/*
 * At the Ethernet header of a tc program's packet, at the IP header of a cgroup program's. What is not
 * in the first piece of the packet's memory is beyond the end: bpf_skb_pull_data() brings it there.
 */
static __always_inline struct cursor cursor_skb(const struct __sk_buff *skb)
{
	return (struct cursor){ (void *)(long)skb->data, (void *)(long)skb->data_end };
}

/* The next `size` bytes, a constant. */
static __always_inline void *cursor_take(struct cursor *c, size_t size)
{
	void *at = c->pos;

	if (at + size > c->end)
		return NULL;
	c->pos = at + size;
	return at;
}

/* Over `size` bytes, of which the packet says how many they are; at most 255, so bounded. */
static __always_inline bool cursor_skip(struct cursor *c, __u8 size)
{
	void *to = c->pos + size;

	if (to > c->end)
		return false;
	c->pos = to;
	return true;
}

#define CURSOR_VLANS 2 /* tags that are passed over: 802.1Q within 802.1ad */

struct packet_eth {
	struct ethhdr *header;
	__be16 protocol; /* ETH_P_*, of what follows the tags */
	__be16 vlan;	 /* id of the outermost tag in the packet itself; 0: none */
};

struct packet_vlan {
	__be16 tci;
	__be16 protocol;
};

/* Ethernet, with its VLAN tags; the cursor then is at the IP header, or what else protocol says. */
static __always_inline bool packet_eth(struct cursor *c, struct packet_eth *out)
{
	struct ethhdr *eth = cursor_take(c, sizeof(*eth));

	if (!eth)
		return false;
	*out = (struct packet_eth){ .header = eth, .protocol = eth->h_proto };
	for (int i = 0; i < CURSOR_VLANS; i++) {
		struct packet_vlan *vlan;

		if (out->protocol != bpf_htons(ETH_P_8021Q) &&
		    out->protocol != bpf_htons(ETH_P_8021AD))
			break;
		vlan = cursor_take(c, sizeof(*vlan));
		if (!vlan)
			return false;
		if (!i)
			out->vlan = vlan->tci & bpf_htons(0x0fff);
		out->protocol = vlan->protocol;
	}
	return true;
}

/* Behind the options. NULL also when it is no IPv4 header. */
static __always_inline struct iphdr *packet_ipv4(struct cursor *c)
{
	struct iphdr *ip = cursor_take(c, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return NULL;
	return cursor_skip(c, (ip->ihl - 5) * 4) ? ip : NULL;
}

/* Whether the transport header is not in this packet but in the first of its fragments. */
static __always_inline bool packet_ipv4_is_later(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x1fff);
}

#define CURSOR_EXTENSIONS 4 /* extension headers that are passed over */

struct packet_extension {
	__u8 next;
	__u8 length; /* in 8 bytes, the first 8 not counted */
	__u8 rest[6];
};

/*
 * Behind the extension headers that only routers and the receiver's IP care for (RFC 8200): hop-by-hop,
 * routing, destination options. *protocol: what follows them; IPPROTO_FRAGMENT is left to the caller.
 */
static __always_inline struct ipv6hdr *packet_ipv6(struct cursor *c, __u8 *protocol)
{
	struct ipv6hdr *ip = cursor_take(c, sizeof(*ip));

	if (!ip || ip->version != 6)
		return NULL;
	*protocol = ip->nexthdr;
	for (int i = 0; i < CURSOR_EXTENSIONS; i++) {
		struct packet_extension *x;

		if (*protocol != IPPROTO_HOPOPTS && *protocol != IPPROTO_ROUTING &&
		    *protocol != IPPROTO_DSTOPTS)
			break;
		x = cursor_take(c, sizeof(*x));
		if (!x || x->length > 31 || !cursor_skip(c, x->length * 8))
			return NULL;
		*protocol = x->next;
	}
	return ip;
}

/* Behind the options. */
static __always_inline struct tcphdr *packet_tcp(struct cursor *c)
{
	struct tcphdr *tcp = cursor_take(c, sizeof(*tcp));

	if (!tcp || tcp->doff < 5)
		return NULL;
	return cursor_skip(c, (tcp->doff - 5) * 4) ? tcp : NULL;
}

static __always_inline struct udphdr *packet_udp(struct cursor *c)
{
	return cursor_take(c, sizeof(struct udphdr));
}

#endif
