/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The way to a backend on the link layer: which interface, the MAC addresses, how long a packet may
 * be. The kernel's routes and neighbours say it; nothing is kept here.
 */
#ifndef AGENT_EDGE_HOP_H
#define AGENT_EDGE_HOP_H

#include "netlink.h"

struct hop {
	uint32_t ifindex;
	uint16_t mtu;
	uint8_t dmac[6], smac[6];
	union tw_addr source; /* what the node would send from; all zero: it has none there */
	bool known;	      /* dmac is */
};

/*
 * A neighbour that is not known is asked for, and known by the next call or the one after. 0, or
 * -errno with a sentence in why: there is no route, or with `on_link` it leads over a gateway.
 */
int hop_find(struct nl *nl, const union tw_addr *addr, bool on_link, struct hop *out, char *why,
	     size_t why_len);

#endif
