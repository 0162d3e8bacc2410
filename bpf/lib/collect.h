/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Life and death of flow entries. Used by the collector, and by the slow path as a guard when
 * the table is full and the agent dead. Runs in process context too, where a softirq on the same
 * CPU may use tw_scratch at any time: so nothing here touches the scratch.
 */
#ifndef TW_COLLECT_H
#define TW_COLLECT_H

#include "event.h"
#include "flow.h"

struct sweep {
	__u32 now;
	__u32 max_delete;
	__u32 visited;
	__u32 marked;
	__u32 deleted;
};

/* How long an entry of this protocol and state may be idle, in jiffies. */
static __always_inline __u32 flow_life(__u8 proto, const struct tw_flow *f,
				       const struct tw_flow *twin)
{
	__u8 tcp0 = f->half[0].tcp | (twin ? twin->half[0].tcp : 0);
	__u8 tcp1 = f->half[1].tcp | (twin ? twin->half[1].tcp : 0);
	bool replied = f->half[0].packets && f->half[1].packets;
	/*
	 * A SYN with a forged source is answered, too, and again and again. Only the opener's
	 * second packet says that he had the answer.
	 */
	bool opened = f->half[f->half[0].flags & TW_HALF_OPENER ? 0 : 1].packets > 1;

	if (twin) {
		/* A translated flow uses one half of each entry. */
		tcp0 = f->half[0].tcp | f->half[1].tcp;
		tcp1 = twin->half[0].tcp | twin->half[1].tcp;
		replied = (f->half[0].packets || f->half[1].packets) &&
			  (twin->half[0].packets || twin->half[1].packets);
	}
	switch (proto) {
	case PROTO_TCP:
		if ((tcp0 | tcp1) & TCP_RST || tcp0 & tcp1 & TCP_FIN)
			return tw_settings.life_tcp_closed;
		return replied && opened ? tw_settings.life_tcp_established
					 : tw_settings.life_tcp_new;
	case PROTO_UDP:
		return replied ? tw_settings.life_udp : tw_settings.life_udp_new;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		return tw_settings.life_icmp;
	default:
		return tw_settings.life_other;
	}
}

/* Jiffies since the last packet of either half. */
static __always_inline __u32 flow_idle(const struct tw_flow *f, __u32 now)
{
	__s32 a = now - f->half[0].seen, b = now - f->half[1].seen;
	__s32 idle = a < b ? a : b;

	return idle < 0 ? 0 : idle; /* a packet on another CPU, just now */
}

static __always_inline bool flow_marked(const struct tw_flow *f)
{
	return f->half[0].idle == TW_IDLE_MARKED && f->half[0].kind == TW_KIND_NONE &&
	       f->half[1].kind == TW_KIND_NONE;
}

/* Lost to a writer or to a packet that is being carried: found idle again later, or not. */
static __always_inline void flow_mark(struct tw_flow *f)
{
	if (state_swap(f, TW_IDLE_NO, TW_IDLE_MARKED))
		f->half[1].kind = TW_KIND_NONE;
	else if (f->half[0].idle == TW_IDLE_MARKED)
		f->half[1].kind = TW_KIND_NONE; /* unmarked in between, by half */
}

/* The slow path unmarks by the same compare and swap: exactly one of both wins. */
static __always_inline bool flow_take(struct tw_flow *f)
{
	return flow_marked(f) && state_swap(f, TW_IDLE_MARKED, TW_IDLE_DELETING);
}

/* The tuple in direction `dir` of an entry. */
static __always_inline void key4_tuple(struct tw_tuple *t, const struct tw_flow4_key *k, __u32 dir)
{
	t->saddr.quad[0] = t->daddr.quad[0] = 0;
	t->saddr.word[2] = t->daddr.word[2] = bpf_htonl(0xffff);
	t->saddr.word[3] = dir ? k->addr[1] : k->addr[0];
	t->daddr.word[3] = dir ? k->addr[0] : k->addr[1];
	t->sport = dir ? k->port[1] : k->port[0];
	t->dport = dir ? k->port[0] : k->port[1];
	t->proto = k->proto;
	t->family = 4;
	t->pad[0] = t->pad[1] = 0;
}

static __always_inline void key6_tuple(struct tw_tuple *t, const struct tw_flow6_key *k, __u32 dir)
{
	t->saddr = dir ? k->addr[1] : k->addr[0];
	t->daddr = dir ? k->addr[0] : k->addr[1];
	t->sport = dir ? k->port[1] : k->port[0];
	t->dport = dir ? k->port[0] : k->port[1];
	t->proto = k->proto;
	t->family = 6;
	t->pad[0] = t->pad[1] = 0;
}

/* From an entry's tuple to its twin's, by the half that carries packets. */
static __always_inline void twin_tuple(struct tw_tuple *t, const struct tw_half *h)
{
	bool icmp = t->proto == PROTO_ICMP || t->proto == PROTO_ICMP6;
	union tw_addr remote;
	__be16 port;

	if (h->flags & TW_HALF_REPLY_ENTRY) {
		remote = t->saddr;
		port = t->sport;
		t->saddr = h->addr;
		t->daddr = remote;
		t->sport = h->port;
		t->dport = icmp ? h->port : port;
	} else {
		remote = t->daddr;
		port = t->dport;
		t->daddr = h->addr;
		t->saddr = remote;
		t->dport = h->port;
		t->sport = icmp ? h->port : port;
	}
}

__weak __noinline int event_close(const struct tw_tuple *t, const struct tw_flow *f,
				  const struct tw_flow *twin, __u32 dir)
{
	const struct tw_half *h, *r;
	struct tw_event *ev;

	if (!t || !f)
		return 0;
	h = &f->half[dir & 1];
	r = &f->half[(dir & 1) ^ 1];
	if (twin)
		r = twin->half[0].flags & TW_HALF_REPLY_ENTRY ? &twin->half[0] : &twin->half[1];
	ev = event_reserve();
	if (!ev)
		return 0;
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->type = TW_EVENT_CLOSE;
	ev->verdict = TW_VERDICT_ALLOW;
	ev->tcp = h->tcp;
	ev->tcp_reply = r->tcp;
	ev->tuple = *t;
	ev->slot_from = h->slot_from;
	ev->slot_to = h->slot_to;
	ev->ifindex = h->in & TW_IN_IFINDEX;
	ev->idle = flow_idle(f, jiffies_now());
	if (twin && flow_idle(twin, jiffies_now()) < ev->idle)
		ev->idle = flow_idle(twin, jiffies_now());
	ev->packets[0] = (__u64)h->packets_hi << 32 | h->packets;
	ev->packets[1] = (__u64)r->packets_hi << 32 | r->packets;
	ev->bytes[0] = h->bytes;
	ev->bytes[1] = r->bytes;
	if (h->flags & TW_HALF_REWRITE) {
		ev->nat_addr = h->addr;
		ev->nat_port = h->port;
	}
	event_submit(ev);
	return 0;
}

/*
 * One entry. Both entries of a translated flow live and die with the forward one; a reply
 * entry is judged alone only when its forward entry is lost. Returns 1 to delete the entry,
 * 2 to delete its twin as well.
 */
static __always_inline int sweep_flow(struct sweep *w, struct tw_flow *f, struct tw_flow *twin,
				      __u8 proto)
{
	__u32 idle = flow_idle(f, w->now);

	if (twin) {
		__u32 other = flow_idle(twin, w->now);

		idle = other < idle ? other : idle;
	}
	if (idle <= flow_life(proto, f, twin))
		return 0;
	if (!flow_marked(f)) {
		flow_mark(f);
		if (twin)
			flow_mark(twin);
		w->marked++;
		return 0;
	}
	if (twin && (!flow_marked(twin) || !flow_take(twin)))
		return 0;
	if (!flow_take(f))
		return twin ? 2 : 0;
	return twin ? 3 : 1;
}

static __always_inline void sweep_account(struct sweep *w, const struct tw_flow *f)
{
	w->deleted++;
	counter_add(TW_COUNTER_COLLECTED, 1);
	budget_return(flow_charged(f));
}

/* Which half carries packets (of a twin), or the opener's. */
static __always_inline __u32 flow_main_dir(const struct tw_flow *f)
{
	if (f->half[0].flags & (TW_HALF_OPENER | TW_HALF_REPLY_ENTRY))
		return 0;
	return 1;
}

#define SWEEP(family)                                                                              \
	static int sweep_flow##family(void *map, const struct tw_flow##family##_key *key,          \
				      struct tw_flow *f, struct sweep *w)                          \
	{                                                                                          \
		struct tw_flow##family##_key twin_key = {};                                        \
		__u32 dir = flow_main_dir(f);                                                      \
		struct tw_half *h = &f->half[dir & 1];                                             \
		struct tw_flow *twin = NULL;                                                       \
		struct tw_tuple t;                                                                 \
		int what;                                                                          \
                                                                                                   \
		if (w->max_delete && w->deleted >= w->max_delete)                                  \
			return 1;                                                                  \
		w->visited++;                                                                      \
		if (h->flags & TW_HALF_TWIN) {                                                     \
			key##family##_tuple(&t, key, dir);                                         \
			twin_tuple(&t, h);                                                         \
			sweep_key##family(&twin_key, &t);                                          \
			twin = bpf_map_lookup_elem(map, &twin_key);                                \
			if (twin && h->flags & TW_HALF_REPLY_ENTRY)                                \
				return 0;                                                          \
		}                                                                                  \
		what = sweep_flow(w, f, twin, key->proto);                                         \
		if (!what)                                                                         \
			return 0;                                                                  \
		if (what & 1) {                                                                    \
			key##family##_tuple(&t, key, dir);                                         \
			if (!(h->flags & TW_HALF_REPLY_ENTRY))                                     \
				event_close(&t, f, twin, dir);                                     \
			sweep_account(w, f);                                                       \
			bpf_map_delete_elem(map, key);                                             \
		}                                                                                  \
		if (what & 2)                                                                      \
			bpf_map_delete_elem(map, &twin_key);                                       \
		return 0;                                                                          \
	}

static __always_inline void sweep_key4(struct tw_flow4_key *k, const struct tw_tuple *t)
{
	flow4_key(k, t->saddr.word[3], t->daddr.word[3], t->sport, t->dport, t->proto);
}

static __always_inline void sweep_key6(struct tw_flow6_key *k, const struct tw_tuple *t)
{
	flow6_key(k, &t->saddr, &t->daddr, t->sport, t->dport, t->proto);
}

SWEEP(4)
SWEEP(6)

#endif
