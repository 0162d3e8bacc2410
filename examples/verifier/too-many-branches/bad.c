/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Sums up all bytes of a packet, each after a check of its own. */
SEC("tc")
int sum(struct __sk_buff *skb)
{
	__u32 total = 0;

	for (__u32 i = 0; i < 100000; i++) {
		__u8 byte;

		if (bpf_skb_load_bytes(skb, i, &byte, 1)) /* refused */
			break;
		total += byte;
	}
	skb->mark = total;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
