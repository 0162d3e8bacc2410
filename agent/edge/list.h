/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Block lists as they are published: one prefix, address or range a line, IPv4 and IPv6 mixed.
 *
 *	192.0.2.0/24			plain, FireHOL, Team Cymru
 *	192.0.2.0/24 ; SBL123456	Spamhaus DROP; # and // begin a remark, too
 *	192.0.2.1	7		further columns after white space are a remark
 *	192.0.2.0	192.0.2.255	24	DShield
 *	192.0.2.0 - 192.0.2.255		a range
 *	Some net:192.0.2.0-192.0.2.255	PeerGuardian (P2P)
 *
 * What a line cannot mean refuses the whole list. Knows nothing of the agent.
 */
#ifndef AGENT_EDGE_LIST_H
#define AGENT_EDGE_LIST_H

#include "edge_prefix.h"

struct edge_list_error {
	unsigned int line, column; /* from 1; 0: none, as when there is no memory */
	char text[160];
};

/* len as for edge_prefixes_add(). A range comes as several prefixes of one line. */
typedef int edge_list_fn(void *arg, const union tw_addr *addr, uint32_t len, unsigned int line);

/* Calls fn for each prefix, until it returns not 0, which is returned. -EINVAL with *err. */
int edge_list_each(const char *text, size_t len, edge_list_fn *fn, void *arg,
		   struct edge_list_error *err);

/* All prefixes, sorted. On failure *out holds nothing. */
int edge_list_parse(const char *text, size_t len, uint32_t rule, struct edge_prefixes *out,
		    struct edge_list_error *err);

/* The line with the longest prefix that covers an address; 0: none does. */
unsigned int edge_list_find(const char *text, size_t len, const union tw_addr *addr,
			    uint32_t *prefix_len);

#endif
