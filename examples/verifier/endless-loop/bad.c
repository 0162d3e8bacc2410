/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

__u64 tries;

/* Counts until a bit is clear, which nothing ever clears. */
SEC("xdp")
int find(struct xdp_md *ctx)
{
	__u64 seed = bpf_get_prandom_u32();

	while (seed & 1)
		__sync_fetch_and_add(&tries, 1); /* refused */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
