/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");

static __noinline int jump(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return XDP_PASS;
}

SEC("xdp")
int chain(struct xdp_md *ctx) /* refused */
{
	char text[300] = "";

	bpf_probe_read_kernel(text, sizeof(text), ctx);
	if (text[ctx->rx_queue_index & 127])
		return XDP_DROP;
	return jump(ctx);
}

char LICENSE[] SEC("license") = "GPL";
