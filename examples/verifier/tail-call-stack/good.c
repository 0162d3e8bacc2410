/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");

static __noinline int look(struct xdp_md *ctx)
{
	char text[300] = "";

	bpf_probe_read_kernel(text, sizeof(text), ctx);
	return text[ctx->rx_queue_index & 127];
}

SEC("xdp")
int chain(struct xdp_md *ctx)
{
	if (look(ctx))
		return XDP_DROP;
	bpf_tail_call(ctx, &jumps, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
