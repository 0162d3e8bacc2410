/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tracepoint/net/netif_receive_skb")
int trace(void *ctx)
{
	bpf_printk("received"); /* refused */
	return 0;
}

char LICENSE[] SEC("license") = "Proprietary";
