/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int mix(struct xdp_md *ctx)
{
	__u32 total = 0;

	for (int i = 0; i < 400000; i++) /* refused */
		total ^= bpf_get_prandom_u32();
	return total ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
