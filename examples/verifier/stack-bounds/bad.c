/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int last(struct xdp_md *ctx)
{
	__u32 seen[4] = { 1, 2, 3, 4 };
	__u32 *p = seen;

	asm volatile("" : "+r"(p));	   /* clang would see it too */
	return p[4] ? XDP_PASS : XDP_DROP; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
