/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("cgroup/connect4")
int connect(struct bpf_sock_addr *ctx)
{
	return 2; /* refused */
}

char LICENSE[] SEC("license") = "GPL";
