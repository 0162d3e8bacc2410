/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One look at the flow tables, for a worker thread: what each flow and each endpoint carried, in
 * all and since an earlier look. Names nothing and touches nothing of the agent's but the maps.
 */
#ifndef AGENT_TOP_WALK_H
#define AGENT_TOP_WALK_H

#include "datapath.h"

/* What every flow had carried at one look, by a hash of its tuple. 40 bytes a flow. */
struct tally;
void tally_free(struct tally *t);

struct walk_counts {
	uint64_t packets[2],
		bytes[2]; /* in all: opener's direction, the other; or sent, received */
	uint64_t new_packets, new_bytes; /* since the look before, both directions */
};

struct walk_flow {
	struct datapath_flow flow; /* its counters are of one entry; see `counts` */
	struct walk_counts counts;
};

struct walk_slot {
	struct walk_counts counts;
	uint32_t flows;
};

struct walk {
	/* In. */
	struct datapath *dp;
	const struct tally *before; /* NULL: there was no look before; sorted by all then */
	const uint8_t *only;	    /* bit set of slots of which one end must be; NULL: any */
	uint32_t n;		    /* flows to be returned */
	uint32_t expected;	    /* flows there may be, for the size of tables */
	bool by_bytes;
	/* Out, the caller's to free. */
	struct tally *now;
	struct walk_slot *slots; /* TW_MAX_ENDPOINTS; slot 0: neither end */
	struct walk_flow *flows; /* the busiest first */
	size_t n_flows;
	struct walk_counts all;
	uint64_t total; /* flows there are */
};

/* 0 or -errno; what is there until then is to be freed all the same. */
int walk_run(struct walk *w);
void walk_clear(struct walk *w);

#endif
