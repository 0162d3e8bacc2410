/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * For XDP programs that stand before the edge (towpath program attach FILE.o --xdp DEVICE --before edge): a
 * device has one XDP program, so the first one goes on to the next by itself.
 *
 *	SEC("xdp")
 *	int first(struct xdp_md *ctx)
 *	{
 *		if (is_unwanted(ctx))
 *			return XDP_DROP;
 *		return next_stage(ctx);
 *	}
 *
 * The agent fills the slot, and keeps it filled when the edge is loaded anew. Where nothing is behind,
 * the frame goes to the stack. XDP_PASS instead would go to the stack past the edge.
 */
#ifndef TOWPATH_BPF_NEXT_H
#define TOWPATH_BPF_NEXT_H

/* libbpf's headers need it and do not include it. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tw_next SEC(".maps");

static __always_inline int next_stage(struct xdp_md *ctx)
{
	/* Comes back only when the slot is empty. */
	bpf_tail_call_static(ctx, &tw_next, 0);
	return XDP_PASS;
}

#endif
