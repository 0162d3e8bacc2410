/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int lookup(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = { .ipv4 = { .daddr = skb->mark } };
	struct bpf_sock *sk;

	tuple.ipv4.dport = skb->priority;
	sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;

	__u32 state = sk->state;

	bpf_sk_release(sk);
	return state == BPF_TCP_LISTEN ? 2 : 0;
}

char LICENSE[] SEC("license") = "GPL";
