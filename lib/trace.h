/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A packet through the data path that leaves no trace in it: the same programs loaded a second
 * time. What they only read (policy, prefixes, endpoints, ...) are the maps in use; everything
 * that they write (flows, budgets, counters, events, ...) are small maps of this load, into
 * which the entries that the packet can meet are copied. So what is run is the code in force,
 * to the instruction, and no look-up or store of it reaches a flow, a counter or a token.
 * BPF_PROG_TEST_RUN returns a redirect and does not perform it.
 */
#ifndef TOWPATH_TRACE_H
#define TOWPATH_TRACE_H

#include "datapath.h"

#define TRACE_FRAME_MAX 3584u /* what a test run takes */
#define TRACE_EVENTS_MAX 4u

struct trace;

/*
 * Loads the programs, which takes some hundred milliseconds; on any thread, while dp is in use.
 * The maps must stay open. -errno with a sentence in err.
 */
int trace_open(struct trace **out, const struct datapath *dp, char *err, size_t err_len);
void trace_close(struct trace *t);

struct trace_packet {
	enum tw_hook hook;
	uint32_t ifindex; /* of the hook's interface */
	uint32_t in;	  /* ifindex where the node received it; 0: the node made it */
	struct tw_tuple tuple;
	uint16_t slot[2]; /* of the ends that are endpoints of this node, else 0 */
	uint8_t frame[TRACE_FRAME_MAX];
	size_t len;
};

struct trace_end {
	uint32_t identity; /* 0: not looked up */
	uint32_t version;
	uint16_t slot; /* 0: no endpoint */
};

/* What the programs did, by what they left: their scratch memory, events and entries. */
struct trace_result {
	int verdict; /* TC_ACT_*: 2 drop, 7 redirect, -1 (TCX_NEXT) on to the stack */
	uint8_t frame[TRACE_FRAME_MAX];
	size_t len;
	bool parsed; /* by the slow path: what follows is set as far as it came */
	struct tw_tuple opener;
	struct trace_end from, to;
	uint32_t oif; /* 0: no route was looked up */
	uint16_t mtu;
	bool has_hop;
	union tw_addr hop;
	__be16 nat_port; /* 0: the source is not translated */
	union tw_addr nat_addr;
	unsigned int dir; /* the packet's half of the entries below */
	bool met;	  /* an entry was there: as it was */
	struct tw_flow before;
	bool kept; /* an entry is there now: as it would be */
	struct tw_flow after;
	bool full; /* the flow table has no room */
	struct tw_event events[TRACE_EVENTS_MAX];
	size_t n_events;
	uint32_t made; /* entries that were inserted */
};

/* -errno: the kernel did not run it. */
int trace_run(struct trace *t, const struct trace_packet *p, struct trace_result *out);

/* A frame for struct trace_packet: Ethernet to payload, checksums right. */
struct trace_spec {
	uint8_t dmac[6], smac[6];
	struct tw_tuple tuple; /* of ICMP: sport is the identifier of an echo request */
	uint8_t tcp;	       /* flags */
	uint8_t ttl;
	size_t payload; /* bytes */
};
/* -E2BIG: larger than TRACE_FRAME_MAX. -EPROTONOSUPPORT. */
int trace_frame(const struct trace_spec *spec, struct trace_packet *out);

#endif
