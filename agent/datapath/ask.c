/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What would the programs say? Their decision (bpf/lib/decide.h) by the maps as they are. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "datapath/maps.h"

static bool is_multicast(const union tw_addr *a)
{
	if (addr_is4(a))
		return a->byte[12] >= 224;
	return a->byte[0] == 0xff || (a->byte[0] == 0xfe && (a->byte[1] & 0xc0) == 0x80);
}

static bool is_martian(const union tw_addr *a)
{
	if (addr_is4(a))
		return !a->byte[12] || a->byte[12] == 127;
	return !a->quad[0] && !a->word[2];
}

static int end_find(struct datapath *dp, const struct policy_end *end, struct maps_end *out)
{
	struct tw_endpoint ep;
	uint32_t word;

	*out = (struct maps_end){ .identity = TW_ID_HOST };
	if (end->is_host)
		return 0;
	int res = datapath_word_find(dp, &end->addr, &word);
	if (res)
		return res;
	out->identity = word & TW_WORD_PAYLOAD ? word & TW_WORD_PAYLOAD : TW_ID_WORLD;
	if ((word & TW_WORD_KIND) != TW_WORD_ENDPOINT)
		return 0;
	out->slot = word & TW_WORD_PAYLOAD;
	res = datapath_endpoint_get(dp, out->slot, &ep);
	if (res)
		return res;
	out->gone = !(ep.flags & TW_EP_LIVE) || !ep.ifindex;
	out->version = ep.version;
	out->identity = !addr_is4(&end->addr) && ep.identity6 ? ep.identity6 : ep.identity;
	return 0;
}

/* What is refused before any policy is asked. */
static enum tw_reason ends_reason(const struct policy_end ends[2], const struct maps_end found[2])
{
	if (!ends[0].is_host && !found[0].slot &&
	    (is_martian(&ends[0].addr) || is_multicast(&ends[0].addr) ||
	     found[0].identity == TW_ID_UNASSIGNED || found[0].identity == TW_ID_HOST))
		return TW_REASON_SPOOFED;
	if (found[0].gone)
		return TW_REASON_SPOOFED;
	if (!ends[1].is_host && is_multicast(&ends[1].addr))
		return TW_REASON_MULTICAST;
	if (!ends[1].is_host && is_martian(&ends[1].addr))
		return TW_REASON_NO_ROUTE;
	if (found[1].gone)
		return TW_REASON_ENDPOINT_GONE;
	return found[1].identity == TW_ID_UNASSIGNED ? TW_REASON_NO_ENDPOINT : TW_REASON_OK;
}

int maps_ask(struct datapath *dp, const struct policy_end ends[2], uint8_t proto, uint16_t port,
	     struct maps_answer *out)
{
	static const enum tw_reason denied[] = {
		[TW_INGRESS] = TW_REASON_POLICY_INGRESS,
		[TW_EGRESS] = TW_REASON_POLICY_EGRESS,
	};
	bool ports = proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6;
	struct maps_answer a = {};
	int res = 0;

	for (int i = 0; i < 2 && !res; i++)
		res = end_find(dp, &ends[i], &a.end[i]);
	if (res)
		return res;
	a.key = (uint32_t)proto << 16 | (ports ? port : 0);
	a.reason = ends_reason(ends, a.end);
	/* Between a container and its own node everything passes. */
	a.host = a.end[0].identity == TW_ID_HOST || a.end[1].identity == TW_ID_HOST;
	bool asks = a.reason == TW_REASON_OK && !a.host;

	for (int i = 0; i < 2 && asks && !res; i++) {
		enum tw_direction dir = i ? TW_INGRESS : TW_EGRESS;

		if (!a.end[i].slot)
			continue;
		a.asked[dir] = true;
		res = datapath_decision_find(dp, a.end[i].version, dir, a.end[!i].identity, a.key,
					     &a.said[dir]);
		if (!a.said[dir].allow && a.reason == TW_REASON_OK)
			a.reason = denied[dir];
	}
	if (!res)
		*out = a;
	return res;
}
