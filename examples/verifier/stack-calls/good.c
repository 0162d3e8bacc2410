/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct text {
	char text[300];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct text);
} scratch SEC(".maps");

static __noinline int inner(struct xdp_md *ctx)
{
	__u32 slot = 1;
	struct text *t = bpf_map_lookup_elem(&scratch, &slot);

	if (!t)
		return 0;
	bpf_probe_read_kernel(t->text, sizeof(t->text), ctx);
	return t->text[ctx->rx_queue_index & 127];
}

SEC("xdp")
int outer(struct xdp_md *ctx)
{
	__u32 slot = 0;
	struct text *t = bpf_map_lookup_elem(&scratch, &slot);

	if (!t)
		return XDP_PASS;
	bpf_probe_read_kernel(t->text, sizeof(t->text), ctx);
	return inner(ctx) + t->text[ctx->rx_queue_index & 127] ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
