/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/hop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int hop_find(struct nl *nl, const union tw_addr *addr, bool on_link, struct hop *out, char *why,
	     size_t why_len)
{
	const union tw_addr *next;
	struct nl_route route;
	struct nl_link link;
	struct hop hop = {};
	int res = nl_route_to(nl, addr, &route);

	if (!res && route.type != RTN_UNICAST)
		res = -ENETUNREACH;
	if (res) {
		snprintf(why, why_len, "the node has no route to it: %s", strerror(-res));
		return res;
	}
	if (on_link && route.has_gateway) {
		snprintf(why, why_len, "it is behind a gateway, which way l2 cannot reach");
		return -ENETUNREACH;
	}
	res = nl_link_get(nl, route.oif, NULL, &link);
	if (res) {
		snprintf(why, why_len, "its interface is gone: %s", strerror(-res));
		return res;
	}
	next = route.has_gateway ? &route.gateway : addr;
	hop.ifindex = route.oif;
	hop.mtu = (uint16_t)(link.mtu > UINT16_MAX ? UINT16_MAX : link.mtu);
	memcpy(hop.smac, link.mac, 6);
	if (route.has_source)
		hop.source = route.source;
	hop.known = !nl_neigh_get(nl, route.oif, next, hop.dmac);
	if (!hop.known)
		nl_neigh_ask(nl, route.oif, next);
	*out = hop;
	return 0;
}
