// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The edge: XDP on uplinks. A frame goes through the stages in this order, and each of them may
 * end it, counted by its reason or rule (edge_count.h):
 *
 *	parse to the addresses -> filter on the source -> parse the rest -> rules on ports and form
 *	-> limits and SYN cookies -> balance -> pass
 *
 * Stages that the settings switch off are pruned by the verifier when the program is loaded.
 */
#include "lib/edge_balance.h"
#include "lib/edge_cookie.h"
#include "lib/edge_count.h"
#include "lib/edge_decap.h"
#include "lib/edge_filter.h"
#include "lib/edge_maps.h"
#include "lib/edge_packet.h"

SEC("xdp.frags")
int tw_edge(struct xdp_md *xdp)
{
	struct edge_packet p;
	__u32 reason = edge_packet_ip(xdp, &p);
	int verdict;

	if (unlikely(reason == TW_EDGE_NOT_IP))
		return edge_pass(xdp, &p, TW_EDGE_NOT_IP);
	if (unlikely(reason))
		return edge_drop(&p, reason);
	verdict = edge_filter_source(&p);
	if (verdict != EDGE_NEXT)
		return verdict;
	if (tw_edge_settings.parse) {
		reason = edge_packet_rest(xdp, &p);
		if (unlikely(reason))
			return edge_drop(&p, reason);
		verdict = edge_filter_rest(&p);
		if (verdict != EDGE_NEXT)
			return verdict;
	}
	if (tw_edge_settings.limits && !edge_allowed(&p)) {
		int action = edge_limit(xdp, &p);

		if (action != EDGE_NEXT)
			return action;
	}
	if (tw_edge_settings.decap && edge_decap(xdp, &p))
		return edge_pass(xdp, &p, TW_EDGE_DECAPSULATED);
	if (tw_edge_settings.balance) {
		int action = edge_balance(xdp, &p);

		if (action != EDGE_NEXT)
			return action;
	}
	return edge_pass(xdp, &p, TW_EDGE_PASS);
}

/* The time that the programs know, for who reads their maps. */
SEC("syscall")
int tw_edge_clock(struct tw_clock *clock)
{
	clock->jiffies = bpf_jiffies64();
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
