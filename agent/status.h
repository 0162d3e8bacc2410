/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Answers of the API about the present state. NULL: out of memory. */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include "agent.h"

json_t *status_json(struct agent *a);
json_t *status_identities(struct agent *a);
json_t *status_endpoints(struct agent *a);

/* The question of /v1/explain, as text; port NULL: none. */
struct explain_query {
	const char *from;
	const char *to;
	const char *proto;
	const char *port;
};
int explain_json(struct agent *a, const struct explain_query *query, json_t **reply,
		 struct agent_error *err);

/* The answer to /v1/coverage; ns NULL: all namespaces. */
json_t *status_coverage(struct agent *a, const char *ns);

#endif
