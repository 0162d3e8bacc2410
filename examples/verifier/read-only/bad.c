/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

const volatile __u32 limit = 100; /* read-only for the program */

SEC("xdp")
int tune(struct xdp_md *ctx)
{
	*(volatile __u32 *)&limit = ctx->rx_queue_index; /* refused */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
