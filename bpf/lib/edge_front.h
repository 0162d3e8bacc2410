/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Frontends: which service a packet is for. Not a hash map: the arrays are inlined by the JIT, and a
 * packet that is for none of them, the ordinary case, ends at one empty word.
 */
#ifndef TW_EDGE_FRONT_H
#define TW_EDGE_FRONT_H

#include "edge_count.h"

#include <towpath/edge_balance_abi.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_balance);
} tw_edge_balance SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_index);
} tw_edge_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_FRONTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_front);
} tw_edge_fronts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_EDGE_COUNT_BALANCE_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} tw_edge_balance_count SEC(".maps");

static __always_inline const struct tw_edge_balance *edge_balance_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tw_edge_balance, &zero);
}

static __always_inline void edge_balance_count(__u32 counter)
{
	__u64 *n = bpf_map_lookup_elem(&tw_edge_balance_count, &counter);

	if (n)
		++*n;
}

static __always_inline bool addr_equal(const union tw_addr *a, const union tw_addr *b)
{
	return a->quad[0] == b->quad[0] && a->quad[1] == b->quad[1];
}

/* The frontend of exactly this key, or NULL. */
static __always_inline const struct tw_edge_front *
edge_front_find(const struct tw_edge_index *index, const union tw_addr *addr, __be16 port,
		__u8 proto, __u8 prefix)
{
	__u32 h = tw_edge_front_hash(addr, port, proto);

	for (__u32 i = 0; i < TW_EDGE_PROBES; i++) {
		const struct tw_edge_front *f;
		__u32 word = index->word[(h + i) & (TW_EDGE_INDEX - 1)];

		if (!word)
			return NULL;
		f = bpf_map_lookup_elem(&tw_edge_fronts, &word);
		if (!f)
			return NULL;
		if (likely(addr_equal(&f->addr, addr) && f->port == port && f->proto == proto &&
			   f->prefix == prefix))
			return f;
	}
	return NULL;
}

static __always_inline const struct tw_edge_front *
edge_front_ports(const struct tw_edge_index *index, const union tw_addr *addr, __be16 port,
		 __u8 proto, __u8 prefix)
{
	const struct tw_edge_front *f = edge_front_find(index, addr, port, proto, prefix);

	if (!f && index->any_port)
		f = edge_front_find(index, addr, 0, proto, prefix);
	return f;
}

/* A single address is more specific than any prefix, and longer prefixes stand first. */
static __noinline const struct tw_edge_front *edge_front_prefix(const union tw_addr *addr,
								__be16 port, __u8 proto)
{
	const struct tw_edge_balance *b = edge_balance_get();
	const struct tw_edge_index *index;
	const struct tw_edge_front *f;
	union tw_addr masked;
	__u32 which;

	if (!b || !addr)
		return NULL;
	which = b->index;
	index = bpf_map_lookup_elem(&tw_edge_index, &which);
	if (!index)
		return NULL;
	for (__u32 i = 0; i < TW_EDGE_PREFIXES; i++) {
		if (i >= index->n_prefixes)
			break;
		masked.quad[0] = addr->quad[0] & index->mask[i].quad[0];
		masked.quad[1] = addr->quad[1] & index->mask[i].quad[1];
		f = edge_front_ports(index, &masked, port, proto, (__u8)i);
		if (f)
			return f;
	}
	return NULL;
}

/* The frontend that an address, port and protocol belong to, or NULL. */
static __always_inline const struct tw_edge_front *
edge_front(const struct tw_edge_balance *b, const union tw_addr *addr, __be16 port, __u8 proto)
{
	const struct tw_edge_index *index;
	const struct tw_edge_front *f;
	__u32 which = b->index;

	index = bpf_map_lookup_elem(&tw_edge_index, &which);
	if (unlikely(!index))
		return NULL;
	f = edge_front_ports(index, addr, port, proto, TW_EDGE_NO_PREFIX);
	if (!f && unlikely(index->n_prefixes))
		f = edge_front_prefix(addr, port, proto);
	return f;
}

#endif
