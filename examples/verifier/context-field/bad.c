/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/egress")
int stamp(struct __sk_buff *skb)
{
	return skb->tc_classid != 1; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
