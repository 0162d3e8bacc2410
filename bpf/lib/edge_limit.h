/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Limits of the edge: token buckets per source prefix and in all, by destination port. The word of
 * a packet's port says which limits ask about it, so a packet that none asks about costs one load.
 *
 * Buckets of sources are a fixed table of sets of eight, found by a keyed hash. A set that is full
 * of debts forgets the smallest: of what a flood of forged sources does to the table, the
 * worst is that somebody's debt is forgotten. Nobody pays for another one, short of a tag of 20
 * bits that agrees by chance.
 *
 * Several CPUs may charge a bucket at once: a word is swapped whole, or the charge is tried again.
 * After EDGE_LIMIT_TRIES the packet passes without it, so a burst can be exceeded by one packet in
 * a few thousand where many CPUs meet at one bucket; nothing waits.
 */
#ifndef TW_EDGE_LIMIT_H
#define TW_EDGE_LIMIT_H

#include "edge_count.h"
#include "siphash.h"

#define EDGE_LIMIT_TRIES 4
#define EDGE_TIME_MASK ((1ull << TW_EDGE_TIME_BITS) - 1)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_limits);
} tw_edge_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_BUCKET_SETS);
	__type(key, __u32);
	__type(value, struct tw_edge_bucket_set);
} tw_edge_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_LIMITS);
	__type(key, __u32);
	__type(value, struct tw_edge_total);
} tw_edge_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_EDGE_LIMITS);
	__type(key, __u32);
	__type(value, struct tw_edge_limit_count);
} tw_edge_limit_count SEC(".maps");

static __always_inline struct tw_edge_limits *edge_limits(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tw_edge_limits, &zero);
}

/* What a packet owes to a limit. */
struct edge_charge {
	__u64 now;   /* units */
	__u64 cost;  /* units */
	__u64 burst; /* units */
};

static __always_inline void edge_charge_make(struct edge_charge *c,
					     const struct tw_edge_limit *limit, __u32 len)
{
	__u64 n = limit->kind == TW_EDGE_LIMIT_BYTES ? len : 1;

	/* 4 ms of a jiffy (HZ=250) move when a token comes, never how many: bursts hold more. */
	c->now = (bpf_jiffies64() << (limit->shift & 63)) & EDGE_TIME_MASK;
	c->cost = (n * limit->cost + (1u << (TW_EDGE_COST_SHIFT - 1))) >> TW_EDGE_COST_SHIFT;
	c->burst = limit->burst;
}

/* Time until `until`, cut to TW_EDGE_TIME_BITS; what is past, or further than a burst, is 0. */
static __always_inline __u64 edge_debt(const struct edge_charge *c, __u64 until)
{
	__u64 debt = (until - c->now) & EDGE_TIME_MASK;

	/* A limit that was made smaller: no debt is more than its burst. */
	return debt > c->burst ? 0 : debt;
}

/* The way with this tag, or the one with the smallest debt. Out: its word and debt. */
static __always_inline __u32 edge_bucket_find(const struct tw_edge_bucket_set *set,
					      const struct edge_charge *c, __u64 tag, __u64 *word,
					      __u64 *debt)
{
	__u64 least = ~0ull;
	__u32 way = 0;

	for (__u32 i = 0; i < TW_EDGE_BUCKET_WAYS; i++) {
		__u64 w = set->way[i];

		if (w >> TW_EDGE_TIME_BITS == tag) {
			*word = w;
			*debt = edge_debt(c, w);
			return i;
		}
	}
	for (__u32 i = 0; i < TW_EDGE_BUCKET_WAYS; i++) {
		__u64 w = set->way[i], d = w ? edge_debt(c, w) : 0;

		if (d < least) {
			least = d;
			*word = w;
			way = i;
		}
	}
	*debt = 0;
	return way | (least ? TW_EDGE_BUCKET_WAYS : 0);
}

/* True: over the limit. */
static __always_inline bool edge_source_charge(const struct edge_charge *c, __u32 slot, __u64 hash)
{
	__u32 index = (__u32)hash & (TW_EDGE_BUCKET_SETS - 1);
	struct tw_edge_bucket_set *set = bpf_map_lookup_elem(&tw_edge_buckets, &index);
	/* Never 0: that is an empty way. */
	__u64 tag = hash >> TW_EDGE_TIME_BITS | 1;
	struct tw_edge_limit_count *count;

	if (!set)
		return false;
	for (int i = 0; i < EDGE_LIMIT_TRIES; i++) {
		__u64 word, debt, next;
		__u32 way = edge_bucket_find(set, c, tag, &word, &debt);

		if (debt + c->cost > c->burst)
			return true;
		next = tag << TW_EDGE_TIME_BITS | ((c->now + debt + c->cost) & EDGE_TIME_MASK);
		if (__sync_val_compare_and_swap(&set->way[way & (TW_EDGE_BUCKET_WAYS - 1)], word,
						next) != word)
			continue;
		if (unlikely(way & TW_EDGE_BUCKET_WAYS)) {
			count = bpf_map_lookup_elem(&tw_edge_limit_count, &slot);
			if (count)
				count->forgotten++;
		}
		return false;
	}
	return false;
}

static __always_inline bool edge_total_charge(const struct edge_charge *c, __u32 slot)
{
	struct tw_edge_total *total = bpf_map_lookup_elem(&tw_edge_totals, &slot);

	if (!total)
		return false;
	for (int i = 0; i < EDGE_LIMIT_TRIES; i++) {
		__u64 until = *(volatile __u64 *)&total->until, debt = edge_debt(c, until);

		/* An exhausted bucket is only read: CPUs do not fight for its line in a flood. */
		if (debt + c->cost > c->burst)
			return true;
		if (__sync_val_compare_and_swap(&total->until, until, c->now + debt + c->cost) ==
		    until)
			return false;
	}
	return false;
}

/*
 * One limit. `which`: 1 << 16 for IPv6, set << 8, slot. A function of its own with numbers for
 * arguments, so that the verifier looks at it once. Not 0: over the limit.
 */
__noinline int edge_limit_charge(__u32 which, __u64 hi, __u64 lo, __u32 len)
{
	__u32 slot = which & 0xff, six = which >> 16 & 1;
	struct tw_edge_limits *limits = edge_limits();
	struct tw_edge_limit *limit;
	struct edge_charge c;
	struct siphash sip;

	if (!limits || slot >= TW_EDGE_LIMITS)
		return 0;
	limit = &limits->set[which >> 8 & 1].limit[slot];
	edge_charge_make(&c, limit, len);
	if (!limit->source)
		return edge_total_charge(&c, slot);
	/* Limits share the table: each has a key of its own. IPv4 has nothing in hi. */
	siphash_begin(&sip, (__u64[]){ limits->secret[0], limits->secret[1] + limit->id });
	if (six)
		siphash_word(&sip, hi & limit->mask[1][0]);
	lo &= limit->mask[six][1];
	if (!six || lo)
		siphash_word(&sip, lo);
	return edge_source_charge(&c, slot, siphash_end(&sip));
}

/*
 * The limits of `bits`, those of sources first: what they cut does not count for the totals. `which`
 * as above, without slot. 0, or the slot + 1 of the one that is exceeded.
 */
__noinline int edge_limits_ask(__u32 which, __u32 bits, __u64 hi, __u64 lo, __u32 len)
{
	struct tw_edge_limits *limits = edge_limits();
	__u32 sources;

	if (!limits)
		return 0;
	sources = limits->set[which >> 8 & 1].sources;
	for (int pass = 0; pass < 2; pass++) {
		__u32 now = bits & (pass ? ~sources : sources);

		for (__u32 slot = 0; slot < TW_EDGE_LIMITS && now >> slot; slot++)
			if (now >> slot & 1 && edge_limit_charge(which | slot, hi, lo, len))
				return (int)slot + 1;
	}
	return 0;
}

static __always_inline int edge_limits_charge(const struct edge_packet *p, __u32 set, __u32 bits)
{
	__u32 which = (p->tuple.family == 6 ? 1u << 16 : 0) | set << 8;
	int over;

	if (!bits)
		return EDGE_NEXT;
	over = edge_limits_ask(which, bits, p->tuple.saddr.quad[0], p->tuple.saddr.quad[1], p->len);
	return over ? edge_drop(p, TW_EDGE_FIRST_LIMIT - 1 + (__u32)over) : EDGE_NEXT;
}

/* The word of the packet's destination port. */
static __always_inline __u32 edge_port_word(const struct tw_edge_limit_set *set,
					    const struct edge_packet *p)
{
	__u32 port = port_index(p->tuple.dport);

	if (likely(!(p->flags & EDGE_FRAG_LATER))) {
		if (p->tuple.proto == PROTO_TCP)
			return set->tcp[port];
		if (p->tuple.proto == PROTO_UDP)
			return set->udp[port];
	}
	return set->other[p->tuple.proto];
}

#endif
