/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static __noinline int inner(struct xdp_md *ctx)
{
	char text[300] = "";

	bpf_probe_read_kernel(text, sizeof(text), ctx);
	return text[ctx->rx_queue_index & 127];
}

SEC("xdp")
int outer(struct xdp_md *ctx) /* refused */
{
	char text[300] = "";

	bpf_probe_read_kernel(text, sizeof(text), ctx);
	return inner(ctx) + text[ctx->rx_queue_index & 127] ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
