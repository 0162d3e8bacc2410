// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Tail-called from every hook (tw_jumps): what the fast path does not decide. tw_scratch says
 * which hook it was, and where the packet entered.
 */
#include "lib/odd.h"

/* No entry, a decision that has lapsed, or a new connection where an old one was. */
SEC("tc")
int tw_new(struct __sk_buff *skb)
{
	return slow_new(skb);
}

/* Not plain TCP, UDP or SCTP over plain IP. */
SEC("tc")
int tw_odd(struct __sk_buff *skb)
{
	return slow_odd(skb);
}

/* The packet was dropped; its sender is told why. */
SEC("tc")
int tw_icmp_error(struct __sk_buff *skb)
{
	return icmp_answer(skb);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
