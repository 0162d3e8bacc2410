/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int verdict(struct xdp_md *ctx)
{
	long verdict;

	asm volatile("%0 = %1" : "=r"(verdict) : "r"(ctx->rx_queue_index));
	return verdict ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
