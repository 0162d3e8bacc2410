/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int send(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;

	bpf_ringbuf_output(&events, &queue, sizeof(queue), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
