// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What the benches put beside the shipped programs: empty programs for the floor, a wrapper
 * that makes each repeat of a test-run another packet, and counters where packets arrive.
 *
 * BPF_PROG_TEST_RUN repeats one packet and does not restore it. bench_wrap writes the headers
 * anew, for flow number n, and tail-calls the program under test, which is the shipped one,
 * unmodified. The same wrapper before an empty program is the floor that is subtracted.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEAD4 54 /* Ethernet, IPv4, TCP */
#define HEAD6 74

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_target SEC(".maps");

/* Written by the bench before a run. */
struct {
	__u8 head[80];	  /* what the packet starts with */
	__u32 head_len;	  /* HEAD4 or HEAD6 */
	__u32 next;	  /* number of the next flow */
	__u32 flows;	  /* numbers go from 0 to this, then begin anew; 0: always flow 0 */
	__u32 multiplier; /* odd: the order of numbers; 1: one after another */
	__u32 ports;	  /* source ports used: n % ports */
	__u32 spread;	  /* n / ports goes to the last bytes of the destination, else its port */
} bench = {};

/* Frames given to the stack at an ingress, and delivered where bench_count is attached. */
__u64 delivered = 0;
__u32 peer_ifindex = 0;

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	return 0;
}

SEC("xdp")
int bench_pass(struct xdp_md *xdp)
{
	return XDP_PASS;
}

static __always_inline __u32 flow_number(void)
{
	__u32 n = bench.next++;

	if (!bench.flows)
		return 0;
	/* flows is a power of two when the order is not ascending: a permutation. */
	n *= bench.multiplier;
	return bench.multiplier == 1 ? n % bench.flows : n & (bench.flows - 1);
}

static __always_inline void vary(void *l4, __u8 *daddr_end)
{
	__u32 n = flow_number(), ports = bench.ports;
	__be16 *port = l4;
	__u32 high;

	if (!ports)
		return;
	high = n / ports;
	port[0] = bpf_htons(10000 + n % ports);
	if (bench.spread)
		*(__be16 *)(daddr_end - 2) = bpf_htons(0x1000 + high);
	else
		port[1] = bpf_htons(1000 + high);
}

static __always_inline bool head_write(void *data, void *end)
{
	if (bench.head_len == HEAD4) {
		if (data + HEAD4 > end)
			return false;
		__builtin_memcpy(data, bench.head, HEAD4);
		vary(data + 34, data + 34);
	} else {
		if (data + HEAD6 > end)
			return false;
		__builtin_memcpy(data, bench.head, HEAD6);
		vary(data + 54, data + 54);
	}
	return true;
}

SEC("tc")
int bench_wrap(struct __sk_buff *skb)
{
	if (!head_write((void *)(long)skb->data, (void *)(long)skb->data_end))
		return -2;
	bpf_tail_call(skb, &bench_target, 0);
	return -3;
}

/* Live frames are recycled with what the stack made of them. */
SEC("xdp")
int bench_live(struct xdp_md *xdp)
{
	if (!head_write((void *)(long)xdp->data, (void *)(long)xdp->data_end))
		return XDP_ABORTED;
	return XDP_PASS;
}

/* The least that brings a packet into another namespace. */
SEC("tc")
int bench_redirect(struct __sk_buff *skb)
{
	return bpf_redirect_peer(peer_ifindex, 0);
}

/* Where the benches' packets arrive: counted, and gone. */
SEC("tc")
int bench_count(struct __sk_buff *skb)
{
	__u8 proto;

	/* Neighbour discovery and the like is not ours. */
	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, 23, &proto, 1) ||
	    proto != 6)
		return 0;
	delivered++;
	return 2; /* TC_ACT_SHOT */
}

char _license[] SEC("license") = "Dual BSD/GPL";
