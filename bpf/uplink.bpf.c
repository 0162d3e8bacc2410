// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * tc ingress of an uplink: replies to translated connections, and what the network sends to
 * containers. Everything else is the host's and goes on untouched.
 */
#include <linux/if_packet.h>

#include "lib/fast.h"

SEC("tc")
int tw_from_uplink(struct __sk_buff *skb)
{
	/* Tagged frames belong to the VLAN device above, which may be an uplink itself (I2). */
	if (skb->vlan_present)
		return TC_NEXT;
	/* Flooded to another's MAC: the stack drops it, and a redirect would deliver it (I2). */
	if (unlikely(skb->pkt_type == PACKET_OTHERHOST))
		return TC_NEXT;
	return fast_path(skb, skb->ifindex, TW_HOOK_FROM_UPLINK);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
