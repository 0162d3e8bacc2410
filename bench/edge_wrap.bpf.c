// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What `./bench.sh edge` puts before the shipped program. BPF_PROG_TEST_RUN repeats one frame and
 * restores neither its bytes nor its beginning, so a program that puts a header in front would meet
 * its own output, and after twelve of them find no room. bench_wrap takes off what the last repeat
 * put in front, writes the headers anew, for flow number n, and tail-calls the shipped program.
 *
 * What that costs is taken off again: the same wrapper before an empty program, and half of what
 * bench_pair, which puts a header in front and takes it off, costs more than an empty program.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEAD_MAX 74 /* Ethernet, IPv6, TCP */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_target SEC(".maps");

/* Written by the bench before a run. */
struct {
	__u64 head[HEAD_MAX / 8 + 1];
	__u32 family;
	__u32 len;    /* of the frame as it arrives */
	__u32 next;   /* number of the next flow */
	__u32 flows;  /* a power of two; 0: always the frame as it is */
	__u32 device; /* to send by */
} bench = {};

/* Source addresses in the order in which frames come; IPv4 in the first four bytes. */
struct bench_addr {
	__u64 half[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bench_addr);
} bench_addrs SEC(".maps");

SEC("xdp.frags")
int bench_empty(struct xdp_md *xdp)
{
	return XDP_PASS;
}

SEC("xdp.frags")
int bench_pair(struct xdp_md *xdp)
{
	if (bpf_xdp_adjust_head(xdp, -20) || bpf_xdp_adjust_head(xdp, 20))
		return XDP_ABORTED;
	return XDP_PASS;
}

/* Flow n has the port n % 2^14 and the address n / 2^14; the order is a permutation. */
static __always_inline void vary(void *data)
{
	__u32 n = bench.next++ * 0x9e3779b1u & (bench.flows - 1);

	/* The last two bytes of the source address, and the source port. */
	*(__be16 *)(data + (bench.family == 4 ? 28 : 36)) = bpf_htons(n >> 14);
	*(__be16 *)(data + (bench.family == 4 ? 34 : 54)) = bpf_htons(10000 + (n & 0x3fff));
}

SEC("xdp.frags")
int bench_wrap(struct xdp_md *xdp)
{
	__u32 len = xdp->data_end - xdp->data;
	void *data, *end;

	if (len != bench.len && bpf_xdp_adjust_head(xdp, (int)(len - bench.len)))
		return XDP_ABORTED;
	data = (void *)(long)xdp->data;
	end = (void *)(long)xdp->data_end;
	if (data + HEAD_MAX > end)
		return XDP_ABORTED;
	for (__u32 i = 0; i < HEAD_MAX / 8; i++)
		((__u64 *)data)[i] = bench.head[i];
	*(__u16 *)(data + HEAD_MAX / 8 * 8) = *(__u16 *)&bench.head[HEAD_MAX / 8];
	if (bench.flows)
		vary(data);
	bpf_tail_call(xdp, &bench_target, 0);
	return XDP_ABORTED;
}

/* Before programs that change nothing: only the source address is another one each time. */
SEC("xdp.frags")
int bench_source(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 n = bench.next++ & (bench.flows - 1);
	struct bench_addr *addr = bpf_map_lookup_elem(&bench_addrs, &n);

	if (!addr || data + 38 > end)
		return XDP_ABORTED;
	if (bench.family == 4) {
		*(__u32 *)(data + 26) = (__u32)addr->half[0];
	} else {
		*(__u64 *)(data + 22) = addr->half[0];
		*(__u64 *)(data + 30) = addr->half[1];
	}
	bpf_tail_call_static(xdp, &bench_target, 0);
	return XDP_ABORTED;
}

/* What a filter is measured against: nothing is looked at. */
SEC("xdp.frags")
int bench_drop(struct xdp_md *xdp)
{
	return XDP_DROP;
}

/* The same behind a look at the source address: what any filter on sources must do. */
SEC("xdp.frags")
int bench_look(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;

	if (data + 34 > end)
		return XDP_ABORTED;
	/* Nobody's address. */
	return *(__u32 *)(data + 26) == bpf_htonl(0xffffffff) ? XDP_PASS : XDP_DROP;
}

/* Live frames, each from the next address, sent by a device. The head is not written by others. */
SEC("xdp")
int bench_flood(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u32 n = bench.next++ & (bench.flows - 1), sum = 0;
	struct bench_addr *addr = bpf_map_lookup_elem(&bench_addrs, &n);
	__u16 *ip = data + 14;

	if (!addr || data + HEAD_MAX > end)
		return XDP_ABORTED;
	for (__u32 i = 0; i < HEAD_MAX / 8; i++)
		((__u64 *)data)[i] = bench.head[i];
	*(__u32 *)(data + 26) = (__u32)addr->half[0];
	ip[5] = 0;
	for (__u32 i = 0; i < 10; i++)
		sum += ip[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip[5] = (__u16) ~((sum & 0xffff) + (sum >> 16));
	return (int)bpf_redirect(bench.device, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
