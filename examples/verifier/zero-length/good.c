/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int copy(struct __sk_buff *skb)
{
	char bytes[64] = "";
	__u32 len = (skb->mark & 63) + 1; /* 1 to 64, also for old kernels */

	if (bpf_skb_load_bytes(skb, 0, bytes, len))
		return 0;
	return bytes[0] ? 0 : 2;
}

char LICENSE[] SEC("license") = "GPL";
