/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static __noinline int step0(struct xdp_md *ctx)
{
	return ctx->rx_queue_index;
}

static __noinline int step1(struct xdp_md *ctx)
{
	return step0(ctx) + 1;
}

static __noinline int step2(struct xdp_md *ctx)
{
	return step1(ctx) + 1; /* refused */
}

static __noinline int step3(struct xdp_md *ctx)
{
	return step2(ctx) + 1;
}

static __noinline int step4(struct xdp_md *ctx)
{
	return step3(ctx) + 1;
}

static __noinline int step5(struct xdp_md *ctx)
{
	return step4(ctx) + 1;
}

static __noinline int step6(struct xdp_md *ctx)
{
	return step5(ctx) + 1;
}

static __noinline int step7(struct xdp_md *ctx)
{
	return step6(ctx) + 1;
}

static __noinline int step8(struct xdp_md *ctx)
{
	return step7(ctx) + 1;
}

SEC("xdp")
int deep(struct xdp_md *ctx)
{
	return step8(ctx) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
