/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The flow tables: keys, look-up, stamps. Only this file knows that IPv4 has its own map.
 *
 * Who writes an entry: the slow path makes it (NOEXIST) and judges it again in place; the fast
 * path adds counters, `seen` and TCP flags to its own half; the collector marks it (kind NONE)
 * and, at least one pass later, deletes it. A preallocated hash hands a deleted element out
 * at once, so a reader could see another flow's fields (I3). Here it cannot: readers check the
 * kind first, an element is deleted only after it has been marked for a whole pass (a second,
 * far more than an RCU grace period), and nothing else ever deletes one.
 */
#ifndef TW_FLOW_H
#define TW_FLOW_H

#include "maps.h"
#include "wire.h"

#define TCP_KEPT (TCP_FIN | TCP_SYN | TCP_RST)

#define barrier() asm volatile("" ::: "memory")

/* Both make the canonical key and return the direction: 0 when the source is end 0. */
static __always_inline __u32 flow4_key(struct tw_flow4_key *k, __be32 saddr, __be32 daddr,
				       __be16 sport, __be16 dport, __u8 proto)
{
	__u64 s = (__u64)saddr << 16 | sport, d = (__u64)daddr << 16 | dport;
	__u32 dir = s > d;

	k->addr[0] = dir ? daddr : saddr;
	k->addr[1] = dir ? saddr : daddr;
	k->port[0] = dir ? dport : sport;
	k->port[1] = dir ? sport : dport;
	*(__u32 *)&k->proto = proto; /* and the padding */
	return dir;
}

static __always_inline __u32 flow6_key(struct tw_flow6_key *k, const union tw_addr *saddr,
				       const union tw_addr *daddr, __be16 sport, __be16 dport,
				       __u8 proto)
{
	__u32 dir;

	if (saddr->quad[1] != daddr->quad[1])
		dir = saddr->quad[1] > daddr->quad[1];
	else if (saddr->quad[0] != daddr->quad[0])
		dir = saddr->quad[0] > daddr->quad[0];
	else
		dir = sport > dport;
	k->addr[0] = dir ? *daddr : *saddr;
	k->addr[1] = dir ? *saddr : *daddr;
	k->port[0] = dir ? dport : sport;
	k->port[1] = dir ? sport : dport;
	*(__u32 *)&k->proto = proto;
	return dir;
}

/* Packs t's key into the scratch; the key stays valid until the next flow_* call. */
static __always_inline __u32 flow_key(struct scratch *s, const struct tw_tuple *t)
{
	if (t->family == 4)
		return flow4_key(&s->key4, t->saddr.word[3], t->daddr.word[3], t->sport, t->dport,
				 t->proto);
	return flow6_key(&s->key6, &t->saddr, &t->daddr, t->sport, t->dport, t->proto);
}

static __always_inline struct tw_flow *flow_find(struct scratch *s, const struct tw_tuple *t,
						 __u32 *dir)
{
	*dir = flow_key(s, t);
	if (t->family == 4)
		return bpf_map_lookup_elem(&tw_flow4, &s->key4);
	return bpf_map_lookup_elem(&tw_flow6, &s->key6);
}

/* Inserts s->flow under t, only if there is no such entry: 0, -EEXIST, or -E2BIG when full. */
static __always_inline long flow_insert(struct scratch *s, const struct tw_tuple *t)
{
	long err;

	flow_key(s, t);
	if (t->family == 4)
		err = bpf_map_update_elem(&tw_flow4, &s->key4, &s->flow, BPF_NOEXIST);
	else
		err = bpf_map_update_elem(&tw_flow6, &s->key6, &s->flow, BPF_NOEXIST);
	if (!err)
		counter_add(TW_COUNTER_INSERTS, 1);
	return err;
}

static __always_inline void tuple_reverse(struct tw_tuple *out, const struct tw_tuple *in)
{
	out->saddr = in->daddr;
	out->daddr = in->saddr;
	out->sport = in->dport;
	out->dport = in->sport;
	out->proto = in->proto;
	out->family = in->family;
	out->pad[0] = out->pad[1] = 0;
}

/*
 * The sum of the epochs that a decision depends on. Epochs only grow, so for given slots the
 * sum is equal exactly when none of the three has changed: one compare instead of three (I4).
 * (After 2^32 changes of one slot it could repeat; an entry that old has been collected.)
 */
static __always_inline __u32 stamp_of(const struct tw_epochs *e, __u16 from, __u16 to)
{
	return e->epoch[0] + e->epoch[from & (TW_MAX_ENDPOINTS - 1)] +
	       e->epoch[to & (TW_MAX_ENDPOINTS - 1)];
}

static __always_inline struct tw_epochs *epochs_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tw_epochs, &zero);
}

/*
 * May a SYN begin a new flow here? The forward entry of a translated flow shows the opener's
 * direction only; whoever opens again after his own FIN is done with the old one.
 */
static __always_inline bool tcp_closed(const struct tw_half *h, const struct tw_half *other)
{
	__u8 flags = h->flags | other->flags;

	if (flags & TW_HALF_REPLY_ENTRY)
		return false;
	if ((h->tcp | other->tcp) & (flags & TW_HALF_TWIN ? TCP_RST | TCP_FIN : TCP_RST))
		return true;
	return h->tcp & other->tcp & TCP_FIN;
}

#define LONG_AGO 0x40000000u /* jiffies: longer than any lifetime */

/*
 * Takes an entry from one idle state to another, with kind NONE on the way: false when somebody
 * else was quicker, or the entry was not in state `from`.
 */
static __always_inline bool state_swap(struct tw_flow *f, __u8 from, __u8 to)
{
	__u32 old = *(volatile __u32 *)&f->half[0].state;
	struct tw_half new = { .state = old };

	if (new.idle != from)
		return false;
	new.kind = TW_KIND_NONE;
	new.idle = to;
	return __sync_val_compare_and_swap(&f->half[0].state, old, new.state) == old;
}

/* An opening SYN on a closed flow begins a new one. */
static __always_inline bool tcp_reopens(const struct tw_flow *f, __u8 tcp)
{
	return (tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN && tcp_closed(&f->half[0], &f->half[1]);
}

/* The slot whose budget holds the entry (I10). */
#define NO_CHARGE 0xffffffffu
static __always_inline __u32 flow_charged(const struct tw_flow *f)
{
	const struct tw_half *h = &f->half[f->half[0].flags & TW_HALF_OPENER ? 0 : 1];

	if (!(h->flags & TW_HALF_OPENER) || h->in == TW_IN_HOST)
		return NO_CHARGE;
	return h->slot_from;
}

/* Never below nothing: a count that wrapped would refuse the slot every flow, for good. */
static __always_inline void budget_return(__u32 slot)
{
	struct tw_budget *b;

	if (slot == NO_CHARGE)
		return;
	b = bpf_map_lookup_elem(&tw_budget, &slot);
	if (b && b->flows)
		__sync_fetch_and_add(&b->flows, -1);
}

#endif
