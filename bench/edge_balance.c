/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer: 100 backends behind a frontend of each family. */
#include <linux/bpf.h>
#include <stdio.h>

#include "edge.h"

#define BACKENDS 100u
#define MILLION 1048576u

static const struct spec syn = { TCP, OUTSIDE, NODE, 4000, 80, SYN, .payload = 20 };
static const struct spec established = { TCP, OUTSIDE, NODE, 4000, 80, ACK, .payload = 20 };
static const struct spec other = { TCP, OUTSIDE, NODE2, 4000, 80, ACK, .payload = 20 };

static void backends(struct balance_lab *lab, enum tw_edge_way way, int family, uint8_t flags)
{
	void *state = lab;

	balance_setup(&state);
	balance_front(lab, TCP, 80, flags);
	for (uint32_t i = 0; i < BACKENDS; i++)
		balance_backend(lab, &(struct backend_spec){ way, family });
	balance_turn(lab, 0);
}

static void run(struct edge_bench *b, struct balance_lab *lab, const char *name, int family,
		const struct spec *frame, uint32_t flows, double goal, const char *note)
{
	const struct edge_case c = {
		.name = name,
		.prog_fd = edge_prog_fd(lab->edge),
		.family = family,
		.frame = frame,
		.flows = flows,
		.grows = frame != &other && lab->fronts[0].flags != TW_EDGE_FRONT_NAT,
		.action = frame == &other ? XDP_PASS : XDP_TX,
		.goal_ns = goal,
		.note = note,
	};

	if (edge_case_wanted(b, name))
		edge_case_run(b, &c);
}

void edge_balance_cases(struct edge_bench *b)
{
	struct balance_lab *lab;
	struct edge_outcome got;
	void *state = NULL;

	balance_group_setup(&state);
	lab = state;
	backends(lab, TW_EDGE_WAY_IPIP, 4, 0);
	run(b, lab, "balance_established", 4, &established, 0, 100,
	    "IPv4 in IPv4, 100 backends (Katran 125 to 200)");
	run(b, lab, "balance_1m_flows", 4, &established, MILLION, 400,
	    "a million flows in random order (Katran 312 to 570)");
	run(b, lab, "balance_flood", 4, &syn, MILLION, 0, "the same, SYNs: nothing is remembered");
	run(b, lab, "balance_not_ours", 4, &other, 0, 0, "a frame that is for no frontend");
	run(b, lab, "balance_6in4", 6, &established, 0, 0, "IPv6 in IPv4");
	/* A backend less: a hundredth of the entries are open, and this flow's is not or is. */
	for (size_t i = 0; i < lab->n_backends; i++)
		lab->backends[i].weight = i % 2;
	balance_turn(lab, 0);
	run(b, lab, "balance_changing", 4, &established, 65536, 0,
	    "65 536 flows, half of the backends gone, all remembered");
	backends(lab, TW_EDGE_WAY_GUE, 4, 0);
	run(b, lab, "balance_gue", 4, &established, 0, 0, "IPv4 in UDP over IPv4");
	backends(lab, TW_EDGE_WAY_IPIP, 6, 0);
	run(b, lab, "balance_6in6", 6, &established, 0, 0, "IPv6 in IPv6");
	backends(lab, TW_EDGE_WAY_NAT, 4, TW_EDGE_FRONT_NAT);
	balance_send(lab, 4, &syn, &got);
	run(b, lab, "balance_nat", 4, &established, 0, 0, "translated, one flow");
	balance_group_teardown(&state);
}
