/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static int here(struct xdp_md *ctx)
{
	return ctx->rx_queue_index ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int call(struct xdp_md *ctx)
{
	return here(ctx);
}

char LICENSE[] SEC("license") = "GPL";
