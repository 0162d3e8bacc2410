/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The ends of a frame: each is counted once, under a reason or a rule. A stage returns EDGE_NEXT,
 * or an XDP action that it got from here.
 */
#ifndef TW_EDGE_COUNT_H
#define TW_EDGE_COUNT_H

#include "edge_maps.h"
#include "edge_packet.h"

/* No XDP action: the frame goes on to the next stage. */
#define EDGE_NEXT (-1)

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TW_EDGE_SOURCES);
	__type(key, union tw_addr);
	__type(value, struct tw_edge_source);
} tw_edge_sources SEC(".maps");

/* Out of the way: one frame in TW_EDGE_SAMPLE comes here. */
static __noinline int edge_sample(const union tw_addr *addr, __u32 counter, __u32 dropped)
{
	/* Before Linux 6.4 a key is on the stack, or the verifier does not take it. */
	union tw_addr key = *addr;
	struct tw_edge_source *source = bpf_map_lookup_elem(&tw_edge_sources, &key);

	if (source) {
		source->samples[dropped & 1]++;
		source->counter = counter;
	} else {
		struct tw_edge_source first = { .counter = counter };

		first.samples[dropped & 1] = 1;
		bpf_map_update_elem(&tw_edge_sources, &key, &first, BPF_NOEXIST);
	}
	return 0;
}

/* How many were counted before on this CPU. */
static __always_inline __u64 edge_count(__u32 counter, __u32 bytes)
{
	struct tw_metric *m = bpf_map_lookup_elem(&tw_edge_count, &counter);

	if (!m)
		return 1;
	m->bytes += bytes;
	return m->packets++;
}

static __always_inline int edge_drop(const struct edge_packet *p, __u32 counter)
{
	if (unlikely(!(edge_count(counter, p->len) % TW_EDGE_SAMPLE)))
		edge_sample(&p->tuple.saddr, counter, 1);
	return XDP_DROP;
}

/* Counted under the rule that allows it, if one does. */
static __always_inline int edge_pass(struct xdp_md *xdp, const struct edge_packet *p, __u32 counter)
{
	if (edge_allowed(p))
		counter = p->class & TW_EDGE_CLASS_NUMBER;
	if (unlikely(!(edge_count(counter, p->len) % TW_EDGE_SAMPLE)))
		edge_sample(&p->tuple.saddr, counter, 0);
	/* With a constant index the jump costs no bounds check, and an empty slot next to nothing. */
	bpf_tail_call_static(xdp, &tw_edge_next, 0);
	return XDP_PASS;
}

#endif
