/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static __noinline int sum(struct xdp_md *ctx, __u32 n)
{
	if (n == ctx->rx_queue_index)
		return 1;
	return sum(ctx, n - 1) + sum(ctx, n - 2); /* refused */
}

SEC("xdp")
int add(struct xdp_md *ctx)
{
	return sum(ctx, 8) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
