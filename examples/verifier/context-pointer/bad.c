/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int field(struct __sk_buff *skb)
{
	__u32 *fields = (__u32 *)skb;
	__u32 i = skb->mark & 3;

	return fields[i] ? 0 : 2; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
