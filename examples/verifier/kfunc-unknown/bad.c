/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

extern int bpf_from_the_future(struct xdp_md *ctx) __ksym;

SEC("xdp")
int call(struct xdp_md *ctx)
{
	return bpf_from_the_future(ctx) ? XDP_PASS : XDP_DROP; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
