/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A node to run the shipped programs on, packet by packet: a network namespace of this
 * process's own with three ports, two uplinks and routes, the real maps, and BPF_PROG_TEST_RUN.
 *
 *   A, B, C (ports twa, twb, twc)   NODE up0 -- ROUTER -- OUTSIDE, OUTSIDE2, KEPT
 *                                  NODE2 up1
 *
 * Slots of A, B, C are their numbers in enum place; identities are LAB_IDENTITY + place.
 */
#ifndef TESTS_DATAPATH_LAB_H
#define TESTS_DATAPATH_LAB_H

#include <datapath.h>
#include <linux/bpf.h>

#include "frame.h"

#define LAB_IDENTITY 1000u
#define LAB_MTU 1500u

/* What tc makes of a packet (linux/pkt_cls.h); PASS is TCX_NEXT: on to the host's stack. */
enum { PASS = -1, DROP = 2, REDIRECTED = 7 };

/* Which hook a packet meets, and how it came there. */
enum via {
	FROM_A, /* sent by the container */
	FROM_B,
	FROM_C,
	TO_A, /* made by the node for the container */
	TO_B,
	UP_TO_A, /* came in by the first uplink, forwarded by the host's stack */
	B_TO_A,	 /* sent by B, forwarded by the host's stack */
	UP,	 /* came in by the first uplink */
	UP2,	 /* ... the second */
	VIAS
};

struct lab {
	struct datapath *dp;
	uint32_t port[C + 1]; /* ifindex; by place */
	uint32_t peer[C + 1];
	uint32_t uplink[2];
	uint32_t next_version, next_set;
	uint32_t max_flows;
	uint16_t snat; /* SNAT_PORT of the present test */
};

struct lab_options {
	uint32_t max_flows; /* 0: 1024 */
	uint16_t snat_first, snat_last;
	bool outside_stack;
	uint32_t max_peers; /* 0: enough for tests, as the next ones */
	uint32_t max_classes;
	uint32_t max_versions;
	uint32_t max_pages;
	uint32_t max_prefixes6;
};

/* For what the lab itself needs: without it neither a test nor a bench has anything to say. */
#define must(cond) ((cond) ? (void)0 : lab_die(__FILE__, __LINE__, #cond))
_Noreturn void lab_die(const char *file, int line, const char *what);

/* Moves this process into a namespace of its own and builds the node; once a process. */
void lab_netns(void);
/* Loads the programs and fills the maps: everybody may talk to everybody. Asserts on failure. */
void lab_open(struct lab *lab, const struct lab_options *opts);
void lab_close(struct lab *lab);
/* No flows, no policies, the endpoints and uplinks as after lab_open(). */
void lab_reset(struct lab *lab);

/* What a skb says about a packet that came this way; returns the hook it meets. */
enum tw_hook lab_context(const struct lab *lab, enum via via, struct __sk_buff *ctx);
extern const char *const lab_programs[TW_HOOK_COUNT];

struct lab_counts {
	uint64_t drops[TW_REASON_COUNT];
	uint64_t counter[TW_COUNTER_COUNT];
};
void lab_counts_read(struct lab *lab, struct lab_counts *out);

/* One packet's fate. */
struct outcome {
	int verdict;
	enum tw_reason reason; /* OK when no drop was counted */
	uint32_t drops;	       /* drops counted, over all reasons */
	int64_t inserts;       /* TW_COUNTER_INSERTS, and so on */
	int64_t redecisions;
	int64_t icmp_sent;
	struct frame out;
};

struct run_options {
	uint32_t gso_size;
	uint32_t repeat;	/* 0: 1 */
	bool checksum_complete; /* the skb carries CHECKSUM_COMPLETE, which must stay true */
};

void lab_run(struct lab *lab, enum via via, const struct frame *in, const struct run_options *opts,
	     struct outcome *out);
/* The same from a spec. */
void lab_send(struct lab *lab, int family, enum via via, const struct spec *spec,
	      struct outcome *out);

/* One step of a table: what is sent where, and what must become of it. */
struct step {
	enum via via;
	struct spec in;
	int verdict;
	enum tw_reason reason;
	/*
	 * The packet that must come out; NULL: not compared. Its source port 0 means "a port of
	 * the SNAT range", which is kept for the replies of this test: SNAT_PORT.
	 */
	const struct spec *out;
	uint32_t entries; /* that this packet makes in the flow table */
};

/* As sport or dport of a later step's spec: the port that an earlier step was translated to. */
#define SNAT_PORT 1

/*
 * How tables are written:
 *
 *	STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
 *	STEP(FROM_A, P(TCP, A, EMPTY, 4000, 80, SYN), DROPPED(NO_ENDPOINT)),
 *	STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63)),
 */
#define P(...) ((const struct spec){ __VA_ARGS__ })
#define STEP(via_, in_, ...) ((struct step){ .via = via_, .in = in_, __VA_ARGS__ })
#define DROPPED(r) .verdict = DROP, .reason = TW_REASON_##r
#define REDIRECT .verdict = REDIRECTED
#define OUT(...) REDIRECT, .out = &P(__VA_ARGS__)
#define TO_STACK .verdict = PASS

/* Runs the steps one after another and fails with the number of the one that went wrong. */
void lab_steps(struct lab *lab, int family, const struct step *steps, size_t n);
#define LAB_STEPS(lab, family, ...)                                                                \
	lab_steps(lab, family, (const struct step[]){ __VA_ARGS__ },                               \
		  sizeof((const struct step[]){ __VA_ARGS__ }) / sizeof(struct step))

/* ---- policy ------------------------------------------------------------------------------ */

struct allow {
	enum tw_direction dir;
	enum place peer; /* NOWHERE: everybody */
	enum what what;
	uint16_t port;
};

#define ISOLATE_INGRESS 1u
#define ISOLATE_EGRESS 2u

/* Makes a policy version; returns its number. */
uint32_t lab_version(struct lab *lab, unsigned int isolate, const struct allow *allow, size_t n);
/* ... and switches the endpoint to it, the way the agent does. */
void lab_policy(struct lab *lab, enum place place, unsigned int isolate, const struct allow *allow,
		size_t n);
#define ALLOW(dir_, peer_, what_, port_) ((struct allow){ dir_, peer_, what_, port_ })
#define LAB_POLICY(lab, place, isolate, ...)                                                       \
	lab_policy(lab, place, isolate, (const struct allow[]){ __VA_ARGS__ },                     \
		   sizeof((const struct allow[]){ __VA_ARGS__ }) / sizeof(struct allow))
/* Back to "everything passes". */
void lab_policy_none(struct lab *lab, enum place place);

void lab_endpoint(const struct lab *lab, enum place place, struct tw_endpoint *out);

/* ---- the flow table ------------------------------------------------------------------------ */

/* The entry under a tuple, and which half is this tuple's direction: 0 or -ENOENT. */
int lab_flow_get(struct lab *lab, const struct tw_tuple *t, struct tw_flow *out, unsigned int *dir);
void lab_flow_set(struct lab *lab, const struct tw_tuple *t, const struct tw_flow *flow);
int lab_flow_del(struct lab *lab, const struct tw_tuple *t);
uint32_t lab_flow_count(struct lab *lab, int family);
void lab_flows_clear(struct lab *lab, int family);

/* Throws away the events so far. */
void lab_events_drain(struct lab *lab);
/* The first event of that type in the ring; the others are thrown away. 0 or -ENOENT. */
int lab_event(struct lab *lab, enum tw_event_type type, struct tw_event *out);

uint64_t lab_counter(struct lab *lab, enum tw_counter counter);
/* Packets dropped for this reason so far, at all hooks. */
uint64_t lab_drops(struct lab *lab, enum tw_reason reason);

/* ---- registration --------------------------------------------------------------------------- */

struct lab_test {
	const char *name;
	void (*run)(struct lab *lab, int family);
};
#define LAB_TEST(fn) { #fn, fn }

/* Runs every test for IPv4 and for IPv6, each on a lab that was reset; cmocka's result. */
int lab_main(const char *group, const struct lab_options *opts, const struct lab_test *tests,
	     size_t n);

#endif
