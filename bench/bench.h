/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * `./bench.sh datapath`: cost of a packet in the shipped programs. datapath.c has the options,
 * the table of cases and the output; fill.c the full tables; runs.c the test-run cases; live.c
 * those with real frames. The node and its packets are the tests' (tests/datapath/lab.h).
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <lab.h>

struct wrap_bpf;

#define BENCH_FLOWS 100000u /* entries in the flow table, per family */
#define BENCH_ENDPOINTS 10000u
#define BENCH_POLICY_ENTRIES 100000u
#define BENCH_PORTS 50000u /* source ports that a new flow may have */

struct bench {
	struct lab lab;
	struct wrap_bpf *wrap;
	const char *only;  /* --case */
	uint32_t flows;	   /* --flows */
	unsigned int runs; /* of which the best counts */
	bool json;
	int failed;	   /* cases that did not take their path */
	const char *wrong; /* the last of them */
};

/* What one case came to. */
struct result {
	const char *name;
	double ns;	 /* per packet, floor included */
	double floor_ns; /* the empty program in the same run; live cases: beside_ns */
	double goal_ns;	 /* one of both is enough; 0: none */
	double goal_ratio;
	double ratio; /* 0: to the floor; live cases: to beside, the median of rounds */
	double beside_ns;
	const char *beside;
	double routing_ns; /* live cases: plain routing */
	uint64_t packets;
	const char *note;
};

void result_print(struct bench *b, const struct result *r);
/* Counts a case whose counters do not say that every packet took the path. */
void bench_wrong(struct bench *b, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool bench_wanted(const struct bench *b, const char *name);

/* Fills tables to the sizes above; the endpoints A, B and C are the lab's. */
void fill_endpoints(struct bench *b);
void fill_policies(struct bench *b);
/* A's egress and B's ingress: TCP ports 1000 to 1099, only to each other, among many classes. */
void fill_own_policies(struct bench *b);

/* One batch under test-run: ns a packet as the kernel measured it. */
struct run {
	int prog_fd;
	enum via via;
	const struct frame *in;
	uint32_t repeat;
	int verdict; /* out: of the last packet */
	double ns;   /* out */
};
void run_once(struct bench *b, struct run *run);

/* Points the wrapper at a program, and at flow 0 of `flows` numbered ones. */
struct vary {
	uint32_t flows, ports, multiplier;
	bool spread;
};
void wrap_set(struct bench *b, int family, const struct spec *head, const struct vary *vary,
	      int target_fd);

void runs_all(struct bench *b);
void live_all(struct bench *b);

/* For threads beside the measured one: any CPU but its own. */
void cpu_unpin(void);

#endif
