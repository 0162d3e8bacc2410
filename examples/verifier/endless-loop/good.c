/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

__u64 tries;

/* Counts until a bit is clear, or 16 times. */
SEC("xdp")
int find(struct xdp_md *ctx)
{
	for (int i = 0; i < 16 && bpf_get_prandom_u32() & 1; i++)
		__sync_fetch_and_add(&tries, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
