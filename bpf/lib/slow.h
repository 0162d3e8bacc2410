/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The slow programs' bodies: open a flow, judge one again, or say why not. */
#ifndef TW_SLOW_H
#define TW_SLOW_H

#include "nat.h"

/* What is known of the packet's flow before it is judged. */
enum flow_mode {
	FLOW_FRESH,  /* no entry: insert */
	FLOW_AGAIN,  /* an entry whose decision has lapsed: judge the stored opener */
	FLOW_REOPEN, /* an entry whose flow is over or whose endpoint is gone: this packet opens */
};

static __always_inline bool half_unused(const struct tw_half *other)
{
	return other->flags & TW_HALF_TWIN;
}

/*
 * A packet that a hook let pass to the queue of this port, by an entry that holds: it comes by
 * the egress hook as if the stack had sent it, and was judged. It came in where the entry says, and
 * goes where the entry says. A translated one is found under the forward entry, whose unused half
 * says that it is expected (flow_translate()).
 */
static __always_inline bool queue_passed(struct __sk_buff *skb, const struct scratch *s,
					 const struct tw_half *h, const struct tw_half *other)
{
	const struct tw_half *half = half_unused(other) ? other : h;
	const struct tw_half now = { .decided = half_decided(half) };
	__u32 from = s->packet.in & TW_IN_IFINDEX, port = skb->ifindex;

	if (s->packet.hook != TW_HOOK_TO_CONTAINER || !(s->packet.in & TW_IN_STACK))
		return false;
	if (half == other)
		return h->kind == TW_KIND_QUEUE && half->out == from && now.kind != TW_KIND_DENY &&
		       half_current(half, now.decided, port);
	return (now.kind == TW_KIND_QUEUE || now.kind == TW_KIND_UP) &&
	       half_current(half, now.decided, from) && half->out == port;
}

/*
 * A packet that may open a flow; others need one (I1). A later fragment shows no flags: it opens
 * nothing where flags decide.
 */
static __always_inline bool packet_opens(const struct packet *p)
{
	if (p->tuple.proto == PROTO_TCP)
		return (p->tcp & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	if (p->tuple.proto == PROTO_ICMP || p->tuple.proto == PROTO_ICMP6)
		return icmp_is_request(p->tuple.proto, p->icmp_type) &&
		       !(p->flags & PACKET_FRAG_LATER);
	return true;
}

/*
 * Both ends may ping each other with one identifier, and then share an entry. A request is no
 * answer: against the opener's direction it must be allowed by itself.
 */
static __always_inline bool packet_asks_back(const struct packet *p, const struct tw_half *h)
{
	return (p->tuple.proto == PROTO_ICMP || p->tuple.proto == PROTO_ICMP6) &&
	       icmp_is_request(p->tuple.proto, p->icmp_type) && !(h->flags & TW_HALF_OPENER);
}

/* A container's or the node's: nothing that comes from the network has such a source (I2). */
static __always_inline bool source_is_ours(struct scratch *s)
{
	__u32 word = ipcache_word(s, &s->packet.tuple.saddr, s->packet.tuple.family);

	return word_is_endpoint(word) || word == TW_ID_HOST;
}

/*
 * From one uplink to another. The old one may be gone, and its number tells nothing any more:
 * it is taken for an uplink's if no container has the packet's source.
 */
static __always_inline bool uplink_changed(struct scratch *s, __u32 was)
{
	__u32 is = s->packet.in;

	if (!was || was & TW_IN_STACK || !bpf_map_lookup_elem(&tw_uplinks, &is))
		return false;
	return bpf_map_lookup_elem(&tw_uplinks, &was) || !source_is_ours(s);
}

/*
 * What a container sent up the stack may be answered from behind somebody else's translation
 * (I8): sent to the node's address, the stack forwards the answer instead of making it; sent to
 * an address outside, the answer is another container's. Ports and uplinks drop what has the
 * node's address as spoofed, and ports what has one outside: so the stack wrote it.
 */
static __always_inline bool stack_answers(const struct tw_half *h, const struct packet *p)
{
	__u32 from = p->in & TW_IN_IFINDEX;

	if (h->kind != TW_KIND_PASS || h->flags & TW_HALF_OPENER || !(p->in & TW_IN_STACK))
		return false;
	return h->in == TW_IN_HOST ||
	       (h->in & TW_IN_STACK && !bpf_map_lookup_elem(&tw_uplinks, &from));
}

/* Sets s->opener from the entry that the packet met. 0 or a drop reason. */
static __always_inline int opener_find(struct scratch *s, const struct tw_half *h,
				       const struct tw_half *other, struct decision *d,
				       enum flow_mode *mode, __u32 stamp)
{
	const struct packet *p = &s->packet;

	if (half_unused(other))
		return TW_REASON_NO_FLOW;
	*mode = FLOW_AGAIN;
	if (h->in != p->in) {
		/*
		 * A new container behind an old address, or the host's stack now in between: the
		 * old decision has lapsed, so the packet may open its own. Otherwise somebody
		 * else is using the tuple (I2). After a change of routes an outside peer may come
		 * in by another uplink: judged again, the flow is bound to where its route leads.
		 */
		if (h->stamp != stamp && uplink_changed(s, h->in))
			d->moved = h->in;
		else if (stack_answers(h, p))
			d->reply_in = p->in;
		else if (h->stamp == stamp || !packet_opens(p) || h->flags & TW_HALF_REPLY_ENTRY)
			return TW_REASON_WRONG_INGRESS;
		else
			*mode = FLOW_REOPEN;
	}
	if ((p->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN && p->tuple.proto == PROTO_TCP &&
	    tcp_closed(h, other))
		*mode = FLOW_REOPEN;
	d->in = p->in;
	if (*mode == FLOW_REOPEN || h->flags & TW_HALF_OPENER) {
		s->opener = p->tuple;
		return 0;
	}
	tuple_reverse(&s->opener, &p->tuple);
	d->in = other->in;
	if (h->flags & TW_HALF_REPLY_ENTRY) {
		struct tw_flow *forward;
		__u32 dir;

		/* The forward entry's tuple: the container's own address and port. */
		s->opener.saddr = h->addr;
		s->opener.sport = h->port;
		if (p->tuple.proto == PROTO_ICMP || p->tuple.proto == PROTO_ICMP6)
			s->opener.dport = h->port;
		/* The port the container had when it opened; a lost twin is rebuilt with it. */
		forward = flow_find(s, &s->opener, &dir);
		d->in = forward ? forward->half[dir & 1].in : h->out;
	}
	return 0;
}

#define LOST_RACE (-1)	 /* another CPU opened the flow first: its decision stands */
#define NOT_WRITTEN (-2) /* another CPU was writing: this packet goes by its own decision */

/* Writes s->flow under s->opener into the entry that is there, or as one that was lost. */
__weak __noinline int flow_renew(__u32 reopen)
{
	struct scratch *s = scratch_get();
	struct tw_flow *f;
	__u32 dir;

	if (!s)
		return TW_REASON_INTERNAL;
	f = flow_find(s, &s->opener, &dir);
	if (f)
		return flow_rewrite(f, &s->flow, reopen) ? NOT_WRITTEN : 0;
	return flow_insert(s, &s->opener) ? TW_REASON_MAP_FULL : 0;
}

/* Revokes the entries of s->opener (and its twin) in place. 0: they were tombstones before. */
__weak __noinline int flow_deny(__u32 stamp)
{
	struct scratch *s = scratch_get();
	struct tw_flow *f, *twin;
	struct tw_half *h;
	__u32 dir, news;

	if (!s)
		return 0;
	f = flow_find(s, &s->opener, &dir);
	if (!f)
		return 0;
	h = &f->half[dir & 1];
	news = h->kind != TW_KIND_DENY;
	if (h->flags & TW_HALF_TWIN) {
		tuple_reverse(&s->twin, &s->opener);
		s->twin.daddr = h->addr;
		twin_port(s, h->port);
		twin = flow_find(s, &s->twin, &dir);
		if (twin)
			flow_revoke(twin, stamp);
	}
	flow_revoke(f, stamp);
	return news;
}

/* Who is talking to whom, and may they? Fills d. 0 or a drop reason. */
__weak __noinline int flow_judge(struct __sk_buff *skb, enum flow_mode mode)
{
	struct scratch *s = scratch_get();
	const union tw_addr *inside, *outside;
	const struct packet *p;
	struct decision *d;
	int reason;

	if (!s)
		return TW_REASON_INTERNAL;
	p = &s->packet;
	d = &s->decision;
	reason = end_from(s, d);
	if (reason)
		return reason;
	reason = end_to(s, d);
	if (reason)
		return reason;
	/* Through the host's stack things come to a port only for the container behind it. */
	if ((d->in & TW_IN_STACK || d->in == TW_IN_HOST) &&
	    (!d->to.slot || (mode != FLOW_AGAIN && d->to.ifindex != skb->ifindex)))
		return TW_REASON_NO_ENDPOINT;
	reason = judge(&d->from, &d->to, s->opener.proto, s->opener.dport);
	if (reason)
		return reason;
	/* In the middle of a connection that nobody opened here: only if both ways may (I1). */
	if (mode == FLOW_FRESH && !packet_opens(p)) {
		if (p->tuple.proto != PROTO_TCP || p->tcp & TCP_RST ||
		    judge(&d->to, &d->from, s->opener.proto, s->opener.sport))
			return TW_REASON_NO_FLOW;
	}
	if (d->in & TW_IN_STACK || d->in == TW_IN_HOST)
		return 0;
	if (d->from.slot && (d->to.slot || d->to.identity == TW_ID_HOST))
		return 0;
	/* One end is outside: the container's packets need a way there. */
	inside = d->from.slot ? &s->opener.saddr : &s->opener.daddr;
	outside = d->from.slot ? &s->opener.daddr : &s->opener.saddr;
	return route_find(skb, d, inside, outside,
			  (d->from.slot ? d->from.ifindex : d->to.ifindex) << 8 | s->opener.family);
}

/* The port and address that a translated connection has now, to be kept (I4). */
static __always_inline void nat_keep(struct scratch *s, __be16 *keep)
{
	struct packet *p = &s->packet;
	struct tw_flow *f;
	__u32 dir;

	f = flow_find(s, &s->opener, &dir);
	if (f && f->half[dir & 1].flags & TW_HALF_TWIN) {
		*keep = f->half[dir & 1].port;
		s->nat_addr = f->half[dir & 1].addr;
	} else if (s->opener.saddr.quad[1] != p->tuple.saddr.quad[1] ||
		   s->opener.saddr.quad[0] != p->tuple.saddr.quad[0]) {
		/* Met through the reply entry; the forward one is lost. */
		*keep = p->tuple.dport;
		s->nat_addr = p->tuple.daddr;
	}
}

/*
 * Makes or renews the entries for an allowed flow. 0, LOST_RACE, NOT_WRITTEN, or a drop reason. Global, as is
 * flow_judge(): walked once each, the verifier needs a third of the time to load the program.
 */
__weak __noinline int flow_install(struct __sk_buff *skb, enum flow_mode mode)
{
	struct scratch *s = scratch_get();
	struct decision *d;
	__be16 keep = 0;
	__u32 dir;
	bool masq;
	int reason;
	long err;

	if (!s)
		return TW_REASON_INTERNAL;
	d = &s->decision;
	dir = flow_key(s, &s->opener);
	s->nat_port = 0;
	s->nat_addr.quad[0] = s->nat_addr.quad[1] = 0;
	masq = d->from.slot && d->oif && !tw_settings.outside_stack &&
	       !(d->from.flags & TW_EP_NO_MASQ) && masq_wanted(s);
	if (masq) {
		if (addr_is_zero(&d->masq))
			return TW_REASON_NO_MASQ;
		if (mode == FLOW_AGAIN) {
			nat_keep(s, &keep);
			/* The address it left with is no longer ours: the flow is over (I4). */
			if (keep && (s->nat_addr.quad[0] != d->masq.quad[0] ||
				     s->nat_addr.quad[1] != d->masq.quad[1]))
				return TW_REASON_NO_MASQ;
		}
		s->nat_addr = d->masq;
		d->reopen = mode == FLOW_REOPEN;
		reason = snat_claim(skb, keep);
		if (reason)
			return reason;
	}
	flow_build(s, d, dir);
	if (masq)
		flow_translate(s, d, dir);
	if (mode != FLOW_FRESH)
		return flow_renew(mode == FLOW_REOPEN);
	/* This packet is counted before it is inserted: afterwards nobody looks it up again. */
	half_count(&s->flow.half[dir & 1], s->packet.len, s->packet.tcp);
	err = flow_insert(s, &s->opener);
	if (!err)
		return 0;
	if (err == -EEXIST)
		return LOST_RACE;
	if (masq)
		reply_undo(s);
	return TW_REASON_MAP_FULL;
}

/* A re-decision is no new flow, and the node itself is not limited (I10). */
static __always_inline int flow_open(struct __sk_buff *skb, struct scratch *s, struct decision *d,
				     enum flow_mode mode, __u32 charged_before)
{
	__u32 slot = d->from.slot;
	int reason;

	if (mode == FLOW_AGAIN || d->in == TW_IN_HOST) {
		reason = flow_install(skb, mode);
	} else {
		reason = budget_take(slot);
		if (reason)
			return reason;
		reason = flow_install(skb, mode);
		if (reason)
			budget_return(slot);
	}
	if (!reason && mode == FLOW_REOPEN)
		budget_return(charged_before);
	return reason;
}

static __always_inline void ends_fill(struct ends *e, const struct decision *d)
{
	e->identity_from = d->from.identity;
	e->identity_to = d->to.identity;
	e->version_from = d->from.version;
	e->version_to = d->to.version;
	e->slot_from = d->from.slot;
	e->slot_to = d->to.slot;
}

/* Acts on the packet by an entry that is there now. TC_* or NOT_DONE(reason). */
__weak __noinline int flow_carry(struct __sk_buff *skb, struct tw_flow *f, __u32 dir)
{
	struct scratch *s = scratch_get();
	struct tw_half *h, *other;
	struct tw_half now;
	int ret;

	if (!s || !f)
		return NOT_DONE(TW_REASON_INTERNAL);
	h = &f->half[dir & 1];
	other = &f->half[(dir & 1) ^ 1];
	now.decided = half_decided(h);
	if (now.kind == TW_KIND_DENY)
		return NOT_DONE(TW_REASON_REVOKED);
	if (now.kind == TW_KIND_NONE)
		return NOT_DONE(TW_REASON_NO_FLOW);
	if (h->in != s->packet.in)
		return NOT_DONE(TW_REASON_WRONG_INGRESS);
	ret = half_forward(skb, h, other, &s->packet, now.decided);
	s->packet.mtu = ret == NOT_DONE(TW_REASON_TOO_BIG) ? h->mtu : 0;
	return ret;
}

/* The same to the end: what was not carried is dropped, and its sender told where it should. */
static __always_inline int flow_finish(struct __sk_buff *skb, struct scratch *s, struct tw_flow *f,
				       __u32 dir, const struct ends *e)
{
	int ret = flow_carry(skb, f, dir);

	if (ret < NOT_DONE(0))
		return ret;
	ret -= NOT_DONE(0);
	packet_drop(skb, s, e, ret);
	if (ret == TW_REASON_TOO_BIG || ret == TW_REASON_TTL)
		return packet_jump(skb, TW_JUMP_ICMP_ERROR, s->packet.hook);
	return TC_DROP;
}

/*
 * On an uplink, what is for no container is the host's business: TC_NEXT. Except what only
 * somebody lying would send (I2), and what would make the host answer for a translation that
 * is no more (I7). Returns a drop reason, -1 for the stack, 0 for a container.
 */
static __always_inline int uplink_sort(struct __sk_buff *skb, struct scratch *s)
{
	const struct packet *p = &s->packet;
	__u32 word, ifindex = skb->ifindex;
	struct tw_uplink *uplink;
	__u16 port;

	if (source_is_ours(s))
		return TW_REASON_SPOOFED;
	word = ipcache_word(s, &p->tuple.daddr, p->tuple.family);
	if (word_is_endpoint(word) || word == TW_ID_UNASSIGNED)
		return 0;
	port = bpf_ntohs(p->tuple.dport);
	if ((p->tuple.proto != PROTO_TCP && p->tuple.proto != PROTO_UDP) ||
	    port < tw_settings.snat_first || port > tw_settings.snat_last)
		return -1;
	uplink = bpf_map_lookup_elem(&tw_uplinks, &ifindex);
	if (!uplink)
		return -1;
	s->nat_addr = uplink->masq6;
	if (p->tuple.family == 4)
		masq4_map(&s->nat_addr, uplink);
	if (s->nat_addr.quad[0] != p->tuple.daddr.quad[0] ||
	    s->nat_addr.quad[1] != p->tuple.daddr.quad[1])
		return -1;
	return host_socket(skb, s, &p->tuple) ? -1 : TW_REASON_NAT_NO_FLOW;
}

/* Epochs first (I4): what is found out later is at least as new as its stamp. */
static __always_inline void decision_begin(struct scratch *s)
{
	struct decision *d = &s->decision;

	__builtin_memset(d, 0, sizeof(*d));
	s->nat_port = 0;
	s->nat_addr.quad[0] = s->nat_addr.quad[1] = 0;
	d->epoch_node = epoch_read(0);
	/* An end without a slot counts as slot 0, as in stamp_of(). */
	d->epoch_from = d->epoch_to = d->epoch_node;
	barrier();
	d->in = s->packet.in;
}

/*
 * A flow that came in by one uplink follows its peer to another only where the way back has gone
 * as well, or when the old one is no uplink any more. Anybody there can forge a packet of it.
 */
static __always_inline bool moves_alone(const struct scratch *s)
{
	const struct decision *d = &s->decision;

	return d->moved && !d->from.slot && d->oif != s->packet.in &&
	       bpf_map_lookup_elem(&tw_uplinks, &d->moved);
}

static __always_inline int slow_new(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	enum flow_mode mode = FLOW_FRESH;
	struct decision *d;
	struct ends *ends;
	struct tw_flow *f;
	__u32 dir, charged_before = NO_CHARGE;
	bool reply_entry = false;
	int reason;

	if (!s)
		return TC_DROP;
	d = &s->decision;
	ends = &s->ends;
	__builtin_memset(ends, 0, sizeof(*ends));
	decision_begin(s);
	s->opener = s->packet.tuple;
	f = s->packet.flags & PACKET_NO_ENTRY ? NULL : flow_find(s, &s->packet.tuple, &dir);
	if (f) {
		const struct tw_epochs *e = epochs_get();
		struct tw_half *h = &f->half[dir & 1], *other = &f->half[(dir & 1) ^ 1];

		if (!e)
			return TC_DROP;
		if (queue_passed(skb, s, h, other))
			return TC_NEXT;
		/* What is asked of a translation's address is asked of the node. */
		if (s->packet.flags & PACKET_ASKS_BACK && h->flags & TW_HALF_REPLY_ENTRY &&
		    s->packet.hook == TW_HOOK_FROM_UPLINK)
			return TC_NEXT;
		if (s->packet.flags & PACKET_ASKS_BACK && h->in == s->packet.in) {
			reason = flow_judge(skb, FLOW_FRESH);
			ends_fill(ends, d);
			if (reason)
				return packet_drop(skb, s, ends, reason);
			decision_begin(s);
		}
		reason = opener_find(s, h, other, d, &mode, stamp_of(e, h->slot_from, h->slot_to));
		if (reason)
			return packet_drop(skb, s, ends, reason);
		charged_before = flow_charged(f);
		reply_entry = h->flags & TW_HALF_REPLY_ENTRY;
	} else if (s->packet.hook == TW_HOOK_FROM_UPLINK) {
		reason = uplink_sort(skb, s);
		if (reason < 0)
			return TC_NEXT;
		if (reason)
			return packet_drop(skb, s, ends, reason);
	}
	reason = flow_judge(skb, mode);
	ends_fill(ends, d);
	/* The node's own multicast (neighbour and router discovery) is not the path's business. */
	if (reason == TW_REASON_MULTICAST && d->in == TW_IN_HOST)
		return TC_NEXT;
	if (!reason && mode == FLOW_AGAIN && moves_alone(s))
		return packet_drop(skb, s, ends, TW_REASON_WRONG_INGRESS);
	if (!reason)
		reason = flow_open(skb, s, d, mode, charged_before);
	if (reason == TW_REASON_MAP_FULL)
		guard_sweep(s->opener.family);
	if (reason > 0) {
		/*
		 * Only the stored opener's own judgement revokes. A packet that would open anew
		 * where an entry is may be anybody's, with a forged source: when it may not, it
		 * has no say in what is there. A full table is no verdict either.
		 */
		if (mode != FLOW_AGAIN || reason == TW_REASON_MAP_FULL)
			return packet_drop(skb, s, ends, reason);
		counter_add(TW_COUNTER_REDECISIONS, 1);
		if (flow_deny(decision_stamp(d)))
			event_packet(s, ends, TW_EVENT_REVOKE, reason, skb->ifindex);
		return packet_drop(skb, s, ends, TW_REASON_REVOKED);
	}
	metric_count(TW_REASON_OK, s->packet.hook, s->packet.len);
	if (mode == FLOW_AGAIN)
		counter_add(TW_COUNTER_REDECISIONS, 1);
	else if (!reason)
		event_packet(s, ends, TW_EVENT_NEW, TW_REASON_OK, skb->ifindex);
	/*
	 * A flow just made is carried by the copy at hand: one look-up less. Not an answer that met
	 * its own entry of a translated flow: the copy is of the other.
	 */
	if ((mode == FLOW_FRESH && !reason) || (reason == NOT_WRITTEN && !reply_entry))
		return flow_finish(skb, s, &s->flow, flow_key(s, &s->packet.tuple), ends);
	f = flow_find(s, &s->packet.tuple, &dir);
	if (!f)
		return packet_drop(skb, s, ends, TW_REASON_NO_FLOW);
	return flow_finish(skb, s, f, dir, ends);
}

#endif
