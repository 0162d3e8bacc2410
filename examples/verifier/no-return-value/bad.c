/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* clang warns: non-void function does not return a value. */
SEC("xdp")
int look(struct xdp_md *ctx)
{
} /* refused */

char LICENSE[] SEC("license") = "GPL";
