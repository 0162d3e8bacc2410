/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static long mix_once(__u64 i, void *context)
{
	*(__u32 *)context ^= bpf_get_prandom_u32();
	return 0;
}

SEC("xdp")
int mix(struct xdp_md *ctx)
{
	__u32 total = 0;

	bpf_loop(400000, mix_once, &total, 0);
	return total ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
