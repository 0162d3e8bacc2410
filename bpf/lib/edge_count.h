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

static __always_inline void edge_count(__u32 counter, __u32 bytes)
{
	struct tw_metric *m = bpf_map_lookup_elem(&tw_edge_count, &counter);

	if (m) {
		m->packets++;
		m->bytes += bytes;
	}
}

static __always_inline int edge_drop(const struct edge_packet *p, __u32 counter)
{
	edge_count(counter, p->len);
	return XDP_DROP;
}

/* Counted under the rule that allows it, if one does. */
static __always_inline int edge_pass(struct xdp_md *xdp, const struct edge_packet *p, __u32 counter)
{
	edge_count(edge_allowed(p) ? p->class & TW_EDGE_CLASS_NUMBER : counter, p->len);
	/* With a constant index the jump costs no bounds check, and an empty slot next to nothing. */
	bpf_tail_call_static(xdp, &tw_edge_next, 0);
	return XDP_PASS;
}

#endif
