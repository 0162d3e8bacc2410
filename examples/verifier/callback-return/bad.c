/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

static long add(__u64 i, void *context)
{
	*(__u32 *)context += i;
	return 7; /* refused */
}

SEC("xdp")
int sum(struct xdp_md *ctx)
{
	__u32 total = 0;

	bpf_loop(10, add, &total, 0);
	return total ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
