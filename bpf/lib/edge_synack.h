/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A SYN turned into the SYN-ACK that answers it, and the check of what comes back. The sequence
 * number is the kernel's own SYN cookie (net/ipv4/syncookies.c): a keyed hash of the tuple and the
 * minute, with one of four MSS values in it. Window scale and SACK travel in the lowest six bits of
 * the timestamp, as the kernel's cookies have it, so only a client that sends timestamps has them.
 */
#ifndef TW_EDGE_SYNACK_H
#define TW_EDGE_SYNACK_H

#include <linux/tcp.h>

#include "edge_count.h"

/* Kinds of TCP options (RFC 9293, RFC 7323, RFC 2018), and whole ones as they are sent. */
enum { TCP_KIND_END, TCP_KIND_NOP, TCP_KIND_SCALE = 3, TCP_KIND_SACK = 4, TCP_KIND_TS = 8 };
#define TCP_OPTION_MSS 0x02040000u     /* | MSS */
#define TCP_OPTION_SACK_TS 0x0402080au /* SACK permitted, timestamps */
#define TCP_OPTION_TS 0x0101080au
#define TCP_OPTION_SCALE 0x01030300u /* | window scale */
#define TCP_OPTION_NOPS 0x01010101u
#define TCP_OPTIONS_MAX 40

/* What the timestamp of a cookie keeps (TSBITS of the kernel). */
#define EDGE_TS_BITS 6
#define EDGE_TS_SCALE 0x0f /* window scale of the client; 0x0f: none */
#define EDGE_TS_SACK 0x10

/*
 * What we say that we take before the listener has been asked. More than a first flight of any
 * client, less than the least that Linux opens with.
 */
#define EDGE_WINDOW 32768

#define IP_DF 0x4000

/* A TCP header with room for all options; four words more, as a look at an option reads ten bytes from its begin. */
struct edge_tcp {
	struct tcphdr th;
	__u8 options[TCP_OPTIONS_MAX + 16];
};

struct edge_tcp_options {
	__be32 tsval;
	__be32 tsecr;
	__u8 timestamps; /* there */
	__u8 sack;	 /* permitted */
	__u8 scale;	 /* window scale; 15: none */
};

/* For a header's length; in one register, as in offset_beyond(). */
static __always_inline bool edge_header_unfit(__u32 *len)
{
	if (offset_beyond(len, sizeof(struct tcphdr) + TCP_OPTIONS_MAX))
		return true;
	if (*len < sizeof(struct tcphdr))
		return true;
	asm volatile("" : "+r"(*len));
	return false;
}

/* Reads len bytes of options, which the caller found in the frame. Not in it: not read. */
static __noinline void edge_tcp_options(const struct edge_tcp *tcp, __u32 len,
					struct edge_tcp_options *out)
{
	__u32 off = 0;

	*out = (struct edge_tcp_options){ .scale = EDGE_TS_SCALE };
	for (int i = 0; i < TCP_OPTIONS_MAX; i++) {
		const __u8 *o;

		if (off >= len || off >= TCP_OPTIONS_MAX)
			return;
		o = tcp->options + off;
		if (o[0] == TCP_KIND_END)
			return;
		if (o[0] == TCP_KIND_NOP) {
			off++;
			continue;
		}
		if (o[1] < 2 || off + o[1] > len)
			return;
		if (o[0] == TCP_KIND_SCALE && o[1] == 3) {
			out->scale = o[2] > 14 ? 14 : o[2];
		} else if (o[0] == TCP_KIND_SACK && o[1] == 2) {
			out->sack = 1;
		} else if (o[0] == TCP_KIND_TS && o[1] == 10) {
			out->timestamps = 1;
			__builtin_memcpy(&out->tsval, o + 2, 4);
			__builtin_memcpy(&out->tsecr, o + 6, 4);
		}
		off += o[1];
	}
}

/* The kernel's cookie for a SYN: in the lower half; its MSS above; negative: none. */
static __always_inline __s64 edge_cookie_make(const struct tw_tuple *t, struct tcphdr *syn,
					      __u32 len)
{
	if (t->family == 4) {
		struct iphdr ip = { .saddr = t->saddr.word[3], .daddr = t->daddr.word[3] };

		return bpf_tcp_raw_gen_syncookie_ipv4(&ip, syn, len);
	}
	struct ipv6hdr ip = {};

	__builtin_memcpy(&ip.saddr, &t->saddr, 16);
	__builtin_memcpy(&ip.daddr, &t->daddr, 16);
	return bpf_tcp_raw_gen_syncookie_ipv6(&ip, syn, len);
}

/* Is the segment's acknowledgment a cookie of this minute or the one before? */
static __always_inline bool edge_cookie_valid(const struct tw_tuple *t, struct tcphdr *ack)
{
	if (t->family == 4) {
		struct iphdr ip = { .saddr = t->saddr.word[3], .daddr = t->daddr.word[3] };

		return !bpf_tcp_raw_check_syncookie_ipv4(&ip, ack);
	}
	struct ipv6hdr ip = {};

	__builtin_memcpy(&ip.saddr, &t->saddr, 16);
	__builtin_memcpy(&ip.daddr, &t->daddr, 16);
	return !bpf_tcp_raw_check_syncookie_ipv6(&ip, ack);
}

/* The same for a segment that is in the frame. */
static __always_inline bool edge_synack_valid(struct xdp_md *xdp, const struct edge_packet *p)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 l4_off = p->l4_off;
	struct tcphdr th;

	if (offset_beyond(&l4_off, EDGE_HEADERS_MAX) || data + l4_off + sizeof(th) > end)
		return false;
	__builtin_memcpy(&th, data + l4_off, sizeof(th));
	return edge_cookie_valid(&p->tuple, &th);
}

/* What is sent: the header and its options, of which the last four words may be left out. */
struct edge_answer {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack_seq;
	__u8 off;
	__u8 flags;
	__be16 window;
	__u16 check;
	__u16 urgent;
	__be32 options[5];
};
#define EDGE_ANSWER_SHORT (sizeof(struct edge_answer) - 16)

static __always_inline void edge_answer_timestamps(struct edge_answer *a,
						   const struct tw_edge_cookie_settings *settings,
						   const struct edge_tcp_options *syn)
{
	bool sack = settings->sack && syn->sack;
	bool scale = settings->window_scale < 15 && syn->scale < 15;
	__u32 now = (__u32)(bpf_ktime_get_coarse_ns() / 1000000) + settings->clock;
	__u32 kept = (scale ? syn->scale : EDGE_TS_SCALE) | (sack ? EDGE_TS_SACK : 0);
	__u32 stamp = now >> EDGE_TS_BITS << EDGE_TS_BITS | kept;

	/* Never ahead of the clock, which goes on with the connection (RFC 7323, 5.3). */
	if ((__s32)(stamp - now) > 0)
		stamp -= 1 << EDGE_TS_BITS;
	a->options[1] = bpf_htonl(sack ? TCP_OPTION_SACK_TS : TCP_OPTION_TS);
	a->options[2] = bpf_htonl(stamp);
	a->options[3] = syn->tsval;
	a->options[4] =
		bpf_htonl(scale ? TCP_OPTION_SCALE | settings->window_scale : TCP_OPTION_NOPS);
}

static __always_inline __u16 checksum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* IPv4's mapped prefix is in no pseudo header, but the sum of an address is that of its words. */
static __always_inline __u64 address_sum(const union tw_addr *a, __u8 family)
{
	if (family == 4)
		return a->word[3];
	return (__u64)a->word[0] + a->word[1] + a->word[2] + a->word[3];
}

static __always_inline __u16 edge_answer_check(const struct edge_answer *a,
					       const struct tw_tuple *t, __u32 len)
{
	const __u32 *word = (const __u32 *)a;
	__u64 sum = address_sum(&t->saddr, t->family) + address_sum(&t->daddr, t->family) +
		    bpf_htonl(PROTO_TCP) + bpf_htonl(len);

	for (__u32 i = 0; i < sizeof(*a) / 4; i++)
		sum += word[i];
	return checksum_fold(sum);
}

/* What the SYN asks for, and the answer to it; its length, or 0: this is no SYN to answer. */
static __always_inline __u32 edge_answer_make(struct xdp_md *xdp, const struct edge_packet *p,
					      const struct tw_edge_cookie_settings *settings,
					      struct edge_answer *a)
{
	struct edge_tcp syn = {};
	struct edge_tcp_options options;
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 l4_off = p->l4_off, len;
	bool six = p->tuple.family == 6;
	__s64 cookie;

	if (offset_beyond(&l4_off, EDGE_HEADERS_MAX) || data + l4_off + sizeof(syn.th) > end)
		return 0;
	len = (*(__u8 *)(data + l4_off + 12) >> 4) * 4;
	if (edge_header_unfit(&len) || bpf_xdp_load_bytes(xdp, l4_off, &syn, len))
		return 0;
	cookie = edge_cookie_make(&p->tuple, &syn.th, len);
	if (cookie < 0)
		return 0;
	edge_tcp_options(&syn, len - sizeof(syn.th), &options);
	*a = (struct edge_answer){
		.sport = p->tuple.dport,
		.dport = p->tuple.sport,
		.seq = bpf_htonl((__u32)cookie),
		.ack_seq = bpf_htonl(bpf_ntohl(syn.th.seq) + 1),
		.flags = TCP_SYN | TCP_ACK,
		.window = bpf_htons(EDGE_WINDOW),
		.options[0] = bpf_htonl(TCP_OPTION_MSS | settings->mss[six]),
	};
	len = EDGE_ANSWER_SHORT;
	if (settings->timestamps && options.timestamps) {
		edge_answer_timestamps(a, settings, &options);
		len = sizeof(*a);
	}
	a->off = (__u8)(len / 4 << 4);
	a->check = edge_answer_check(a, &p->tuple, len);
	return len;
}

static __always_inline void edge_answer_ip4(struct iphdr *ip, const struct edge_packet *p,
					    __u32 len)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = 0;

	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons((__u16)(sizeof(*ip) + len)),
		.frag_off = bpf_htons(IP_DF),
		.ttl = 64,
		.protocol = PROTO_TCP,
		.saddr = p->tuple.daddr.word[3],
		.daddr = p->tuple.saddr.word[3],
	};
	for (__u32 i = 0; i < sizeof(*ip) / 4; i++)
		sum += word[i];
	ip->check = checksum_fold(sum);
}

static __always_inline void edge_answer_ip6(struct ipv6hdr *ip, const struct edge_packet *p,
					    __u32 len)
{
	*ip = (struct ipv6hdr){
		.version = 6,
		.payload_len = bpf_htons((__u16)len),
		.nexthdr = PROTO_TCP,
		.hop_limit = 64,
	};
	__builtin_memcpy(&ip->saddr, &p->tuple.daddr, 16);
	__builtin_memcpy(&ip->daddr, &p->tuple.saddr, 16);
}

/* The answer in place of the SYN: headers that came in front of IP stay, MAC addresses change ends. */
static __always_inline bool edge_answer_write(struct xdp_md *xdp, const struct edge_packet *p,
					      const struct edge_answer *a, __u32 len)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end, *l3, *l4;
	__u32 l3_off = p->l3_off;
	struct ethhdr *eth = data;
	__u8 mac[ETH_ALEN];

	if (offset_beyond(&l3_off,
			  sizeof(struct ethhdr) + EDGE_VLAN_MAX * sizeof(struct edge_vlan)))
		return false;
	l3 = data + l3_off;
	l4 = l3 + (p->tuple.family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if ((void *)(eth + 1) > end || l4 + EDGE_ANSWER_SHORT > end)
		return false;
	if (len == sizeof(*a)) {
		if (l4 + sizeof(*a) > end)
			return false;
		__builtin_memcpy(l4, a, sizeof(*a));
	} else {
		__builtin_memcpy(l4, a, EDGE_ANSWER_SHORT);
	}
	if (p->tuple.family == 4) {
		if (l3 + sizeof(struct iphdr) > end)
			return false;
		edge_answer_ip4(l3, p, len);
	} else {
		if (l3 + sizeof(struct ipv6hdr) > end)
			return false;
		edge_answer_ip6(l3, p, len);
	}
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return true;
}

/* XDP_TX: the frame is the answer now. Else it is damaged, and to be dropped. */
static __always_inline int edge_synack(struct xdp_md *xdp, const struct edge_packet *p,
				       const struct tw_edge_cookie_settings *settings)
{
	struct edge_answer answer;
	__u32 len = edge_answer_make(xdp, p, settings, &answer), whole;

	if (!len)
		return XDP_DROP;
	whole = p->l3_off + len +
		(p->tuple.family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if (whole < ETH_ZLEN)
		whole = ETH_ZLEN;
	if (whole != p->len && bpf_xdp_adjust_tail(xdp, (int)whole - (int)p->len))
		return XDP_DROP;
	return edge_answer_write(xdp, p, &answer, len) ? XDP_TX : XDP_DROP;
}

#endif
