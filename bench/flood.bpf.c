// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The far side of `./bench.sh flood`. flood_frame makes each live frame another SYN and sends it out;
 * flood_sink stands for the network that answers to forged addresses get lost in.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Written before the first frame. */
__u8 head[54] = {}; /* Ethernet, IPv4, TCP: a SYN without options */
__u32 device = 0;   /* to send by */
__u32 forged = 0;   /* every source, or that of head only */
__be32 fixed = 0;   /* the source that is not forged */

static __u64 state = 0x9e3779b97f4a7c15ull;

static __always_inline __u64 random_next(void)
{
	__u64 x = state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	state = x;
	return x;
}

static __always_inline __u32 checksum_add(__u32 sum, __u32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

static __always_inline __u16 checksum_end(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16) ~((sum & 0xffff) + (sum >> 16));
}

SEC("xdp")
int flood_frame(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u64 r = random_next();
	__u32 sum;

	if (data + sizeof(head) > end)
		return XDP_ABORTED;
	__builtin_memcpy(data, head, sizeof(head));
	/* 11.0.0.0 to 11.255.255.255: nobody's here. */
	if (forged)
		ip->saddr = bpf_htonl(0x0b000000 | (__u32)(r & 0xffffff));
	tcp->source = bpf_htons(1024 + (__u16)(r >> 24) % 60000);
	tcp->seq = (__u32)(r >> 32);
	sum = checksum_add(0, 0x0045 | (__u32)ip->tot_len << 16);
	sum = checksum_add(sum, ip->id | (__u32)ip->frag_off << 16);
	sum = checksum_add(sum, ip->ttl | (__u32)ip->protocol << 8);
	ip->check = checksum_end(checksum_add(checksum_add(sum, ip->saddr), ip->daddr));
	sum = checksum_add(checksum_add(0, ip->saddr), ip->daddr);
	sum = checksum_add(sum, bpf_htons(IPPROTO_TCP) | (__u32)bpf_htons(sizeof(*tcp)) << 16);
	sum = checksum_add(sum, tcp->source | (__u32)tcp->dest << 16);
	sum = checksum_add(sum, tcp->seq);
	/* Header length and SYN, then the window. */
	sum = checksum_add(sum, bpf_htons(0x5002) | (__u32)tcp->window << 16);
	tcp->check = checksum_end(sum);
	return bpf_redirect(device, 0);
}

/* Answers to the flood end here, before they cost anything. */
SEC("xdp")
int flood_sink(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return ip->daddr == fixed || (bpf_ntohl(ip->daddr) >> 24) == 11 ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
