/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* The kernel's takes flags between them. */
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, struct bpf_dynptr *ptr) __ksym;

SEC("xdp")
int read(struct xdp_md *ctx)
{
	struct bpf_dynptr packet;

	return bpf_dynptr_from_xdp(ctx, &packet); /* refused */
}

char LICENSE[] SEC("license") = "GPL";
