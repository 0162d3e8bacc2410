// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Behind the edge, which jumps to one program whatever the device: to the program that a user has
 * attached to the device that the frame came in by. Loaded only where there is one.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <towpath/edge_abi.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TW_EDGE_DEVICES);
	__type(key, __u32); /* ifindex */
	__type(value, __u32);
} tw_edge_behind SEC(".maps");

SEC("xdp.frags")
int tw_edge_devices(struct xdp_md *xdp)
{
	bpf_tail_call(xdp, &tw_edge_behind, xdp->ingress_ifindex);
	/* No program for this device: as the edge would have it. */
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
