/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The edge's program under BPF_PROG_TEST_RUN: frames in, an XDP action and the one counter that
 * grew out. Packets are those of frame.h. No namespace and no device is needed, but root is.
 */
#ifndef TESTS_DATAPATH_EDGE_LAB_H
#define TESTS_DATAPATH_EDGE_LAB_H

#include <edge.h>
#include <linux/bpf.h>

#include "frame.h"

/* Rules whose counters edge_lab_run() looks at. */
#define EDGE_LAB_RULES 64u

struct edge_outcome {
	uint32_t action; /* enum xdp_action */
	uint32_t
		counter; /* enum tw_edge_reason, or a rule's number; fails when not just one grew */
	struct frame out;
};

/* Asserts on failure. */
struct edge *edge_lab_open(const struct tw_edge_settings *settings);
void edge_lab_run(struct edge *edge, const struct frame *in, struct edge_outcome *out);

/* One frame of a table, and what must become of it. */
struct edge_step {
	struct spec in;
	uint32_t action;
	uint32_t counter;
};
#define EDGE_STEP(in_, action_, counter_)                                                          \
	((struct edge_step){ .in = in_, .action = XDP_##action_, .counter = counter_ })
#define EDGE_P(...) ((const struct spec){ __VA_ARGS__ })

/* Runs them for IPv4 and for IPv6, and fails with the number of the one that went wrong. */
void edge_lab_steps(struct edge *edge, const struct edge_step *steps, size_t n);
#define EDGE_STEPS(edge, ...)                                                                      \
	edge_lab_steps(edge, (const struct edge_step[]){ __VA_ARGS__ },                            \
		       sizeof((const struct edge_step[]){ __VA_ARGS__ }) /                         \
			       sizeof(struct edge_step))

#endif
