/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} start SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index, zero = 0;
	__u32 *first = bpf_map_lookup_elem(&start, &zero);
	__u64 n = first ? *first : 0;

	bpf_map_update_elem(&counts, &queue, &n, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
