/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The user side of the flow tables: their keys, as abi.h defines them. */
#include "flow.h"

#include <netinet/in.h>
#include <string.h>

unsigned int flow_key_pack(const struct tw_tuple *t, union flow_key *key)
{
	const struct {
		const union tw_addr *addr;
		__be16 port;
	} end[2] = { { &t->saddr, t->sport }, { &t->daddr, t->dport } };
	unsigned int dir;

	memset(key, 0, sizeof(*key));
	if (t->family == 4) {
		uint64_t s = (uint64_t)t->saddr.word[3] << 16 | t->sport;
		uint64_t d = (uint64_t)t->daddr.word[3] << 16 | t->dport;

		dir = s > d;
		for (unsigned int i = 0; i < 2; i++) {
			key->k4.addr[i] = end[i ^ dir].addr->word[3];
			key->k4.port[i] = end[i ^ dir].port;
		}
		key->k4.proto = t->proto;
		return dir;
	}
	if (t->saddr.quad[1] != t->daddr.quad[1])
		dir = t->saddr.quad[1] > t->daddr.quad[1];
	else if (t->saddr.quad[0] != t->daddr.quad[0])
		dir = t->saddr.quad[0] > t->daddr.quad[0];
	else
		dir = t->sport > t->dport;
	for (unsigned int i = 0; i < 2; i++) {
		key->k6.addr[i] = *end[i ^ dir].addr;
		key->k6.port[i] = end[i ^ dir].port;
	}
	key->k6.proto = t->proto;
	return dir;
}

void flow_twin_tuple(const struct tw_tuple *t, const struct tw_half *h, struct tw_tuple *out)
{
	bool reply = h->flags & TW_HALF_REPLY_ENTRY;
	struct tw_tuple twin = *t;

	/* From the far end, which both entries have in common, to the other's near end. */
	twin.saddr = reply ? t->saddr : t->daddr;
	twin.sport = reply ? t->sport : t->dport;
	twin.daddr = h->addr;
	twin.dport = h->port;
	if (t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6)
		twin.sport = h->port;
	*out = twin;
}
