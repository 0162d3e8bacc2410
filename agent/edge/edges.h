/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The edge of this node: devices, rules and lists (docs/design/edge.md). The store says which there
 * are; the text of a list is a file in state-dir/edge. Without a device nothing is loaded. What may
 * take long is done on a worker thread, one thing at a time; a single prefix, on the loop.
 */
#ifndef AGENT_EDGE_EDGES_H
#define AGENT_EDGE_EDGES_H

#include "agent.h"

struct edges;

/* Reads what is kept. */
int edges_new(struct edges **out, struct agent *a, char *err, size_t err_len);
/* Attaches to its devices, or takes over what an earlier agent attached; the balancer is there. */
void edges_start(struct edges *e);
/* Before the loop's last run, behind the balancer. NULL is fine. */
void edges_free(struct edges *e);
/*
 * Devices that came back, rules that are over, a balancer that needs other settings: every second,
 * and when one of these may have changed.
 */
void edges_look(struct edges *e);

/* Called once, later or at once, on the loop. json becomes the callee's; NULL on failure. */
typedef void (*edges_fn)(void *arg, json_t *json, int res, const struct agent_error *err);

/*
 * Calls of the API. 0: done() follows; else nothing has happened, and err says why.
 *
 * {device, mode: auto|native|generic, replace, force, client}
 */
int edges_attach(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err);
int edges_detach(struct edges *e, const char *device, edges_fn done, void *arg,
		 struct agent_error *err);
/* {action, rules: ["192.0.2.0/24 22/tcp", ..], remove, for_s, force, client} */
int edges_rules(struct edges *e, const json_t *body, edges_fn done, void *arg,
		struct agent_error *err);

#define EDGES_FOR_MAX (100 * 366 * 86400ll) /* seconds that a rule or list may hold */

/* A list: its text becomes the callee's, also on failure. */
struct edges_list {
	const char *action, *name;
	char *text; /* NULL: the list is taken away */
	size_t len;
	int64_t for_s; /* 0: for good */
	bool force;
	const char *client; /* SSH_CONNECTION of whoever asks; "" or NULL: none */
};
int edges_list(struct edges *e, struct edges_list *list, edges_fn done, void *arg,
	       struct agent_error *err);

/* Limits and SYN cookies; see limits_change(). */
int edges_limits(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err);
/* See limits_json(). NULL: no memory. */
json_t *edges_limits_json(const struct edges *e);

/* Who sends, by a sample: {time_ns, items: [{address, passed, dropped}]}. NULL: no memory. */
json_t *edges_sources(const struct edges *e);
/* {time_ns, devices, rules, reasons, table}: GET /v1/edge. NULL: no memory. */
json_t *edges_json(struct edges *e);
/* {devices, rules, lists, prefixes, packets, bytes}: in short, for the status. */
json_t *edges_summary(const struct edges *e);
/* Calls fn for each thing that is not as it should be. */
void edges_problems(const struct edges *e,
		    void (*fn)(void *arg, const char *what, const char *help, const char *text),
		    void *arg);
/* What would happen to a packet; answers on the loop, later. */
int edges_test(struct edges *e, const char *address, const char *port, edges_fn done, void *arg,
	       struct agent_error *err);

#endif
