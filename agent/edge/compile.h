/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From rules to what the program reads: the classes of addresses, the rules on ports, and the
 * settings that the program is loaded with.
 */
#ifndef AGENT_EDGE_COMPILE_H
#define AGENT_EDGE_COMPILE_H

#include "edge.h"
#include "edge/rule.h"
#include "edge_build.h"

/*
 * Classes are immutable, and numbered anew at each load of the whole table, in turn in one half of
 * the numbers and in the other: those of before are in use until the load is in force.
 */
#define EDGE_CLASSES_HALF (TW_EDGE_CLASSES / 2)
#define EDGE_INTERVALS_HALF (TW_EDGE_INTERVALS / 2)

struct edge_port_class;

struct edge_compile {
	const struct edge *edge;
	/* By number; those of a change that is under way are there, too. */
	const struct edge_rule *rule[TW_EDGE_COUNTERS];
	struct edge_port_class *by_key; /* uthash, of this half */
	struct edge_port_class *by_number[TW_EDGE_CLASSES];
	uint32_t half, n_classes, n_intervals;
	int failed; /* -errno of the first class that could not be made */
};

void edge_compile_close(struct edge_compile *c);
/* Before each load of the whole table. */
void edge_compile_begin(struct edge_compile *c);
/* edge_classify of edge_build.h; arg is the compile. */
uint32_t edge_compile_class(void *arg, uint32_t outer, uint32_t number);
/* Rules on ports whatever the source. */
void edge_compile_ports(const struct edge_compile *c, struct tw_edge_ports *out);
/* What these rules need of the program, beside what *out has already. */
void edge_compile_settings(const struct edge_compile *c, struct tw_edge_settings *out);
/* Which rule of a class decides about a packet; 0: none. ports->first is its port. */
uint32_t edge_compile_decide(const struct edge_compile *c, uint32_t class,
			     const struct edge_ports *packet);

#endif
