/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Looks at a byte somewhere in the first 510. */
SEC("tc")
int offset(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u64 skip = bpf_get_hash_recalc(skb) & 0xff;
	__u8 *at = data + skip * 2;

	if ((void *)(at + 1) > end)
		return 0;
	return *at ? 0 : 2;
}

char LICENSE[] SEC("license") = "GPL";
