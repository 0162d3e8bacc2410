/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int field(struct __sk_buff *skb)
{
	switch (skb->mark & 3) {
	case 0:
		return skb->len ? 0 : 2;
	case 1:
		return skb->pkt_type ? 0 : 2;
	default:
		return 0;
	}
}

char LICENSE[] SEC("license") = "GPL";
