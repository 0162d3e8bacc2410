/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * SYN cookies, the listener's side: a tc program behind the XDP program of the same device. It gives
 * a listener the request socket that the SYN would have made, so the listener needs no sysctl,
 * no SYN of its own within the last two minutes, and has the options that the cookie kept. On the
 * path of packets to listed ports only while cookies may come back.
 */
#ifndef TW_EDGE_ACCEPT_H
#define TW_EDGE_ACCEPT_H

#include "edge_cookie.h"

/* linux/pkt_cls.h has it from 6.6 on. */
#define EDGE_TCX_NEXT (-1)
/* s for which SYNs go to a listener that took no cookie (MPTCP's do not). */
#define EDGE_COOKIE_REFUSED 60

/* include/net/tcp.h; the kernel takes it by its size, which has to be this one. */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

/* Of the kernel, and defined here only so that libbpf finds the same kind of type. */
struct sock {
};
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk,
				   struct bpf_tcp_req_attrs *attrs, int attrs__sz) __ksym __weak;

/*
 * From the IP header on. Where the XDP program runs in generic mode, the frame that Linux 6.9 and
 * newer give to tc may begin there: its mac_len is lost when the frame is copied for XDP.
 */
static __always_inline bool edge_load(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return !bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/* A segment at tc: what XDP's parser finds, as far as cookies are concerned. */
struct edge_segment {
	struct tw_tuple tuple;
	struct edge_tcp tcp;
	__u32 options; /* bytes */
};

static __always_inline bool edge_segment_ip4(struct __sk_buff *skb, struct tw_tuple *t, __u32 *l4)
{
	struct iphdr ip;

	if (!edge_load(skb, 0, &ip, sizeof(ip)) || ip.protocol != PROTO_TCP ||
	    ip.frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return false;
	t->family = 4;
	addr_map4(&t->saddr, ip.saddr);
	addr_map4(&t->daddr, ip.daddr);
	*l4 = ip.ihl * 4;
	return true;
}

/* Behind extension headers no SYN got a cookie. */
static __always_inline bool edge_segment_ip6(struct __sk_buff *skb, struct tw_tuple *t, __u32 *l4)
{
	struct ipv6hdr ip;

	if (!edge_load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != PROTO_TCP)
		return false;
	t->family = 6;
	__builtin_memcpy(&t->saddr, &ip.saddr, 16);
	__builtin_memcpy(&t->daddr, &ip.daddr, 16);
	*l4 = sizeof(ip);
	return true;
}

static __always_inline bool edge_segment_get(struct __sk_buff *skb, struct edge_segment *s,
					     __u32 *l4)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!edge_segment_ip4(skb, &s->tuple, l4))
			return false;
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
		   !edge_segment_ip6(skb, &s->tuple, l4)) {
		return false;
	}
	if (!edge_load(skb, *l4, &s->tcp.th, sizeof(s->tcp.th)))
		return false;
	s->tuple.proto = PROTO_TCP;
	s->tuple.sport = s->tcp.th.source;
	s->tuple.dport = s->tcp.th.dest;
	return s->tcp.th.ack && !s->tcp.th.syn && !s->tcp.th.rst;
}

/* The MSS values that the kernel's cookies know (msstab), smallest first. */
static const __u16 edge_mss[2][4] = {
	{ 536, 1300, 1440, 1460 },
	{ 1220, 1420, 1440, 8940 },
};

/*
 * The MSS of a valid cookie, or 0. A cookie of a SYN without MSS is of the table's smallest value,
 * and the others of that minute are 1 to 3 more. So one call checks a cookie and reads it; only
 * one of the minute before is checked again, and its MSS is taken for the smallest.
 */
static __always_inline __u16 edge_cookie_mss(struct edge_segment *s)
{
	struct tcphdr syn = {
		.source = s->tcp.th.source,
		.dest = s->tcp.th.dest,
		.seq = bpf_htonl(bpf_ntohl(s->tcp.th.seq) - 1),
		.doff = sizeof(syn) / 4,
		.syn = 1,
	};
	__u32 six = s->tuple.family == 6;
	__u32 more = bpf_ntohl(s->tcp.th.ack_seq) - 1 -
		     (__u32)edge_cookie_make(&s->tuple, &syn, sizeof(syn));

	if (more < 4)
		return edge_mss[six][more];
	return edge_cookie_valid(&s->tuple, &s->tcp.th) ? edge_mss[six][0] : 0;
}

static __always_inline void edge_attrs_make(struct __sk_buff *skb, struct edge_segment *s, __u32 l4,
					    __u16 mss,
					    const struct tw_edge_cookie_settings *settings,
					    struct bpf_tcp_req_attrs *attrs)
{
	__u32 len = s->tcp.th.doff * 4u, echo;
	struct edge_tcp_options options;

	*attrs = (struct bpf_tcp_req_attrs){ .mss = mss };
	if (!settings->timestamps || edge_header_unfit(&len) || !edge_load(skb, l4, &s->tcp, len))
		return;
	edge_tcp_options(&s->tcp, len - sizeof(struct tcphdr), &options);
	if (!options.timestamps)
		return;
	echo = bpf_ntohl(options.tsecr);
	attrs->tstamp_ok = 1;
	attrs->rcv_tsval = bpf_ntohl(options.tsval);
	attrs->rcv_tsecr = echo;
	attrs->sack_ok = settings->sack && echo & EDGE_TS_SACK;
	if ((echo & EDGE_TS_SCALE) < 15 && settings->window_scale < 15) {
		attrs->wscale_ok = 1;
		attrs->snd_wscale = echo & EDGE_TS_SCALE;
		attrs->rcv_wscale = settings->window_scale;
	}
}

static __always_inline void edge_accept(struct __sk_buff *skb, struct edge_segment *s, __u32 l4,
					const struct edge_cookie *c)
{
	__u16 mss = edge_cookie_mss(s);
	struct bpf_tcp_req_attrs attrs;
	struct bpf_sock *listener;
	struct sock *sk;

	if (!mss)
		return;
	edge_attrs_make(skb, s, l4, mss, c->settings, &attrs);
	listener = edge_sock_get(skb, &s->tuple);
	if (!listener)
		return;
	if (listener->state != BPF_TCP_LISTEN) {
		bpf_sk_release(listener);
		return;
	}
	sk = (struct sock *)bpf_skc_to_tcp_sock(listener);
	if (sk && !bpf_sk_assign_tcp_reqsk(skb, sk, &attrs, sizeof(attrs))) {
		c->count->accepted++;
	} else {
		/* An MPTCP listener, or options that its namespace has switched off meanwhile. */
		c->count->unusable++;
		c->state->refused =
			bpf_jiffies64() + EDGE_COOKIE_REFUSED * (__u64)tw_edge_settings.hz;
	}
	bpf_sk_release(listener);
}

SEC("tc")
int tw_edge_accept(struct __sk_buff *skb)
{
	struct tw_edge_limits *limits = edge_limits();
	struct edge_segment segment = {};
	struct edge_cookie cookie;
	struct tw_edge_limit_set *set;
	__u32 l4, word;

	if (!limits || !edge_segment_get(skb, &segment, &l4))
		return EDGE_TCX_NEXT;
	set = &limits->set[*(volatile __u32 *)&limits->current & 1];
	word = set->tcp[port_index(segment.tuple.dport)];
	if (edge_cookie_get(set, word, &cookie) && cookie.settings->mode == TW_EDGE_COOKIE_ASSIGN &&
	    edge_cookie_expected(&cookie, bpf_jiffies64()))
		edge_accept(skb, &segment, l4, &cookie);
	return EDGE_TCX_NEXT;
}

#endif
