/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which backend a flow goes to. In quiet times an entry of the Maglev table alone says it, and
 * nothing is remembered. While an entry is open (its backend changed), one rule holds, through any
 * number of further changes until the agent closes it:
 *
 *	a flow without a remembered connection belongs to the entry's `before`.
 *
 * So a new connection, which goes to `now`, is remembered; and an old one is as soon as it says
 * something, so that the agent sees when the last of them is gone. Over the budget nothing is
 * remembered, and new connections go to `before` while it takes any: right without memory.
 */
#ifndef TW_EDGE_CONN_H
#define TW_EDGE_CONN_H

#include "edge_front.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_SERVICES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_maglev);
} tw_edge_maglev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_SERVICES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_service);
} tw_edge_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_BACKENDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_backend);
} tw_edge_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tw_edge_conn_key);
	__type(value, struct tw_edge_conn);
} tw_edge_conns SEC(".maps");

/* What this CPU may still do in this second. */
struct edge_budget {
	__u32 since; /* jiffies */
	__u32 inserts;
	__u32 icmp_since;
	__u32 icmp;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct edge_budget);
} tw_edge_budget SEC(".maps");

/* A packet's flow, as far as choosing its backend needs it. */
struct edge_flow {
	const struct tw_tuple *tuple; /* as the client sends it */
	__u64 hash;
	__u32 entry;
	__u32 word; /* of the Maglev table */
	__u16 service;
	bool opening; /* it may be its first packet */
	bool ending;  /* FIN or RST */
	bool looking; /* an ICMP error about it: nothing is remembered */
};

static __always_inline __u32 edge_jiffies(void)
{
	return (__u32)bpf_jiffies64();
}

/* Takes one of `rate` a second. */
static __always_inline bool edge_take(__u32 *since, __u32 *used, __u32 rate)
{
	__u32 now = edge_jiffies();

	if (now - *since >= tw_edge_settings.hz) {
		*since = now;
		*used = 0;
	}
	if (*used >= rate)
		return false;
	++*used;
	return true;
}

static __always_inline bool edge_insert_allowed(void)
{
	const struct tw_edge_balance *b = edge_balance_get();
	__u32 zero = 0;
	struct edge_budget *budget = bpf_map_lookup_elem(&tw_edge_budget, &zero);

	if (b && budget && edge_take(&budget->since, &budget->inserts, b->insert_rate))
		return true;
	edge_balance_count(TW_EDGE_COUNT_REMEMBER_RATE);
	return false;
}

static __always_inline bool edge_backend_takes(__u32 backend)
{
	const struct tw_edge_backend *b = bpf_map_lookup_elem(&tw_edge_backends, &backend);

	return b && b->flags & TW_EDGE_BACKEND_TAKES;
}

static __always_inline __u64 edge_conn_what(__u32 tag, __u16 backend, __u64 closed)
{
	struct tw_edge_conn c = { .tag = tag, .backend = backend, .closed = (__u8)closed };

	return c.what;
}

static __always_inline long edge_conn_insert(const struct tw_edge_conn_key *key,
					     const struct edge_flow *flow, __u16 backend)
{
	struct tw_edge_conn c = {
		.what = edge_conn_what((__u32)flow->hash, backend, 0),
		.seen = edge_jiffies(),
		.entry = flow->entry,
	};
	long err;

	if (!edge_insert_allowed())
		return -1;
	err = bpf_map_update_elem(&tw_edge_conns, key, &c, BPF_NOEXIST);
	/* Another CPU was first: both had the same to say, but for a change between the two. */
	if (err && err != -17 /* EEXIST */) {
		edge_balance_count(TW_EDGE_COUNT_REMEMBER_FULL);
		return err;
	}
	edge_balance_count(TW_EDGE_COUNT_REMEMBERED);
	return 0;
}

/* The backend of a flow whose entry is open. */
static __noinline __u32 edge_conn_backend(const struct edge_flow *flow)
{
	struct tw_edge_conn_key key = {};
	__u16 now, before, pick;
	struct tw_edge_conn *c;
	union {
		__u64 what;
		struct tw_edge_conn is;
	} read = {};

	if (!flow)
		return 0;
	now = TW_MAGLEV_NOW(flow->word);
	before = TW_MAGLEV_BEFORE(flow->word);
	key.saddr = flow->tuple->saddr;
	key.daddr = flow->tuple->daddr;
	key.sport = flow->tuple->sport;
	key.dport = flow->tuple->dport;
	key.proto = flow->tuple->proto;
	key.service = flow->service;
	c = bpf_map_lookup_elem(&tw_edge_conns, &key);
	if (c)
		read.what = *(volatile __u64 *)&c->what;
	if (c && read.is.tag == (__u32)flow->hash) {
		if (flow->looking)
			return read.is.backend;
		c->seen = edge_jiffies();
		/* The same ports for another connection. */
		if (flow->opening && read.is.closed) {
			*(volatile __u64 *)&c->what = edge_conn_what((__u32)flow->hash, now, 0);
			return now;
		}
		if (flow->ending && !read.is.closed)
			*(volatile __u64 *)&c->what =
				edge_conn_what((__u32)flow->hash, read.is.backend, 1);
		return read.is.backend;
	}
	pick = !before || (flow->opening && !flow->looking) ? now : before;
	/* Nothing follows that a further change could lead astray. */
	if (!pick || flow->looking || (flow->ending && !flow->opening))
		return pick;
	if (edge_conn_insert(&key, flow, pick) && flow->opening && before &&
	    edge_backend_takes(before))
		return before;
	return pick;
}

/* Is it a UDP flow's first packet? See struct tw_edge_service. */
static __noinline bool edge_udp_opening(__u32 service)
{
	const struct tw_edge_service *s = bpf_map_lookup_elem(&tw_edge_services, &service);

	return s && (__s32)(edge_jiffies() - s->learn_until) > 0;
}

/* Fills hash, entry and word; the tuple, opening and so on are the caller's. */
static __always_inline bool edge_flow_entry(struct edge_flow *flow,
					    const struct tw_edge_front *front)
{
	__u32 service = front->service, ports = 0;
	const struct tw_maglev *table;

	if (!(front->flags & TW_EDGE_FRONT_ADDRESS))
		ports = (__u32)flow->tuple->sport << 16 | flow->tuple->dport;
	flow->service = front->service;
	flow->hash = tw_edge_flow_hash(&flow->tuple->saddr, ports, front->seed);
	flow->entry = tw_maglev_entry(flow->hash);
	table = bpf_map_lookup_elem(&tw_edge_maglev, &service);
	if (!table)
		return false;
	flow->word = table->word[flow->entry];
	return true;
}

#endif
