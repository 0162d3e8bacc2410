/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct slots {
	__u64 hits[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slots);
} table SEC(".maps");

SEC("xdp")
int hit(struct xdp_md *ctx)
{
	__u32 zero = 0;
	long i = (long)(bpf_ktime_get_ns() & 15) - 8;
	struct slots *s = bpf_map_lookup_elem(&table, &zero);

	if (s && i >= 0 && i < 16)
		s->hits[i]++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
