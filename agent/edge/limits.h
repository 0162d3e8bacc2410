/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Limits and SYN cookies that this node's edge has (docs/design/edge.md): what is configured, as the
 * store keeps it and as the API shows and changes it. Puts it into a loaded edge; loads none.
 */
#ifndef AGENT_EDGE_LIMITS_H
#define AGENT_EDGE_LIMITS_H

#include <jansson.h>

#include "agent.h"
#include "edge_limit.h"

/* All of it, by value: a change makes another one of it. Free places have id 0, or last 0. */
struct limits {
	struct edge_limit limit[TW_EDGE_LIMITS];
	struct edge_cookies cookies[TW_EDGE_COOKIE_PORTS];
	enum tw_edge_cookie_mode mode; /* how listeners take cookies; OFF: what the kernel offers */
};

/* One item of the store, by its key "limit/PLACE", "cookies/PLACE"; -EINVAL: not understood. */
int limits_load(struct limits *l, const char *key, const char *text);
/* The difference between two states, in one transaction. */
int limits_store(struct store *s, const struct limits *before, const struct limits *after);

/*
 * {add: [limit..], remove: [number..] or "all", cookies: [{first, last, above}..],
 * cookies_remove: [{first, last}..], cookies_by: assign|kernel|auto} to *l; on failure it is
 * as it was.
 */
int limits_change(struct limits *l, const json_t *body, struct agent_error *err);

/* Is anything to be asked? Of that the program's settings follow. */
void limits_settings(const struct limits *l, struct tw_edge_settings *out);
/*
 * Puts l in force; `before` says which places are new (NULL: all are). Where cookies cannot be had,
 * the rest is in force and the sentence in why; "" else. Takes some ms. -errno with err.
 */
int limits_apply(struct edge *edge, const struct limits *before, const struct limits *l,
		 char why[256], char *err, size_t err_len);

/* {limits: [..], cookies: [..], cookies_by, why}; edge NULL: without counts. NULL: no memory. */
json_t *limits_json(const struct limits *l, const struct edge *edge, const char *why);

#endif
