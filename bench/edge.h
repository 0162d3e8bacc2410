/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * `./bench.sh edge`: cost of a frame in the shipped XDP program. edge.c has the options, the runs
 * and the output; edge_balance.c the cases of the balancer, edge_filter.c those of the filter,
 * edge_limit.c those of limits and SYN cookies.
 */
#ifndef BENCH_EDGE_H
#define BENCH_EDGE_H

#include <edge_balance_lab.h>

struct edge_wrap_bpf;

struct edge_bench {
	struct edge_wrap_bpf *wrap;
	const char *only; /* --case */
	unsigned int runs;
	bool json;
	int failed; /* cases that did not take their path */
};

struct edge_case {
	const char *name;
	int prog_fd;
	int family;
	const struct spec *frame;
	const struct frame *built; /* instead of frame; NULL: none */
	uint32_t flows;		   /* random ones, a power of two; 0: one */
	bool grows;		   /* it puts a header in front */
	uint32_t action;	   /* what must become of it */
	double goal_ns;		   /* one of both is enough; 0: none */
	double goal_ratio;	   /* to the empty program */
	const char *note;
	/* `flows` source addresses instead, the first so many of bench_addrs. */
	bool sources;
	/* Another program that is measured in the same runs; -1 or no name: none. */
	int beside_fd;
	const char *beside;
};

bool edge_case_wanted(const struct edge_bench *b, const char *name);
/* Runs it and prints the line. */
void edge_case_run(struct edge_bench *b, const struct edge_case *c);

void edge_balance_cases(struct edge_bench *b);
void edge_filter_cases(struct edge_bench *b);
void edge_limit_cases(struct edge_bench *b);

#endif
