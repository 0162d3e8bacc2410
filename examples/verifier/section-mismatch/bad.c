/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Written for tc, and in a section of XDP. */
SEC("xdp")
int protocol(struct __sk_buff *skb)
{
	return skb->wire_len > 1500 ? 2 : 0; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
