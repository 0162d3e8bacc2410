// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * tc programs of an endpoint's port (the host side of its veth): ingress is what the container
 * sends, egress is what the host's stack sends to it. Containers of this node reach each other
 * without passing the egress hook.
 */
#include "lib/fast.h"

/* Where a packet of the egress hook came from: the node itself has no receiving interface. */
static __always_inline __u32 stack_in(const struct __sk_buff *skb)
{
	return skb->ingress_ifindex ? TW_IN_STACK | skb->ingress_ifindex : TW_IN_HOST;
}

SEC("tc")
int tw_from_container(struct __sk_buff *skb)
{
	if (skb->vlan_present) {
		metric_count(TW_REASON_VLAN, TW_HOOK_FROM_CONTAINER, skb->len);
		return TC_DROP;
	}
	return fast_path(skb, skb->ifindex, TW_HOOK_FROM_CONTAINER);
}

SEC("tc")
int tw_to_container(struct __sk_buff *skb)
{
	return fast_path(skb, stack_in(skb), TW_HOOK_TO_CONTAINER);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
