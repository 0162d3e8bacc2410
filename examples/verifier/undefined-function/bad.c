/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

extern int elsewhere(struct xdp_md *ctx);

SEC("xdp")
int call(struct xdp_md *ctx)
{
	return elsewhere(ctx); /* refused */
}

char LICENSE[] SEC("license") = "GPL";
