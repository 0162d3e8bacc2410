/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * SYN cookies, the XDP side. While a listed port is flooded, its SYNs are answered here: no memory,
 * nothing allocated, and the answer's sequence number (the kernel's own cookie) proves the source
 * when it comes back. What comes back without a connection and without a cookie ends here, too.
 *
 * In what order a segment is looked at: the socket first. It costs a look-up (about 80 ns), but it
 * is what keeps existing connections out of all this: a segment or SYN that a socket other
 * than a listener owns goes to it untouched, TIME_WAIT included; so does what no socket here waits
 * for. Only a listener's segments are asked for a cookie. Outside of a flood a listed port's packets
 * are told by two loads.
 */
#ifndef TW_EDGE_COOKIE_H
#define TW_EDGE_COOKIE_H

#include "edge_limit.h"
#include "edge_synack.h"

#define EDGE_COOKIE_LINGER 10 /* s that cookies go on after a second with too many SYNs */
#define EDGE_COOKIE_LIFE 120  /* s that the kernel takes a cookie for (TCP_SYNCOOKIE_VALID) */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_COOKIE_PORTS);
	__type(key, __u32);
	__type(value, struct tw_edge_cookie_state);
} tw_edge_cookie_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_EDGE_COOKIE_PORTS);
	__type(key, __u32);
	__type(value, struct tw_edge_cookie_count);
} tw_edge_cookie_count SEC(".maps");

/* A port's cookies: what is configured and what is kept. */
struct edge_cookie {
	const struct tw_edge_cookie_settings *settings;
	struct tw_edge_cookie_state *state;
	struct tw_edge_cookie_count *count;
	__u32 above;
};

static __always_inline bool edge_cookie_get(const struct tw_edge_limit_set *set, __u32 word,
					    struct edge_cookie *out)
{
	__u32 index = (word >> TW_EDGE_PORT_COOKIE_SHIFT) - 1;

	if (index >= TW_EDGE_COOKIE_PORTS)
		return false;
	out->settings = &set->cookie;
	out->above = set->cookie_port[index].above;
	out->state = bpf_map_lookup_elem(&tw_edge_cookie_state, &index);
	out->count = bpf_map_lookup_elem(&tw_edge_cookie_count, &index);
	return out->state && out->count;
}

/*
 * One more SYN: are there too many? Counted with an atomic add up to one more than `above`, so a
 * flood does not fight for the line: after that many in a second it is only read.
 */
static __always_inline bool edge_cookie_flooded(const struct edge_cookie *c, __u64 now)
{
	struct tw_edge_cookie_state *s = c->state;
	__u64 window = s->window;

	if (!c->above)
		return true;
	if (now - window >= tw_edge_settings.hz &&
	    __sync_val_compare_and_swap(&s->window, window, now) == window)
		s->count = 0;
	if (s->count <= c->above && __sync_fetch_and_add(&s->count, 1) >= c->above)
		s->until = now + EDGE_COOKIE_LINGER * tw_edge_settings.hz;
	return now < s->until;
}

/* Cookies were given lately enough to come back. */
static __always_inline bool edge_cookie_expected(const struct edge_cookie *c, __u64 now)
{
	return !c->above || now < c->state->until + EDGE_COOKIE_LIFE * tw_edge_settings.hz;
}

/*
 * A listener that checks cookies itself does so only within two minutes of a SYN that it answered
 * with one. So a SYN a second goes to it, for each destination address, or it would refuse them
 * all after a flood's first minutes.
 */
static __always_inline bool edge_cookie_real_due(const struct edge_cookie *c,
						 const struct edge_packet *p, __u64 now)
{
	__u64 *last, before;

	if (c->settings->mode != TW_EDGE_COOKIE_KERNEL)
		return false;
	last = &c->state->real[p->tuple.family == 6][bpf_ntohl(p->tuple.daddr.word[3]) & 1];
	before = *last;
	return now - before >= tw_edge_settings.hz &&
	       __sync_val_compare_and_swap(last, before, now) == before;
}

enum edge_owner {
	EDGE_OWNER_NONE, /* no socket of this namespace */
	EDGE_OWNER_LISTENER,
	EDGE_OWNER_CONNECTION, /* any other state */
};

/* The tuple as socket look-ups take it; its length, which tells the family. */
static __always_inline __u32 edge_sock_tuple(struct bpf_sock_tuple *out, const struct tw_tuple *t)
{
	if (t->family == 4) {
		out->ipv4.saddr = t->saddr.word[3];
		out->ipv4.daddr = t->daddr.word[3];
		out->ipv4.sport = t->sport;
		out->ipv4.dport = t->dport;
		return sizeof(out->ipv4);
	}
	__builtin_memcpy(out->ipv6.saddr, &t->saddr, 16);
	__builtin_memcpy(out->ipv6.daddr, &t->daddr, 16);
	out->ipv6.sport = t->sport;
	out->ipv6.dport = t->dport;
	return sizeof(out->ipv6);
}

/* For XDP and tc alike; the size is a constant for the verifier. NULL, or to be released. */
static __always_inline struct bpf_sock *edge_sock_get(void *ctx, const struct tw_tuple *tuple)
{
	struct bpf_sock_tuple t = {};

	if (edge_sock_tuple(&t, tuple) == sizeof(t.ipv4))
		return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), (__u64)BPF_F_CURRENT_NETNS, 0);
	return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv6), (__u64)BPF_F_CURRENT_NETNS, 0);
}

static __always_inline enum edge_owner edge_owner(struct xdp_md *xdp, const struct edge_packet *p)
{
	struct bpf_sock *sk = edge_sock_get(xdp, &p->tuple);
	enum edge_owner owner;

	if (!sk)
		return EDGE_OWNER_NONE;
	owner = sk->state == BPF_TCP_LISTEN ? EDGE_OWNER_LISTENER : EDGE_OWNER_CONNECTION;
	bpf_sk_release(sk);
	return owner;
}

static __always_inline int edge_cookie_syn(struct xdp_md *xdp, const struct edge_packet *p,
					   const struct edge_cookie *c, __u64 now)
{
	int action;

	if (!edge_cookie_flooded(c, now) || now < c->state->refused)
		return EDGE_NEXT;
	/* Put together by the stack, it would be a SYN that nobody looked at; see edge_accept.h. */
	if (p->flags & EDGE_FRAG_FIRST || (p->tuple.family == 6 && p->flags & EDGE_OPTIONS))
		return edge_drop(p, TW_EDGE_ODD_SYN);
	if (edge_owner(xdp, p) != EDGE_OWNER_LISTENER || edge_cookie_real_due(c, p, now))
		return EDGE_NEXT;
	action = edge_synack(xdp, p, c->settings);
	if (action != XDP_TX)
		return edge_drop(p, TW_EDGE_MALFORMED);
	c->count->answered++;
	edge_count(TW_EDGE_SYN_COOKIE, p->len);
	return XDP_TX;
}

/* A valid cookie makes `*opens` true: this segment opens a connection. */
static __always_inline int edge_cookie_ack(struct xdp_md *xdp, const struct edge_packet *p,
					   const struct edge_cookie *c, __u64 now, bool *opens)
{
	if (!edge_cookie_expected(c, now) || edge_owner(xdp, p) != EDGE_OWNER_LISTENER)
		return EDGE_NEXT;
	if (edge_synack_valid(xdp, p)) {
		*opens = true;
		return EDGE_NEXT;
	}
	/* Without a flood the listener answers with RST, which ends what is half open elsewhere. */
	if (c->above && now >= c->state->until)
		return EDGE_NEXT;
	c->count->invalid++;
	return edge_drop(p, TW_EDGE_BAD_COOKIE);
}

/*
 * Whether limits on new connections ask about this packet goes to *opens. A function of its own, so
 * that what it needs of the stack is given back before the limits are asked.
 */
static __noinline int edge_cookie(struct xdp_md *xdp, const struct edge_packet *p,
				  const struct tw_edge_limit_set *set, __u32 word, bool *opens)
{
	__u64 now = bpf_jiffies64();
	struct edge_cookie c;

	if (!edge_cookie_get(set, word, &c) || c.settings->mode == TW_EDGE_COOKIE_OFF ||
	    p->tcp & TCP_RST)
		return EDGE_NEXT;
	if (*opens)
		return edge_cookie_syn(xdp, p, &c, now);
	return p->tcp & TCP_ACK ? edge_cookie_ack(xdp, p, &c, now, opens) : EDGE_NEXT;
}

/* The stage: a global function, which the verifier looks at once, and not for each way to it. */
__noinline int edge_limit(struct xdp_md *xdp, struct edge_packet *p)
{
	struct tw_edge_limits *limits = edge_limits();
	struct tw_edge_limit_set *set;
	__u32 current, word;
	bool opens;
	int action;

	if (!p)
		return XDP_ABORTED; /* never; the verifier asks for it */
	if (!limits)
		return edge_drop(p, TW_EDGE_INTERNAL);
	current = *(volatile __u32 *)&limits->current & 1;
	set = &limits->set[current];
	word = edge_port_word(set, p);
	if (likely(!word))
		return EDGE_NEXT;
	action = edge_limits_charge(p, current, word & TW_EDGE_PORT_LIMITS & ~set->connections);
	if (action != EDGE_NEXT || p->tuple.proto != PROTO_TCP)
		return action;
	opens = (p->tcp & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	/*
	 * Cookies before limits on connections: a SYN's source may be forged, and somebody else would
	 * pay for it. A cookie that came back is from who it says.
	 */
	action = edge_cookie(xdp, p, set, word, &opens);
	if (action != EDGE_NEXT || !opens)
		return action;
	return edge_limits_charge(p, current, word & TW_EDGE_PORT_LIMITS & set->connections);
}

#endif
