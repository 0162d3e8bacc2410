/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sk_buff {
	__u32 mark;
} __attribute__((preserve_access_index));

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(receive, struct sk_buff *skb)
{
	skb->mark = 7; /* refused */
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
