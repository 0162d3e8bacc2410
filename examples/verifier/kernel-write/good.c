/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Where the mark can be set: as the packet comes in. */
SEC("tc")
int receive(struct __sk_buff *skb)
{
	skb->mark = 7;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
