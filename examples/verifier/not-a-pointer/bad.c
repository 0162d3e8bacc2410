/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int read(struct xdp_md *ctx)
{
	__u64 *address = (__u64 *)(long)ctx->rx_queue_index;

	return *address ? XDP_PASS : XDP_DROP; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
