/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * QUIC (RFC 9000): a packet's destination connection id says which backend issued it, in the
 * unencrypted form of draft-ietf-quic-load-balancers: an octet whose three upper bits are not all
 * 1, then the server id, here two octets. So a connection stays with its backend when its
 * client's address changes, or the backends do.
 */
#ifndef TW_EDGE_QUIC_H
#define TW_EDGE_QUIC_H

#include "edge_conn.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TW_EDGE_BACKENDS);
	__type(key, struct tw_edge_quic_key);
	__type(value, __u32);
} tw_edge_quic SEC(".maps");

#define QUIC_LONG 0x80
#define QUIC_V2 0x6b3343cfu /* RFC 9369 */
#define QUIC_UNROUTABLE 7

/* A long header up to the first octets of the connection id. */
struct quic_long {
	__u8 first;
	__u8 version[4];
	__u8 len;
	__u8 cid[3];
};

struct quic_short {
	__u8 first;
	__u8 cid[3];
};

/* Initial or 0-RTT: its connection id is the client's own invention. */
static __always_inline bool quic_is_opening(const struct quic_long *h)
{
	__u32 version = (__u32)h->version[0] << 24 | (__u32)h->version[1] << 16 |
			(__u32)h->version[2] << 8 | h->version[3];
	__u8 type = h->first >> 4 & 3;

	if (version == QUIC_V2)
		type = (type - 1) & 3;
	return type <= 1;
}

/*
 * The backend by connection id, or 0: by the flow. *opening: it is a connection's first packet,
 * which a UDP flow does not tell otherwise.
 */
static __noinline __u32 edge_quic_backend(struct xdp_md *xdp, const struct edge_packet *p,
					  __u32 service, bool *opening)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct tw_edge_quic_key key = { .service = (__u16)service };
	struct quic_long *l;
	struct quic_short *s;
	const __u8 *cid;
	__u32 *backend;

	if (!p || !opening || p->l4_off > EDGE_HEADERS_MAX)
		return 0;
	s = data + p->l4_off + 8;
	l = (void *)s;
	if ((void *)(s + 1) > end)
		return 0;
	cid = s->cid;
	*opening = false;
	if (s->first & QUIC_LONG) {
		if ((void *)(l + 1) > end)
			return 0;
		*opening = quic_is_opening(l);
		if (*opening || l->len < 3)
			return 0;
		cid = l->cid;
	}
	if (cid[0] >> 5 == QUIC_UNROUTABLE)
		return 0;
	key.server_id = (__u16)(cid[1] << 8 | cid[2]);
	backend = bpf_map_lookup_elem(&tw_edge_quic, &key);
	return backend ? *backend : 0;
}

#endif
