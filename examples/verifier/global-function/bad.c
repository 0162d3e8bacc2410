/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Not static: the verifier looks at it alone, for any argument that its type allows. */
__noinline int first(__u8 *bytes)
{
	return bytes[0]; /* refused */
}

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u8 bytes[4] = { 1 };

	return first(bytes) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
