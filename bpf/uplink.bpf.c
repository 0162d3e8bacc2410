// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * tc ingress of an uplink: replies to translated connections, and what the network sends to
 * containers. Everything else is the host's and goes on untouched.
 */
#include "lib/odd.h"

static const struct hook hook_uplink = {
	TW_HOOK_FROM_UPLINK,
	TW_JUMP_UPLINK_NEW,
	TW_JUMP_UPLINK_ODD,
};

SEC("tc")
int tw_from_uplink(struct __sk_buff *skb)
{
	/* Tagged frames belong to the VLAN device above, which may be an uplink itself (I2). */
	if (skb->vlan_present)
		return TC_NEXT;
	return fast_path(skb, skb->ifindex, &hook_uplink);
}

SEC("tc")
int tw_uplink_new(struct __sk_buff *skb)
{
	return slow_new(skb, &hook_uplink);
}

SEC("tc")
int tw_uplink_odd(struct __sk_buff *skb)
{
	return slow_odd(skb, skb->ifindex, &hook_uplink);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
