/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int odd(struct xdp_md *ctx)
{
	char bytes[16] = {};
	char *p = bytes + 4;

	asm volatile("" : "+r"(p));
	return *(__u32 *)p ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
