/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * On a backend: takes the client's packet out of what a balancer sent it, for the stack to have as
 * if it had come straight. Only from addresses that are listed, since anybody else could send
 * packets of any source past a firewall in this way; of others they stay what they are.
 */
#ifndef TW_EDGE_DECAP_H
#define TW_EDGE_DECAP_H

#include "edge_send.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tw_edge_decap);
} tw_edge_decap SEC(".maps");

static __always_inline bool edge_decap_source(const union tw_addr *addr)
{
	__u32 zero = 0;
	const struct tw_edge_decap *d = bpf_map_lookup_elem(&tw_edge_decap, &zero);

	if (!d)
		return false;
	for (__u32 i = 0; i < TW_EDGE_DECAP_SOURCES; i++) {
		if (i >= d->n)
			break;
		if ((addr->quad[0] & d->from[i].mask.quad[0]) == d->from[i].addr.quad[0] &&
		    (addr->quad[1] & d->from[i].mask.quad[1]) == d->from[i].addr.quad[1])
			return true;
	}
	return false;
}

/* The family of the packet inside, 4 or 6, or 0: it is not encapsulated. *off: where it begins. */
static __always_inline __u32 edge_decap_inner(struct xdp_md *xdp, const struct edge_packet *p,
					      __u32 *off)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u8 *first, version;

	/* Nothing here puts options into an outer header, nor lets it be cut to pieces. */
	if (p->flags & (EDGE_OPTIONS | EDGE_FRAG_FIRST | EDGE_FRAG_LATER))
		return 0;
	*off = p->l4_off & 1023;
	if (p->tuple.proto == PROTO_UDP && p->tuple.dport == bpf_htons(TW_EDGE_GUE_PORT))
		*off += EDGE_GUE_HEAD;
	else if (p->tuple.proto != PROTO_IPIP && p->tuple.proto != PROTO_IPV6)
		return 0;
	first = data + *off;
	if ((void *)(first + 1) > end)
		return 0;
	version = *first >> 4;
	if (p->tuple.proto == PROTO_UDP ? version != 4 && version != 6
					: version != (p->tuple.proto == PROTO_IPIP ? 4 : 6))
		return 0;
	return version;
}

/* Moves the link layer's header up to the packet inside. */
static __noinline bool edge_decap(struct xdp_md *xdp, const struct edge_packet *p)
{
	__u8 link[sizeof(struct ethhdr) + sizeof(struct edge_tags)] __attribute__((aligned(8)));
	__u32 off, family, l3_off, len;
	__be16 type;

	if (!p)
		return false;
	if (likely(p->tuple.proto != PROTO_IPIP && p->tuple.proto != PROTO_IPV6 &&
		   p->tuple.proto != PROTO_UDP))
		return false;
	family = edge_decap_inner(xdp, p, &off);
	if (!family || !edge_decap_source(&p->tuple.saddr))
		return false;
	l3_off = p->l3_off;
	if (l3_off < sizeof(struct ethhdr) || l3_off > sizeof(link))
		return false;
	len = off - l3_off;
	type = bpf_htons(family == 4 ? ETH_P_IP : ETH_P_IPV6);
	if (bpf_xdp_load_bytes(xdp, 0, link, sizeof(link)))
		return false;
	if (l3_off == sizeof(struct ethhdr))
		*(__be16 *)(link + 12) = type;
	else if (l3_off == sizeof(struct ethhdr) + 4)
		*(__be16 *)(link + 16) = type;
	else
		*(__be16 *)(link + 20) = type;
	return !bpf_xdp_store_bytes(xdp, len, link, l3_off) && !bpf_xdp_adjust_head(xdp, (int)len);
}

#endif
