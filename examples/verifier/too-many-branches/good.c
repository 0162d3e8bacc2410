/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Sums up all bytes of a packet, each after a check of its own. */
struct sum {
	struct __sk_buff *skb;
	__u32 total;
};

static long add(__u64 i, void *context)
{
	struct sum *sum = context;
	__u8 byte;

	if (bpf_skb_load_bytes(sum->skb, i, &byte, 1))
		return 1;
	sum->total += byte;
	return 0;
}

SEC("tc")
int sum(struct __sk_buff *skb)
{
	struct sum sum = { .skb = skb };

	bpf_loop(100000, add, &sum, 0);
	skb->mark = sum.total;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
