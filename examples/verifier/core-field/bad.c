/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sk_buff {
	unsigned int length_of_it; /* the kernel's is called len */
} __attribute__((preserve_access_index));

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(receive, struct sk_buff *skb)
{
	return skb->length_of_it; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
