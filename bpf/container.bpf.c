// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * tc programs of an endpoint's port (the host side of its veth): ingress is what the container
 * sends, egress is what the host's stack sends to it. Containers of this node reach each other
 * without passing the egress hook.
 */
#include "lib/odd.h"

static const struct hook hook_container = {
	TW_HOOK_FROM_CONTAINER,
	TW_JUMP_CONTAINER_NEW,
	TW_JUMP_CONTAINER_ODD,
};
static const struct hook hook_host = {
	TW_HOOK_TO_CONTAINER,
	TW_JUMP_HOST_NEW,
	TW_JUMP_HOST_ODD,
};

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
	return fast_path(skb, skb->ifindex, &hook_container);
}

SEC("tc")
int tw_to_container(struct __sk_buff *skb)
{
	return fast_path(skb, stack_in(skb), &hook_host);
}

SEC("tc")
int tw_container_new(struct __sk_buff *skb)
{
	return slow_new(skb, &hook_container);
}

SEC("tc")
int tw_container_odd(struct __sk_buff *skb)
{
	return slow_odd(skb, skb->ifindex, &hook_container);
}

SEC("tc")
int tw_host_new(struct __sk_buff *skb)
{
	return slow_new(skb, &hook_host);
}

SEC("tc")
int tw_host_odd(struct __sk_buff *skb)
{
	return slow_odd(skb, stack_in(skb), &hook_host);
}

SEC("tc")
int tw_icmp_error(struct __sk_buff *skb)
{
	return icmp_answer(skb);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
