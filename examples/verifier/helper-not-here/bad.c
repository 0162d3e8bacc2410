/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int mark(struct xdp_md *ctx)
{
	return bpf_get_hash_recalc((void *)ctx) ? XDP_PASS : XDP_DROP; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
