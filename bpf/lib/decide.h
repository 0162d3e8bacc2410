/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The slow path: who are both ends, may they talk, which way does it go; then one entry (two
 * when it is translated) that lets the fast path carry on alone.
 *
 * Order matters (I4): the epochs are read first, then everything that the decision depends on,
 * and the entry is stamped with what was read. The agent writes first and raises epochs last,
 * so a decision that saw anything old carries an old stamp and is made again.
 */
#ifndef TW_DECIDE_H
#define TW_DECIDE_H

#include "event.h"
#include "fast.h"
#include "guard.h"
#include "identity.h"
#include "policy.h"

#define EEXIST 17
#define EBUSY 16

static __always_inline __u32 decision_stamp(const struct decision *d)
{
	return d->epoch_node + d->epoch_from + d->epoch_to;
}

static __always_inline __u32 epoch_read(__u16 slot)
{
	const struct tw_epochs *e = epochs_get();

	return e ? ((volatile const struct tw_epochs *)e)->epoch[slot & (TW_MAX_ENDPOINTS - 1)] : 0;
}

/* Reads an endpoint after its epoch. 0 or a drop reason. */
static __always_inline int end_endpoint(struct end *end, __u32 slot, __u8 family, __u32 *epoch)
{
	const struct tw_endpoint *ep;
	union {
		struct {
			__u32 identity;
			__u32 version;
		};
		__u64 both;
	} policy;

	*epoch = epoch_read(slot);
	barrier();
	ep = bpf_map_lookup_elem(&tw_endpoints, &slot);
	if (!ep || !(ep->flags & TW_EP_LIVE) || !ep->ifindex)
		return TW_REASON_ENDPOINT_GONE;
	end->slot = slot;
	end->ifindex = ep->ifindex;
	/* Both in one load: the agent changes them in one store (I5). */
	policy.both = *(const volatile __u64 *)&ep->identity;
	end->identity = policy.identity;
	if (family == 6 && ep->identity6)
		end->identity = ep->identity6;
	end->version = policy.version;
	end->mtu = ep->mtu;
	end->flags = ep->flags;
	__builtin_memcpy(end->mac, ep->mac, 6);
	return 0;
}

static __always_inline bool addr_is_multicast(const union tw_addr *a, __u8 family)
{
	if (family == 4)
		return a->byte[12] >= 224; /* multicast, class E, broadcast */
	/* multicast and link-local: neither leaves its link */
	return a->byte[0] == 0xff || (a->byte[0] == 0xfe && (a->byte[1] & 0xc0) == 0x80);
}

/*
 * Of no host on any wire: "this" network, loopback, IPv4 inside IPv6 (::/96, ::ffff:0:0/96). The
 * stack's own checks of routed packets (martians) come too late for what is redirected.
 */
static __always_inline bool addr_is_martian(const union tw_addr *a, __u8 family)
{
	if (family == 4)
		return !a->byte[12] || a->byte[12] == 127;
	return !a->quad[0] && (!a->word[2] || a->word[2] == bpf_htonl(0xffff));
}

/* The opener's source: its identity depends on where it came from (I2). 0 or a drop reason. */
static __always_inline int end_from(struct scratch *s, struct decision *d)
{
	__u32 word, in = d->in;

	if (in == TW_IN_HOST) {
		d->from.identity = TW_ID_HOST;
		return 0;
	}
	word = ipcache_word(s, &s->opener.saddr, s->opener.family);
	if (word_is_endpoint(word)) {
		int reason = end_endpoint(&d->from, word & TW_WORD_PAYLOAD, s->opener.family,
					  &d->epoch_from);

		if (reason)
			return TW_REASON_SPOOFED;
		/* Only its own port, or the stack after it came from that port. */
		if (d->from.ifindex != (in & TW_IN_IFINDEX))
			return TW_REASON_SPOOFED;
		return 0;
	}
	if (addr_is_martian(&s->opener.saddr, s->opener.family) ||
	    addr_is_multicast(&s->opener.saddr, s->opener.family))
		return TW_REASON_SPOOFED;
	/* A port has no other source than its endpoint's; only an uplink brings the world in. */
	if (!(in & TW_IN_STACK) && !bpf_map_lookup_elem(&tw_uplinks, &in))
		return TW_REASON_SPOOFED;
	d->from.identity = word_identity(word);
	if (d->from.identity == TW_ID_UNASSIGNED)
		return TW_REASON_SPOOFED;
	if (d->from.identity == TW_ID_HOST) {
		/* From the network, nobody is the node. Through the stack, it may be masquerade. */
		if (!(in & TW_IN_STACK))
			return TW_REASON_SPOOFED;
		d->from.identity = TW_ID_WORLD;
	}
	return 0;
}

/* The opener's destination. 0 or a drop reason. */
static __always_inline int end_to(struct scratch *s, struct decision *d)
{
	__u32 word;

	if (addr_is_multicast(&s->opener.daddr, s->opener.family))
		return TW_REASON_MULTICAST;
	if (addr_is_martian(&s->opener.daddr, s->opener.family))
		return TW_REASON_NO_ROUTE;
	word = ipcache_word(s, &s->opener.daddr, s->opener.family);
	if (word_is_endpoint(word))
		return end_endpoint(&d->to, word & TW_WORD_PAYLOAD, s->opener.family, &d->epoch_to);
	d->to.identity = word_identity(word);
	return d->to.identity == TW_ID_UNASSIGNED ? TW_REASON_NO_ENDPOINT : 0;
}

/* Both policies, for the opener's tuple or for its reverse. 0 or a drop reason. */
static __always_inline int judge(const struct end *from, const struct end *to, __u8 proto,
				 __be16 dport)
{
	__u32 key = (__u32)proto << 16;

	/* Between a container and its own node everything passes (API, NetworkPolicy). */
	if (from->identity == TW_ID_HOST || to->identity == TW_ID_HOST)
		return 0;
	if (proto != PROTO_ICMP && proto != PROTO_ICMP6)
		key |= bpf_ntohs(dport);
	if (from->slot && !policy_allows(from->version, TW_EGRESS, to->identity, key))
		return TW_REASON_POLICY_EGRESS;
	if (to->slot && !policy_allows(to->version, TW_INGRESS, from->identity, key))
		return TW_REASON_POLICY_INGRESS;
	return 0;
}

static __always_inline bool addr_is_zero(const union tw_addr *a)
{
	return !(a->quad[0] | a->quad[1]);
}

static __always_inline void masq4_map(union tw_addr *out, const struct tw_uplink *uplink)
{
	out->quad[0] = out->quad[1] = 0;
	if (uplink->masq4)
		addr_map4(out, uplink->masq4);
}

/* The way from a container to `dst`: next hop, uplink, MTU. 0 or a drop reason. */
__weak __noinline int route_find(struct __sk_buff *skb, struct decision *d,
				 const union tw_addr *src, const union tw_addr *dst,
				 __u32 family_port)
{
	struct bpf_fib_lookup fib = { .tot_len = 1 }; /* so that the route's MTU comes back */
	struct tw_uplink *uplink;
	__u32 oif;
	long ret;

	if (!d || !src || !dst)
		return TW_REASON_INTERNAL;
	fib.ifindex = family_port >> 8;
	if ((family_port & 0xff) == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = src->word[3];
		fib.ipv4_dst = dst->word[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, src, 16);
		__builtin_memcpy(fib.ipv6_dst, dst, 16);
	}
	ret = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH)
		return TW_REASON_NO_ROUTE;
	d->oif = oif = fib.ifindex;
	uplink = bpf_map_lookup_elem(&tw_uplinks, &oif);
	if (!uplink)
		return TW_REASON_NO_UPLINK;
	d->mtu = fib.tot_len >= 68 && fib.tot_len < uplink->mtu ? fib.tot_len : uplink->mtu;
	d->masq = uplink->masq6;
	if ((family_port & 0xff) == 4)
		masq4_map(&d->masq, uplink);
	d->hop_flags = TW_HALF_NEXTHOP;
	if (fib.family == AF_INET6) {
		d->hop_flags |= TW_HALF_NEXTHOP6;
		__builtin_memcpy(&d->hop, fib.ipv6_dst, 16);
	} else {
		d->hop.quad[0] = 0;
		d->hop.word[2] = bpf_htonl(0xffff);
		d->hop.word[3] = fib.ipv4_dst;
	}
	return 0;
}

/* May the charged end open one more flow? Races only blur the limit by a few (I10). */
static __always_inline int budget_take(__u32 slot)
{
	struct tw_endpoint *ep = bpf_map_lookup_elem(&tw_endpoints, &slot);
	struct tw_budget *b = bpf_map_lookup_elem(&tw_budget, &slot);
	__u32 rate, cap, now = jiffies_now(), passed;

	if (!b || !ep)
		return TW_REASON_INTERNAL;
	rate = slot ? ep->rate : tw_settings.host_rate;
	cap = ep->cap;
	if (cap && b->flows >= cap)
		return TW_REASON_CAP;
	if (rate) {
		passed = now - b->filled;
		if (passed >= tw_settings.hz) {
			b->filled = now;
			b->tokens = rate;
		} else if (passed) {
			__u64 tokens = b->tokens + (__u64)rate * passed / (tw_settings.hz ?: 1);

			b->filled = now;
			b->tokens = tokens > rate ? rate : tokens;
		}
		if (!b->tokens)
			return TW_REASON_RATE;
		b->tokens--;
	}
	__sync_fetch_and_add(&b->flows, 1);
	return 0;
}

/*
 * A half for containers: what `from` sends goes into the container `to`. Queues that somebody
 * gave their ports are not passed by.
 */
static __always_inline void half_local(struct tw_half *h, const struct end *from,
				       const struct end *to)
{
	h->kind = TW_KIND_LOCAL;
	if (from->flags & TW_EP_QUEUE_FROM)
		h->kind = TW_KIND_UP;
	else if (to->flags & TW_EP_QUEUE_TO)
		h->kind = TW_KIND_QUEUE;
	h->out = to->ifindex;
	__builtin_memcpy(h->dmac, to->mac, 6);
}

static __always_inline void half_out(struct tw_half *h, const struct end *from,
				     const struct decision *d)
{
	bool up = from->flags & TW_EP_QUEUE_FROM;

	h->kind = up ? TW_KIND_UP : TW_KIND_OUT;
	/* The stack decrements by itself. */
	h->flags |= (up ? 0 : TW_HALF_TTL) | d->hop_flags;
	h->out = d->oif;
	h->mtu = d->mtu;
	h->addr = d->hop;
}

/* Fills s->flow with both halves of an untranslated flow. `dir` is the opener's. */
static __always_inline void flow_build(struct scratch *s, const struct decision *d, __u32 dir)
{
	struct tw_half *fwd = &s->flow.half[dir & 1], *rev = &s->flow.half[(dir & 1) ^ 1];
	__u32 stamp = decision_stamp(d), now = jiffies_now();

	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	fwd->stamp = rev->stamp = stamp;
	fwd->seen = rev->seen = now;
	fwd->slot_from = rev->slot_to = d->from.slot;
	fwd->slot_to = rev->slot_from = d->to.slot;
	fwd->flags = TW_HALF_OPENER;
	fwd->in = d->in;
	if (d->in & TW_IN_STACK || d->in == TW_IN_HOST) {
		fwd->kind = TW_KIND_PASS;
		rev->kind = TW_KIND_STACK; /* back the way it came (I8) */
		rev->in = d->to.ifindex;
	} else if (d->from.slot && d->to.slot) {
		half_local(fwd, &d->from, &d->to);
		half_local(rev, &d->to, &d->from);
		rev->in = d->to.ifindex;
		if (d->to.mtu < d->from.mtu)
			fwd->mtu = d->to.mtu;
		else if (d->from.mtu < d->to.mtu)
			rev->mtu = d->from.mtu;
	} else if (d->from.slot) {
		if (d->to.identity == TW_ID_HOST) {
			fwd->kind = TW_KIND_STACK;
			rev->kind = TW_KIND_PASS;
			rev->in = d->reply_in;
		} else if (tw_settings.outside_stack) {
			fwd->kind = TW_KIND_STACK;
			rev->kind = TW_KIND_PASS;
			rev->in = d->reply_in ? d->reply_in : TW_IN_STACK | d->oif;
		} else {
			half_out(fwd, &d->from, d);
			half_local(rev, &d->to, &d->from);
			rev->flags |= TW_HALF_TTL;
			rev->in = d->oif;
		}
	} else {
		half_local(fwd, &d->from, &d->to);
		fwd->flags |= TW_HALF_TTL;
		half_out(rev, &d->to, d);
		rev->in = d->to.ifindex;
	}
}

/* Stamp and verdict of a half, in one store. */
static __always_inline void half_decide(struct tw_half *h, __u32 stamp, __u8 kind, __u8 flags,
					__u8 tcp)
{
	struct tw_half new = { .stamp = stamp, .kind = kind, .flags = flags, .tcp = tcp };

	barrier();
	*(volatile __u64 *)&h->decided = new.decided;
}

/*
 * An entry that programs are reading gets one writer at a time. Two CPUs may judge a flow under
 * different epochs: the later store may be the older decision, but it carries the older stamp
 * with it and is made again. False: somebody else writes, or the collector deletes.
 */
static __always_inline bool flow_lock(struct tw_flow *f)
{
	if (!state_swap(f, TW_IDLE_NO, TW_IDLE_WRITING) &&
	    !state_swap(f, TW_IDLE_MARKED, TW_IDLE_WRITING))
		return false;
	f->half[1].kind = TW_KIND_NONE;
	barrier();
	return true;
}

/*
 * Writes a new decision into an entry; half[0] last, which also unlocks it. Counters and flags
 * seen stay unless the flow is opened anew. -EBUSY: see flow_lock().
 */
static __always_inline int flow_rewrite(struct tw_flow *f, const struct tw_flow *new, bool reopen)
{
	int i;

	if (!flow_lock(f))
		return -EBUSY;
	for (i = 1; i >= 0; i--) {
		struct tw_half *to = &f->half[i];
		const struct tw_half *from = &new->half[i];

		to->in = from->in;
		to->out = from->out;
		to->slot_from = from->slot_from;
		to->slot_to = from->slot_to;
		to->mtu = from->mtu;
		to->port = from->port;
		__builtin_memcpy(to->dmac, from->dmac, 6);
		to->addr = from->addr;
		to->seen = from->seen;
		if (reopen) {
			to->packets = to->packets_hi = 0;
			to->bytes = 0;
		}
		half_decide(to, from->stamp, from->kind, from->flags, reopen ? 0 : to->tcp);
	}
	return 0;
}

/*
 * Turns an entry into a tombstone that answers both directions with a drop (I1). When somebody
 * else is writing, his decision is newer, or it carries an older stamp and is made again.
 */
static __always_inline void flow_revoke(struct tw_flow *f, __u32 stamp)
{
	int i;

	if (!flow_lock(f))
		return;
	for (i = 1; i >= 0; i--) {
		struct tw_half *h = &f->half[i];

		h->seen = jiffies_now();
		half_decide(h, stamp, TW_KIND_DENY, h->flags, h->tcp);
	}
}

#endif
