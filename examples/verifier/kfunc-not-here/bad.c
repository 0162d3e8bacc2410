/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;

SEC("xdp")
int read(struct xdp_md *ctx)
{
	struct bpf_dynptr packet;

	return bpf_dynptr_from_skb((void *)ctx, 0, &packet); /* refused */
}

char LICENSE[] SEC("license") = "GPL";
