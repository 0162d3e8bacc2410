/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Calls about the edge. A list comes as it is, not as JSON: it may have a million lines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/internal.h"
#include "edge/edges.h"

int edge_get(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(edges_json(call->agent->edges), reply, err);
}

int edge_sources_get(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(edges_sources(call->agent->edges), reply, err);
}

typedef int (*body_fn)(struct edges *e, const json_t *body, edges_fn done, void *arg,
		       struct agent_error *err);

static int with_json(struct call *call, body_fn fn, struct agent_error *err)
{
	json_t *body = NULL;
	int res = call_json(call, &body, err);

	if (!res)
		res = fn(call->agent->edges, body, call_answered, call, err);
	json_decref(body);
	return res ? res : -EINPROGRESS;
}

int edge_device_post(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_json(call, edges_attach, err);
}

int edge_device_delete(struct call *call, json_t **reply, struct agent_error *err)
{
	int res = edges_detach(call->agent->edges, call->parts[0], call_answered, call, err);

	return res ? res : -EINPROGRESS;
}

int edge_rules_post(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_json(call, edges_rules, err);
}

/* The text is the request's body, and becomes the list's. */
static int list_call(struct call *call, bool remove, struct agent_error *err)
{
	const char *for_s = call_argument(call, "for_s"), *force = call_argument(call, "force");
	char *end = NULL;
	struct edges_list list = {
		.action = call->parts[0],
		.name = call->parts[1],
		.for_s = for_s ? strtoll(for_s, &end, 10) : 0,
		.force = force && strcmp(force, "0"),
		.client = call_argument(call, "client"),
	};

	if (for_s && (end == for_s || *end || list.for_s < 0 || list.for_s > EDGES_FOR_MAX))
		return agent_refuse(err, AGENT_INVALID,
				    "for_s must be a number of seconds, at most %lld",
				    (long long)EDGES_FOR_MAX);
	if (!remove) {
		list.text = call->body ? call->body : calloc(1, 1);
		list.len = call->len;
		call->api->body_bytes -= call->room;
		call->body = NULL;
		call->len = call->room = 0;
		if (!list.text)
			return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	int res = edges_list(call->agent->edges, &list, call_answered, call, err);

	return res ? res : -EINPROGRESS;
}

int edge_list_put(struct call *call, json_t **reply, struct agent_error *err)
{
	return list_call(call, false, err);
}

int edge_list_delete(struct call *call, json_t **reply, struct agent_error *err)
{
	return list_call(call, true, err);
}

int edge_limits_get(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(edges_limits_json(call->agent->edges), reply, err);
}

int edge_limits_post(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_json(call, edges_limits, err);
}

int edge_test_get(struct call *call, json_t **reply, struct agent_error *err)
{
	int res = edges_test(call->agent->edges, call_argument(call, "address"),
			     call_argument(call, "port"), call_answered, call, err);

	return res ? res : -EINPROGRESS;
}
