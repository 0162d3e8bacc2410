/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * GET /v1/top: the busiest flows, endpoints or policies. Only when somebody asks: a worker walks
 * the flow tables (top_walk.c), and what it found is kept as long as somebody goes on asking, so
 * that the next answer has rates. Drops make no flow; they are counted from the flow log
 * (top_drops.c).
 */
#ifndef AGENT_TOP_H
#define AGENT_TOP_H

#include "agent.h"

#define TOP_MAX 256u /* rows */

enum top_what { TOP_FLOWS, TOP_ENDPOINTS, TOP_POLICIES, TOP_WHAT_COUNT };
enum top_sort { TOP_PACKETS, TOP_BYTES, TOP_DROPS, TOP_SORT_COUNT };

struct top_query {
	enum top_what what;
	enum top_sort sort;
	uint32_t n;
	char ns[64]; /* "": all namespaces */
};

/* From the arguments of a request (top_query.c); NULL: the default. -EINVAL with a sentence. */
int top_query_parse(struct top_query *out, const char *what, const char *sort, const char *n,
		    const char *ns, struct agent_error *err);

int top_new(struct top **out, struct agent *a);
/* Before the loop's last run. Those who wait are told that the agent stops. */
void top_free(struct top *t);

/* In the event loop. reply is the callee's, NULL after a failure. */
typedef void (*top_fn)(void *arg, json_t *reply, int res, const struct agent_error *err);
/* -ENOMEM. */
int top_ask(struct top *t, const struct top_query *query, top_fn done, void *arg);

/* ---- top_drops.c ------------------------------------------------------------------------------ */

struct top_drops;
int top_drops_new(struct top_drops **out, struct flow_log *log);
void top_drops_free(struct top_drops *d); /* NULL is fine */
/* Takes what is in the log since the last time. */
void top_drops_read(struct top_drops *d);
/* Counts from zero. */
void top_drops_clear(struct top_drops *d);
/*
 * {key: {drops, ...}}: flows by top_flow_key() with from, to, proto, reason; endpoints and
 * policies by "ns/name". Borrowed.
 */
const json_t *top_drops_by(const struct top_drops *d, enum top_what what);
#define TOP_KEY_LEN 160
void top_flow_key(char key[TOP_KEY_LEN], const char *from, const char *to, const char *proto,
		  unsigned int port);

/* ---- top_answer.c ----------------------------------------------------------------------------- */

struct walk;
/* The answer; drops NULL: none are known. NULL: out of memory. */
json_t *top_answer(struct agent *a, const struct top_query *q, const struct walk *w,
		   const struct top_drops *drops, double seconds);

#endif
