/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static __always_inline int step(struct xdp_md *ctx, int depth)
{
	return ctx->rx_queue_index + depth;
}

SEC("xdp")
int deep(struct xdp_md *ctx)
{
	return step(ctx, 9) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
