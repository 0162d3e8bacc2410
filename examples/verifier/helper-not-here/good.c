/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int mark(struct __sk_buff *skb)
{
	return bpf_get_hash_recalc(skb) ? 0 : 2;
}

char LICENSE[] SEC("license") = "GPL";
