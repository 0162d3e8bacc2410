/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int protocol(struct __sk_buff *skb)
{
	return skb->wire_len > 1500 ? 2 : 0;
}

char LICENSE[] SEC("license") = "GPL";
