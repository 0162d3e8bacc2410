/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "frame.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

static const struct {
	const char *v4, *v6;
} places[PLACES] = {
	[NOWHERE] = { "0.0.0.0", "::" },
	[A] = { "10.88.0.2", "fd00:10:88::2" },
	[B] = { "10.88.0.3", "fd00:10:88::3" },
	[C] = { "10.88.0.4", "fd00:10:88::4" },
	[EMPTY] = { "10.88.0.99", "fd00:10:88::99" },
	[NODE] = { "192.0.2.1", "2001:db8:1::1" },
	[NODE2] = { "192.0.3.1", "2001:db8:2::1" },
	[OUTSIDE] = { "198.51.100.7", "2001:db8:100::7" },
	[OUTSIDE2] = { "198.51.100.8", "2001:db8:100::8" },
	[ROUTER] = { "192.0.2.254", "2001:db8:1::fe" },
	[KEPT] = { "203.0.113.5", "2001:db8:113::5" },
	[UNROUTED] = { "100.64.9.9", "2001:db8:dead::1" },
	[GROUP] = { "224.0.0.251", "ff02::fb" },
	[LOOPBACK] = { "127.0.0.1", "::1" },
};

void place_addr(enum place place, int family, union tw_addr *out)
{
	union tw_addr addr = {};
	int done;

	if (family == 4) {
		addr.word[2] = htonl(0xffff);
		done = inet_pton(AF_INET, places[place].v4, &addr.word[3]);
	} else {
		done = inet_pton(AF_INET6, places[place].v6, &addr);
	}
	assert(done == 1);
	*out = addr;
}

uint8_t what_proto(enum what what, int family)
{
	switch (what) {
	case TCP:
		return IPPROTO_TCP;
	case UDP:
		return IPPROTO_UDP;
	case SCTP:
		return IPPROTO_SCTP;
	case ESP:
		return IPPROTO_ESP;
	default:
		return family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	}
}

static bool is_icmp(enum what what)
{
	return what >= ECHO && what <= ICMP_OTHER;
}

static uint32_t sum16(const uint8_t *data, size_t len, uint32_t sum)
{
	for (; len > 1; data += 2, len -= 2)
		sum += (uint32_t)data[0] << 8 | data[1];
	return len ? sum + ((uint32_t)data[0] << 8) : sum;
}

static uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Sum of the transport with its pseudo header (none for ICMPv4). */
static uint16_t l4_sum(const uint8_t *l4, size_t len, const struct tw_tuple *t)
{
	uint32_t sum = 0;

	if (t->proto != IPPROTO_ICMP) {
		size_t skip = t->family == 4 ? 12 : 0;

		sum = sum16(t->saddr.byte + skip, 16 - skip, (uint32_t)len + t->proto);
		sum = sum16(t->daddr.byte + skip, 16 - skip, sum);
	}
	return sum_fold(sum16(l4, len, sum));
}

static int l4_sum_off(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
		return 6;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 2;
	default:
		return -1;
	}
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, (uint16_t)(value >> 16));
	put16(at + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void icmp_type(const struct spec *spec, int family, uint8_t *type, uint8_t *code)
{
	static const uint8_t types[][4] = {
		/* IPv4 type and code, IPv6 type and code */
		[0] = { ICMP_ECHO, 0, ICMP6_ECHO_REQUEST, 0 },
		[ECHO_REPLY - ECHO] = { ICMP_ECHOREPLY, 0, ICMP6_ECHO_REPLY, 0 },
		[UNREACHABLE - ECHO] = { ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMP6_DST_UNREACH,
					 ICMP6_DST_UNREACH_NOPORT },
		[TOO_BIG - ECHO] = { ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP6_PACKET_TOO_BIG, 0 },
		[TIME_EXCEEDED - ECHO] = { ICMP_TIME_EXCEEDED, 0, ICMP6_TIME_EXCEEDED, 0 },
		[ICMP_OTHER - ECHO] = { ICMP_REDIRECT, 0, 134, 0 },
	};
	const uint8_t *row = types[spec->what - ECHO];

	*type = row[family == 4 ? 0 : 2];
	*code = row[family == 4 ? 1 : 3];
}

/* The packet that an ICMP error is about: its headers and 8 bytes, as routers send it back. */
static size_t put_inner(uint8_t *at, int family, const struct spec *about)
{
	struct frame inner;
	size_t len;

	frame_build(&inner, family, about);
	len = inner.len - ETH_HLEN;
	if (len > (family == 4 ? 28u : 64u))
		len = family == 4 ? 28 : 64;
	memcpy(at, inner.data + ETH_HLEN, len);
	return len;
}

/* The transport header and payload, without checksum; returns the length. */
static size_t put_l4(uint8_t *at, int family, const struct spec *spec)
{
	size_t len;

	memset(at, 0, 40);
	if (is_icmp(spec->what)) {
		icmp_type(spec, family, &at[0], &at[1]);
		if (spec->what == ECHO || spec->what == ECHO_REPLY) {
			put16(at + 4, spec->sport);
			put16(at + 6, spec->sequence);
		} else if (spec->what == TOO_BIG) {
			put16(at + 6, spec->mtu);
		}
		len = 8;
		if (spec->about)
			return len + put_inner(at + len, family, spec->about);
	} else if (spec->what == ESP) {
		len = 8;
	} else {
		put16(at, spec->sport);
		put16(at + 2, spec->dport);
		if (spec->what == TCP) {
			put32(at + 4, 1000);
			put32(at + 8, spec->flags & ACK ? 2000 : 0);
			at[12] = 5 << 4;
			at[13] = spec->flags;
			put16(at + 14, 65535);
			len = 20;
		} else if (spec->what == UDP) {
			put16(at + 4, (uint16_t)(8 + spec->payload));
			len = 8;
		} else {
			put32(at + 4, 0x12345678); /* verification tag */
			put32(at + 8, 0x9abcdef0); /* CRC: nobody here may look at it */
			len = 12;
		}
	}
	for (size_t i = 0; i < spec->payload; i++)
		at[len + i] = (uint8_t)(i + spec->sequence);
	return len + spec->payload;
}

static size_t put_ip4(uint8_t *at, const struct spec *spec, const struct tw_tuple *t)
{
	size_t len = 20 + 4u * spec->headers;

	memset(at, 0, len);
	memset(at + 20, 1, 4u * spec->headers); /* options: no-operations */
	at[0] = (uint8_t)(0x40 | len / 4);
	put16(at + 4, (uint16_t)spec->frag_id);
	put16(at + 6,
	      (uint16_t)(spec->frag_off / 8 | (spec->more ? IP_MF : 0) | (spec->df ? IP_DF : 0)));
	at[8] = spec->ttl ?: 64;
	at[9] = t->proto;
	memcpy(at + 12, t->saddr.byte + 12, 4);
	memcpy(at + 16, t->daddr.byte + 12, 4);
	return len;
}

static size_t put_ip6(uint8_t *at, const struct spec *spec, const struct tw_tuple *t)
{
	bool fragment = spec->more || spec->frag_off || spec->frag_id;
	uint8_t *next = at + 6;
	size_t len = 40;

	memset(at, 0, len);
	at[0] = 0x60;
	at[7] = spec->ttl ?: 64;
	memcpy(at + 8, &t->saddr, 16);
	memcpy(at + 24, &t->daddr, 16);
	for (int i = 0; i < spec->headers; i++, len += 8) {
		*next = IPPROTO_DSTOPTS;
		next = at + len;
		memset(next, 0, 8);
		at[len + 2] = 1; /* PadN of 4 */
		at[len + 3] = 4;
	}
	if (fragment) {
		*next = IPPROTO_FRAGMENT;
		next = at + len;
		memset(next, 0, 8);
		put16(at + len + 2, (uint16_t)(spec->frag_off | spec->more));
		put32(at + len + 4, spec->frag_id);
		len += 8;
	}
	*next = t->proto;
	return len;
}

void spec_tuple(const struct spec *spec, int family, struct tw_tuple *out)
{
	*out = (struct tw_tuple){ .proto = what_proto(spec->what, family),
				  .family = (uint8_t)family };
	place_addr(spec->from, family, &out->saddr);
	place_addr(spec->to, family, &out->daddr);
	if (spec->what == TCP || spec->what == UDP || spec->what == SCTP) {
		out->sport = htons(spec->sport);
		out->dport = htons(spec->dport);
	} else if (spec->what == ECHO || spec->what == ECHO_REPLY) {
		out->sport = out->dport = htons(spec->sport);
	}
}

void frame_build(struct frame *out, int family, const struct spec *spec)
{
	static const uint8_t macs[12] = { 2, 0x54, 0x57, 0, 0, 1, 2, 0, 0, 0, 0, 2 };
	uint8_t *at = out->data, *ip, *l4;
	struct tw_tuple t;
	size_t l3_len, l4_len;

	spec_tuple(spec, family, &t);
	memcpy(at, macs, sizeof(macs));
	at += sizeof(macs);
	if (spec->vlan) {
		put32(at, (uint32_t)ETH_P_8021Q << 16 | 5);
		at += 4;
	}
	if (spec->what == ARP) {
		put16(at, ETH_P_ARP);
		memset(at + 2, 0, 28);
		out->len = (size_t)(at + 30 - out->data);
		return;
	}
	put16(at, family == 4 ? ETH_P_IP : ETH_P_IPV6);
	ip = at + 2;
	l3_len = family == 4 ? put_ip4(ip, spec, &t) : put_ip6(ip, spec, &t);
	l4 = ip + l3_len;
	if (spec->frag_off) {
		l4_len = spec->payload;
		memset(l4, 0x5a, l4_len);
	} else {
		int off = l4_sum_off(t.proto);

		l4_len = put_l4(l4, family, spec);
		if (off >= 0 && !spec->no_sum) {
			uint16_t sum = l4_sum(l4, l4_len, &t);

			put16(l4 + off, sum || t.proto != IPPROTO_UDP ? sum : 0xffff);
		}
	}
	if (family == 4) {
		put16(ip + 2, (uint16_t)(l3_len + l4_len));
		put16(ip + 10, sum_fold(sum16(ip, l3_len, 0)));
	} else {
		put16(ip + 4, (uint16_t)(l3_len - 40 + l4_len));
	}
	out->len = (size_t)(l4 + l4_len - out->data);
	assert(out->len <= FRAME_MAX);
	if (spec->cut && spec->cut < out->len)
		out->len = spec->cut;
}

int frame_view(const struct frame *frame, struct view *out)
{
	const uint8_t *ip = frame->data + ETH_HLEN, *l4;
	uint16_t type = get16(frame->data + 12);
	struct view v = {};
	size_t room, l4_len;

	memcpy(v.dmac, frame->data, 6);
	memcpy(v.smac, frame->data + 6, 6);
	if (frame->len < ETH_HLEN + (type == ETH_P_IP ? 28u : 48u))
		return -EINVAL;
	room = frame->len - ETH_HLEN;
	v.checksums_right = true;
	if (type == ETH_P_IP) {
		v.tuple.family = 4;
		v.tuple.proto = ip[9];
		v.ttl = ip[8];
		v.tuple.saddr.word[2] = v.tuple.daddr.word[2] = htonl(0xffff);
		memcpy(v.tuple.saddr.byte + 12, ip + 12, 4);
		memcpy(v.tuple.daddr.byte + 12, ip + 16, 4);
		v.checksums_right = !sum_fold(sum16(ip, 20, 0));
		l4 = ip + 20;
		l4_len = get16(ip + 2) - 20u;
	} else if (type == ETH_P_IPV6) {
		v.tuple.family = 6;
		v.tuple.proto = ip[6];
		v.ttl = ip[7];
		memcpy(&v.tuple.saddr, ip + 8, 16);
		memcpy(&v.tuple.daddr, ip + 24, 16);
		l4 = ip + 40;
		l4_len = get16(ip + 4);
	} else {
		return -EINVAL;
	}
	v.l4 = (size_t)(l4 - frame->data);
	if (v.l4 - ETH_HLEN + l4_len > room || l4_len < 8)
		return -EINVAL;
	if (l4_sum_off(v.tuple.proto) >= 0 && l4_sum(l4, l4_len, &v.tuple))
		v.checksums_right = false;
	if (v.tuple.proto == IPPROTO_ICMP || v.tuple.proto == IPPROTO_ICMPV6) {
		v.icmp_type = l4[0];
		v.icmp_code = l4[1];
		v.icmp_mtu = get16(l4 + 6);
		memcpy(&v.tuple.sport, l4 + 4, 2);
		v.tuple.dport = v.tuple.sport;
	} else if (v.tuple.proto != IPPROTO_ESP) {
		memcpy(&v.tuple.sport, l4, 2);
		memcpy(&v.tuple.dport, l4 + 2, 2);
		v.flags = v.tuple.proto == IPPROTO_TCP ? l4[13] : 0;
	}
	*out = v;
	return 0;
}
