// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * tc ingress of an uplink: replies to translated connections, and what the network sends to
 * containers. Everything else is the host's and goes on untouched.
 */
#include <linux/if_packet.h>

#include "lib/fast.h"

/*
 * A MAC header in front again, which says no more than the protocol: addresses were looked at
 * before (pkt_type), and what answers to them an error (icmp.h) sends it nowhere.
 */
static __always_inline bool mac_restore(struct __sk_buff *skb)
{
	__be16 protocol = (__be16)skb->protocol;

	return !bpf_skb_change_head(skb, ETH_HLEN, 0) &&
	       !bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol,
				    sizeof(protocol), 0);
}

SEC("tc")
int tw_from_uplink(struct __sk_buff *skb)
{
	/* Tagged frames belong to the VLAN device above, which may be an uplink itself (I2). */
	if (skb->vlan_present)
		return TC_NEXT;
	/* Flooded to another's MAC: the stack drops it, and a redirect would deliver it (I2). */
	if (unlikely(skb->pkt_type == PACKET_OTHERHOST))
		return TC_NEXT;
	/* Else parsed 14 bytes too late, and its payload would be taken for its addresses. */
	if (unlikely(skb_mac_lost(skb)) && !mac_restore(skb)) {
		metric_count(TW_REASON_TRUNCATED, TW_HOOK_FROM_UPLINK, skb->len);
		return TC_DROP;
	}
	return fast_path(skb, skb->ifindex, TW_HOOK_FROM_UPLINK);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
