/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "frame_chance.h"

#include <string.h>

#define L3 14u

uint32_t chance_below(struct chance *c, uint32_t n)
{
	c->state ^= c->state >> 12;
	c->state ^= c->state << 25;
	c->state ^= c->state >> 27;
	return (uint32_t)((c->state * 0x2545f4914f6cdd1d) >> 33) % n;
}

static bool one_in(struct chance *c, uint32_t n)
{
	return !chance_below(c, n);
}

/* ---- sensible frames ----------------------------------------------------------------------------- */

static const uint16_t ports[] = { 53, 80, 443, 8080 };

static uint16_t port_any(struct chance *c)
{
	return ports[chance_below(c, sizeof(ports) / sizeof(ports[0]))];
}

static enum place place_any(struct chance *c)
{
	static const enum place places[] = { A,	      B,	C,    A,    B,	     C,
					     OUTSIDE, OUTSIDE2, KEPT, NODE, EMPTY,   ROUTER,
					     GROUP,   NODE2,	A,    B,    NOWHERE, UNROUTED };

	return places[chance_below(c, sizeof(places) / sizeof(places[0]))];
}

static void ends_any(struct chance *c, enum via via, struct spec *spec)
{
	static const enum place outside[] = { OUTSIDE, OUTSIDE2, KEPT, ROUTER };

	spec->to = place_any(c);
	switch (via) {
	case FROM_A:
	case FROM_B:
	case FROM_C:
		spec->from = A + (via - FROM_A);
		break;
	case TO_A:
	case TO_B:
		spec->from = NODE;
		spec->to = via == TO_A ? A : B;
		break;
	case B_TO_A:
		spec->from = B;
		spec->to = A;
		break;
	case UP_TO_A:
		spec->from = outside[chance_below(c, 4)];
		spec->to = A;
		break;
	default:
		spec->from = outside[chance_below(c, 4)];
		if (one_in(c, 2))
			spec->to = NODE;
	}
	if (one_in(c, 24))
		spec->from = place_any(c);
}

static uint8_t flags_any(struct chance *c)
{
	static const uint8_t flags[] = { SYN, SYN, SYN, SYN | ACK, ACK, ACK | PSH, RST, FIN | ACK };

	return one_in(c, 16) ? (uint8_t)chance_below(c, 256) : flags[chance_below(c, 8)];
}

static enum what what_any(struct chance *c)
{
	static const enum what whats[] = { TCP,		  TCP,	TCP,	   UDP,		UDP,
					   UDP,		  SCTP, ECHO,	   ECHO,	ECHO_REPLY,
					   ESP,		  ARP,	TCP,	   UNREACHABLE, TOO_BIG,
					   TIME_EXCEEDED, UDP,	ICMP_OTHER };

	return whats[chance_below(c, sizeof(whats) / sizeof(whats[0]))];
}

/* Client ports are few, so that answers meet flows, and each way in has its own. */
static uint16_t client_port(struct chance *c, enum via via)
{
	if (via >= UP && one_in(c, 2))
		return (uint16_t)(61000 + chance_below(c, 4000)); /* where translations live */
	return (uint16_t)(40000 + via * 100u + chance_below(c, 40));
}

static void spec_any(struct chance *c, enum via via, struct spec *spec, struct spec *about)
{
	*spec = (struct spec){ .what = what_any(c) };
	ends_any(c, via, spec);
	spec->sport = client_port(c, via);
	spec->dport = port_any(c);
	if (one_in(c, 3)) { /* as an answer */
		spec->sport = port_any(c);
		spec->dport = client_port(c, via >= UP ? UP : FROM_A + chance_below(c, 3));
	}
	spec->flags = flags_any(c);
	spec->ttl = one_in(c, 32) ? (uint8_t)(1 + chance_below(c, 3)) : 0;
	spec->payload = (uint16_t)chance_below(c, one_in(c, 16) ? 1500 : 48);
	spec->df = one_in(c, 2);
	spec->headers = one_in(c, 8) ? (uint8_t)(1 + chance_below(c, 8)) : 0;
	spec->vlan = one_in(c, 64);
	if (one_in(c, 12)) {
		spec->more = one_in(c, 2);
		spec->frag_off = one_in(c, 2) ? (uint16_t)(chance_below(c, 200) * 8) : 0;
		spec->frag_id = 1 + chance_below(c, 6);
		spec->payload = (uint16_t)(spec->payload & ~7u);
	}
	if (spec->what >= UNREACHABLE && spec->what <= TIME_EXCEEDED && !one_in(c, 16)) {
		*about = (struct spec){ .what = one_in(c, 2) ? UDP : TCP };
		about->from = spec->to;
		about->to = one_in(c, 8) ? place_any(c) : spec->from;
		about->sport = client_port(c, via >= UP ? UP : FROM_A + chance_below(c, 3));
		about->dport = port_any(c);
		spec->about = about;
		spec->mtu = (uint16_t)chance_below(c, 1600);
	}
}

/* ---- hostile hands ---------------------------------------------------------------------------------- */

static uint8_t *byte_any(struct chance *c, struct frame *f, size_t from)
{
	return f->len > from ? &f->data[from + chance_below(c, (uint32_t)(f->len - from))] : NULL;
}

static void change_bits(struct chance *c, struct frame *f)
{
	for (uint32_t n = 1 + chance_below(c, 4); n; n--) {
		uint8_t *at = byte_any(c, f, 12);

		if (at)
			*at ^= (uint8_t)(1u << chance_below(c, 8));
	}
}

static void change_bytes(struct chance *c, struct frame *f)
{
	static const uint8_t telling[] = { 0, 1, 4, 6, 0x7f, 0x80, 0xff, 0x40, 0x45, 0x60 };
	uint8_t *at = byte_any(c, f, one_in(c, 2) ? 12 : 14);

	if (at)
		*at = one_in(c, 2) ? (uint8_t)chance_below(c, 256)
				   : telling[chance_below(c, sizeof(telling))];
}

/* Lengths that lie: of the packet, its header, its extension headers, its datagram. */
static void change_length(struct chance *c, struct frame *f)
{
	static const uint16_t lengths[] = { 0,	1,  8,	19,	20,	21,    28,
					    39, 40, 41, 0x7fff, 0x8000, 0xffff };
	size_t at = f->data[12] == 8 ? L3 + 2 : L3 + 4;
	uint16_t length =
		one_in(c, 2) ? lengths[chance_below(c, 13)] : (uint16_t)chance_below(c, 65536);

	if (one_in(c, 3))
		at = L3 + (f->data[12] == 8 ? 20u : 40u) + 4; /* UDP's */
	if (f->len >= at + 2) {
		f->data[at] = (uint8_t)(length >> 8);
		f->data[at + 1] = (uint8_t)length;
	}
}

static void change_ihl(struct chance *c, struct frame *f)
{
	if (f->len > L3)
		f->data[L3] = (uint8_t)(chance_below(c, 4) ? 0x40 | chance_below(c, 16)
							   : chance_below(c, 256));
}

/* IPv4 options as they are on the wire, also the ones that steer: source routes. */
static void change_options(struct chance *c, struct frame *f)
{
	static const uint8_t kinds[] = { 0, 1, 7, 68, 131, 137, 148, 130, 255 };
	size_t room = f->len > L3 + 24 ? 4 + chance_below(c, 37) : 0;

	if (!room || f->data[12] != 8 || f->len + 40 > FRAME_MAX)
		return;
	room &= ~3u;
	memmove(f->data + L3 + 20 + room, f->data + L3 + 20, f->len - L3 - 20);
	for (size_t i = 0; i < room; i++)
		f->data[L3 + 20 + i] =
			one_in(c, 3) ? kinds[chance_below(c, 9)] : (uint8_t)chance_below(c, 44);
	f->len += room;
	f->data[L3] = (uint8_t)(0x40 | (5 + room / 4));
}

/* A chain of extension headers of any kind and length, in any order. */
static void change_headers(struct chance *c, struct frame *f)
{
	static const uint8_t kinds[] = { 0, 43, 44, 51, 60, 60, 0, 59, 50, 135 };

	if (f->data[12] != 0x86 || f->len < L3 + 40)
		return;
	for (uint32_t n = 1 + chance_below(c, one_in(c, 4) ? 10 : 3); n; n--) {
		uint8_t kind = kinds[chance_below(c, sizeof(kinds))], *at = f->data + L3 + 40;
		size_t len = kind == 44 ? 8 : 8 * (1 + chance_below(c, one_in(c, 8) ? 20 : 3));

		if (f->len + len > FRAME_MAX)
			return;
		memmove(at + len, at, f->len - L3 - 40);
		for (size_t i = 0; i < len; i++)
			at[i] = one_in(c, 4) ? (uint8_t)chance_below(c, 256) : 0;
		at[0] = f->data[L3 + 6];
		at[1] = (uint8_t)(kind == 51 ? len / 4 - 2 : len / 8 - 1);
		if (one_in(c, 8))
			at[1] = (uint8_t)chance_below(c, 256);
		if (kind == 44) {
			at[1] = 0;
			at[2] = one_in(c, 2) ? 0 : (uint8_t)chance_below(c, 4);
			at[3] = (uint8_t)(chance_below(c, 8) ? chance_below(c, 2)
							     : chance_below(c, 256));
			memset(at + 4, 0, 4);
			at[7] = (uint8_t)(1 + chance_below(c, 6));
		}
		f->data[L3 + 6] = kind;
		f->len += len;
	}
}

/* Fragments that overlap, begin at odd places, are tiny, or are all of one packet. */
static void change_fragment(struct chance *c, struct frame *f)
{
	static const uint16_t words[] = { 0x2000, 0x2001, 0x0001, 0x0002, 0x1fff,
					  0x3fff, 0x4000, 0x8000, 0xffff, 0x2003 };
	uint16_t word = words[chance_below(c, 10)];

	if (f->data[12] != 8 || f->len < L3 + 8)
		return;
	f->data[L3 + 4] = 0;
	f->data[L3 + 5] = (uint8_t)(1 + chance_below(c, 6));
	f->data[L3 + 6] = (uint8_t)(word >> 8);
	f->data[L3 + 7] = (uint8_t)word;
}

/* One packet inside another: IPv4 in IPv6, and so on. */
static void change_tunnel(struct chance *c, struct frame *f)
{
	bool outer4 = f->data[12] == 8;
	size_t head = outer4 ? 20 : 40;
	struct frame inner = *f;

	if (f->len < L3 + head || f->len + 40 > FRAME_MAX)
		return;
	if (one_in(c, 3)) { /* says one version and is the other */
		f->data[12] = outer4 ? 0x86 : 8;
		f->data[13] = outer4 ? 0xdd : 0;
		return;
	}
	memcpy(f->data + L3 + head, inner.data + L3, inner.len - L3);
	f->data[L3 + (outer4 ? 9 : 6)] = one_in(c, 2) ? 41 : 4;
	f->len += head;
}

static void change_ethernet(struct chance *c, struct frame *f)
{
	static const uint16_t types[] = { 0x0806, 0x8100, 0x88a8, 0x8847, 0x8848, 0x88cc, 0x8863,
					  0x0026, 0x05dc, 0x86dd, 0x0800, 0x8864, 0xffff };
	uint16_t type = types[chance_below(c, 13)];

	f->data[12] = (uint8_t)(type >> 8);
	f->data[13] = (uint8_t)type;
	if (one_in(c, 3))
		memset(f->data, one_in(c, 2) ? 0xff : 0x01, 6);
}

/* Another's addresses, and addresses that nobody has on a wire. */
static void change_address(struct chance *c, struct frame *f)
{
	bool v4 = f->data[12] == 8;
	size_t len = v4 ? 4 : 16, at = L3 + (v4 ? 12 : 8) + (one_in(c, 2) ? len : 0);
	union tw_addr addr;

	if (f->len < at + len)
		return;
	place_addr(chance_below(c, PLACES), v4 ? 4 : 6, &addr);
	if (one_in(c, 4)) {
		memset(&addr, one_in(c, 2) ? 0xff : 0, sizeof(addr));
		addr.byte[15] = (uint8_t)chance_below(c, 256);
	}
	memcpy(f->data + at, v4 ? addr.byte + 12 : addr.byte, len);
}

static void change_protocol(struct chance *c, struct frame *f)
{
	static const uint8_t protos[] = { 1,  2,  4,  6,  17,  33,  41,	 47,  50,
					  51, 58, 59, 89, 103, 112, 132, 136, 255 };
	size_t at = L3 + (f->data[12] == 8 ? 9 : 6);

	if (f->len > at)
		f->data[at] = protos[chance_below(c, sizeof(protos))];
}

static void change_cut(struct chance *c, struct frame *f)
{
	if (f->len > L3)
		f->len = L3 + chance_below(c, (uint32_t)(f->len - L3));
}

static void change_trailer(struct chance *c, struct frame *f)
{
	size_t more = chance_below(c, 64);

	if (f->len + more > FRAME_MAX)
		return;
	for (size_t i = 0; i < more; i++)
		f->data[f->len + i] = (uint8_t)chance_below(c, 256);
	f->len += more;
}

typedef void (*change_fn)(struct chance *c, struct frame *f);

static const change_fn changes[] = {
	change_bits,	change_bytes,	 change_length,	  change_ihl,	   change_options,
	change_headers, change_fragment, change_tunnel,	  change_ethernet, change_address,
	change_cut,	change_trailer,	 change_protocol, change_headers,
};

void chance_frame(struct chance *c, struct chance_frame *out)
{
	struct spec spec, about;

	out->via = chance_below(c, VIAS);
	out->family = one_in(c, 2) ? 4 : 6;
	spec_any(c, out->via, &spec, &about);
	frame_build(&out->frame, out->family, &spec);
	out->gso_size = one_in(c, 32) ? chance_below(c, 3000) : 0;
	out->changed = out->gso_size || spec.vlan || spec.headers || spec.more || spec.frag_off ||
		       spec.payload > 1400;
	if (one_in(c, 3))
		return;
	out->changed = true;
	for (uint32_t n = 1 + chance_below(c, 3); n; n--)
		changes[chance_below(c, sizeof(changes) / sizeof(changes[0]))](c, &out->frame);
}

void chance_rules(struct chance *c, struct model_rules *out)
{
	static const enum what whats[] = { TCP, UDP, SCTP };
	static const enum place peers[] = { NOWHERE, A, B, C, OUTSIDE, KEPT };

	*out = (struct model_rules){ .isolate = chance_below(c, 4) };
	for (out->n = 0; out->n < chance_below(c, MODEL_RULES + 1); out->n++) {
		out->allow[out->n] =
			ALLOW(one_in(c, 2) ? TW_INGRESS : TW_EGRESS, peers[chance_below(c, 6)],
			      whats[chance_below(c, 3)], port_any(c));
	}
}
