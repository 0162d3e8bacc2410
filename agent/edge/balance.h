/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The edge's balancer: from EdgeService objects to frontends, backends and Maglev tables
 * (docs/design/edge.md). It has a state of its own without any device; what is in the kernel
 * follows it while the edge is loaded. Backends that are gone, or drain, stay until their
 * connections are over or their time is.
 */
#ifndef AGENT_EDGE_BALANCE_H
#define AGENT_EDGE_BALANCE_H

#include <jansson.h>

#include "agent.h"
#include "edge.h"

struct balancer;

/* From the store's objects. */
int balancer_new(struct balancer **out, struct agent *a, char *err, size_t err_len);
/* Before the loop's last run. NULL is fine. */
void balancer_free(struct balancer *b);

/* What the program must be loaded with; added to *out. */
void balancer_settings(const struct balancer *b, struct tw_edge_settings *out);
/* The edge was loaded, with those settings; NULL: it is about to be closed. */
void balancer_edge(struct balancer *b, struct edge *edge);

/* Would these objects be taken? -errno with err, nothing is changed. */
int balancer_check(const struct agent *a, const struct agent_change *change,
		   struct agent_error *err);
/* They are in the store now. NULL is fine: it will read them when it begins. */
void balancer_changed(struct balancer *b);
/* Every second. */
void balancer_tick(struct balancer *b);

/* {services: [..], counters: {..}}: GET /v1/edge/balance. NULL: no memory. */
json_t *balancer_json(struct balancer *b);

#endif
