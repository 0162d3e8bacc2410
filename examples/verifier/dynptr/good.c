/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;

SEC("tc")
int read(struct __sk_buff *skb)
{
	struct bpf_dynptr packet;
	__u8 byte = 0;

	if (bpf_dynptr_from_skb(skb, 0, &packet))
		return 0;
	bpf_dynptr_read(&byte, 1, &packet, 0, 0);
	return byte ? 0 : 2;
}

char LICENSE[] SEC("license") = "GPL";
