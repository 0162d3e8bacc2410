/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int add(struct xdp_md *ctx)
{
	__u32 total = 0;

	for (__u32 n = 0; n < 8; n++)
		total += n ^ ctx->rx_queue_index;
	return total ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
