/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int negative(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	long skip = (long)bpf_ktime_get_ns() & 0xff;
	__u8 *at = data + skip;

	if ((void *)(at + 1) > end)
		return 0;
	return *at ? 0 : 2;
}

char LICENSE[] SEC("license") = "GPL";
