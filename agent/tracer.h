/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * POST /v1/trace: one packet through the programs, step by step (lib/trace.h). tracer.c: the
 * question, the worker thread, and the second load, kept for some seconds for the next
 * question; tracer_steps.c: what came out, in words.
 */
#ifndef AGENT_TRACER_H
#define AGENT_TRACER_H

#include "agent.h"
#include "ends.h"
#include "trace.h"

struct tracer;

/* In the event loop; json is the callee's to free, NULL with an error. */
typedef void (*tracer_fn)(void *arg, json_t *json, int res, const struct agent_error *err);

int tracer_new(struct tracer **out, struct agent *a);
/* Before the loop's last run and datapath_close(). Those who wait are told. NULL is fine. */
void tracer_free(struct tracer *t);
/* The body of the call. -errno: the question is refused, and done is not called. */
int tracer_ask(struct tracer *t, const json_t *body, tracer_fn done, void *arg,
	       struct agent_error *err);

/* One question and what became of it. */
struct tracer_job {
	struct end end[2]; /* .ep is not to be followed once the worker has begun */
	const struct transport *transport;
	struct trace_spec spec;
	struct trace_packet packet;
	struct trace_result result;
	struct datapath_decision policy[2]; /* enum tw_direction */
	bool asked[2];
};

/* The reply. NULL: no memory. */
json_t *tracer_reply(struct agent *a, const struct tracer_job *job);

#endif
