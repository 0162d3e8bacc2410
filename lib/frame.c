/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A packet of a tuple, as a sender's stack would make it. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "trace.h"

#define SCTP_HEADER 12u

static uint32_t sum_bytes(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? byte[i] : (uint32_t)byte[i] << 8;
	return sum;
}

/* RFC 1071, ready to be stored. */
static uint16_t checksum(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static uint32_t sum_pseudo(const struct tw_tuple *t, size_t len)
{
	size_t from = t->family == 4 ? 12 : 0;
	uint32_t sum = sum_bytes(0, t->saddr.byte + from, 16 - from);

	sum = sum_bytes(sum, t->daddr.byte + from, 16 - from);
	return sum + t->proto + (uint32_t)len;
}

static size_t l4_header(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return sizeof(struct tcphdr);
	case IPPROTO_SCTP:
		return SCTP_HEADER;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return sizeof(struct udphdr);
	default:
		return 0;
	}
}

/* `at` holds zeros and, behind the header, the payload; len is of both. */
static void put_l4(const struct trace_spec *spec, uint8_t *at, size_t len)
{
	const struct tw_tuple *t = &spec->tuple;
	struct tcphdr *tcp = (struct tcphdr *)at;
	struct udphdr *udp = (struct udphdr *)at;
	struct icmphdr *icmp = (struct icmphdr *)at;

	switch (t->proto) {
	case IPPROTO_TCP:
		tcp->doff = sizeof(*tcp) / 4;
		at[13] = spec->tcp;
		tcp->window = htons(65535);
		tcp->source = t->sport;
		tcp->dest = t->dport;
		tcp->check = checksum(sum_bytes(sum_pseudo(t, len), at, len));
		break;
	case IPPROTO_UDP:
		udp->source = t->sport;
		udp->dest = t->dport;
		udp->len = htons((uint16_t)len);
		udp->check = checksum(sum_bytes(sum_pseudo(t, len), at, len)) ?: 0xffff;
		break;
	case IPPROTO_SCTP: /* its CRC is nobody's business on the way */
		memcpy(at, &t->sport, 2);
		memcpy(at + 2, &t->dport, 2);
		break;
	default:
		icmp->type = t->proto == IPPROTO_ICMP ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
		icmp->un.echo.id = t->sport;
		icmp->checksum = checksum(
			sum_bytes(t->proto == IPPROTO_ICMP ? 0 : sum_pseudo(t, len), at, len));
	}
}

static void put_l3(const struct trace_spec *spec, uint8_t *at, size_t l4_len)
{
	const struct tw_tuple *t = &spec->tuple;

	if (t->family == 4) {
		struct iphdr *ip = (struct iphdr *)at;

		ip->version = 4;
		ip->ihl = 5;
		ip->tot_len = htons((uint16_t)(sizeof(*ip) + l4_len));
		ip->frag_off = htons(IP_DF);
		ip->ttl = spec->ttl;
		ip->protocol = t->proto;
		ip->saddr = t->saddr.word[3];
		ip->daddr = t->daddr.word[3];
		ip->check = checksum(sum_bytes(0, ip, sizeof(*ip)));
	} else {
		struct ip6_hdr *ip = (struct ip6_hdr *)at;

		ip->ip6_flow = htonl(6u << 28);
		ip->ip6_plen = htons((uint16_t)l4_len);
		ip->ip6_nxt = t->proto;
		ip->ip6_hlim = spec->ttl;
		memcpy(&ip->ip6_src, &t->saddr, 16);
		memcpy(&ip->ip6_dst, &t->daddr, 16);
	}
}

int trace_frame(const struct trace_spec *spec, struct trace_packet *out)
{
	const struct tw_tuple *t = &spec->tuple;
	size_t l3 = t->family == 4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	size_t l4 = l4_header(t->proto), len = ETHER_HDR_LEN + l3 + l4 + spec->payload;

	if (!l4)
		return -EPROTONOSUPPORT;
	if (spec->payload > TRACE_FRAME_MAX || len > TRACE_FRAME_MAX)
		return -E2BIG;
	memset(out->frame, 0, len);
	memcpy(out->frame, spec->dmac, 6);
	memcpy(out->frame + 6, spec->smac, 6);
	out->frame[12] = t->family == 4 ? 0x08 : 0x86;
	out->frame[13] = t->family == 4 ? 0x00 : 0xdd;
	put_l3(spec, out->frame + ETHER_HDR_LEN, l4 + spec->payload);
	put_l4(spec, out->frame + ETHER_HDR_LEN + l3, l4 + spec->payload);
	out->tuple = *t;
	out->len = len;
	return 0;
}
