/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which request is which call of agent.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/internal.h"
#include "edge/balance.h"
#include "past.h"
#include "remover.h"
#include "status.h"
#include "top.h"
#include "tracer.h"

#define APPLY_MAX (64u << 20)
#define BODY_MAX (1u << 20)
#define PROGRAM_MAX (6u << 20) /* an object file in base64, and where it goes */

/*
 * A value takes some 60 bytes in memory, and two in a request. 87 000 files are more than anybody
 * applies at once.
 */
#define VALUES_MAX (1u << 18)

/* Whether the text has more values than a request may, counted by what stands between them. */
static bool values_exceed(const char *text, size_t len)
{
	bool string = false;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			string = !string;
		else if (string)
			i += text[i] == '\\';
		else if (text[i] == ',' || text[i] == '[' || text[i] == '{')
			n++;
	}
	return n > VALUES_MAX;
}

int call_json(struct call *call, json_t **out, struct agent_error *err)
{
	json_error_t e;

	if (values_exceed(call->body, call->len))
		return agent_refuse(err, AGENT_INVALID,
				    "the request has more than %u values; send it in parts",
				    VALUES_MAX);
	json_t *json = json_loadb(call->body ? call->body : "", call->len, 0, &e);

	if (!json)
		return agent_refuse(err, AGENT_INVALID, "the request is not JSON: %s (line %d)",
				    e.text, e.line);
	/* It is in the JSON now; a large request need not be held twice. */
	free(call->body);
	call->api->body_bytes -= call->room;
	call->body = NULL;
	call->len = call->room = 0;
	*out = json;
	return 0;
}

/* Files of a request; their strings are the JSON's. */
static int body_files(const json_t *body, struct agent_file **out, size_t *n, bool *dry_run,
		      struct agent_error *err)
{
	const json_t *files = json_object_get(body, "files");
	const json_t *file;
	size_t i;

	if (!json_is_array(files))
		return agent_refuse(err, AGENT_INVALID, "the request needs files (a list)");
	struct agent_file *v = calloc(json_array_size(files) + 1, sizeof(*v));
	if (!v)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	json_array_foreach(files, i, file) {
		const json_t *text = json_object_get(file, "text");

		v[i].name = json_string_value(json_object_get(file, "name"));
		v[i].text = json_string_value(text);
		v[i].len = json_string_length(text);
		if (v[i].name && v[i].text)
			continue;
		free(v);
		return agent_refuse(err, AGENT_INVALID, "files[%zu] needs name and text (strings)",
				    i);
	}
	*out = v;
	*n = json_array_size(files);
	*dry_run = json_is_true(json_object_get(body, "dry_run"));
	return 0;
}

typedef int (*files_fn)(struct agent *a, const struct agent_file *files, size_t n,
			const struct agent_dry_run *dry_run, json_t **reply,
			struct agent_error *err);

/* A dry run that waits for the flow history. */
struct dry_call {
	struct call *call;
	files_fn fn;
	json_t *body; /* the files' strings are in it */
	struct agent_file *files;
	size_t n;
};

static void dry_call_free(struct dry_call *d)
{
	free(d->files);
	json_decref(d->body);
	free(d);
}

static void dry_call_run(void *arg, int res, const struct flow_past *past, size_t n_past)
{
	const struct agent_dry_run dry_run = { past, n_past };
	struct dry_call *d = arg;
	struct agent_error err = {};
	json_t *reply = NULL;

	if (res == -EAGAIN)
		res = agent_refuse(&err, AGENT_NOT_READY,
				   "the agent is stopping; try again once it runs");
	else if (res)
		res = agent_refuse(&err, AGENT_INTERNAL, "out of memory");
	else
		res = d->fn(d->call->agent, d->files, d->n, &dry_run, &reply, &err);
	call_finish(d->call, reply, res, &err);
	dry_call_free(d);
}

static int with_files(struct call *call, files_fn fn, json_t **reply, struct agent_error *err)
{
	struct dry_call *d = calloc(1, sizeof(*d));
	bool dry_run = false;
	int res = d ? call_json(call, &d->body, err)
		    : agent_refuse(err, AGENT_INTERNAL, "out of memory");

	if (!res)
		res = body_files(d->body, &d->files, &d->n, &dry_run, err);
	if (!res && dry_run) {
		d->call = call;
		d->fn = fn;
		if (!past_ask(call->agent, dry_call_run, d))
			return -EINPROGRESS;
		res = agent_refuse(err, AGENT_INTERNAL, "out of memory");
	} else if (!res) {
		res = fn(call->agent, d->files, d->n, NULL, reply, err);
	}
	if (d)
		dry_call_free(d);
	return res;
}

static int do_apply(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_files(call, agent_apply, reply, err);
}

static int do_delete(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_files(call, agent_delete, reply, err);
}

/* ---- objects ---------------------------------------------------------------------------------- */

static int kind_of(const char *text, enum object_kind *kind, struct agent_error *err)
{
	if (object_kind_parse(text, kind))
		return agent_refuse(err, AGENT_INVALID,
				    "'%.64s' is no kind; take pods, namespaces, networkpolicies, "
				    "edgeservices or edgedecaps",
				    text);
	return 0;
}

/* Kind, namespace and name in the path; the namespace of a Namespace is "-". */
static int named_object(const struct call *call, enum object_kind *kind, const char **ns,
			struct agent_error *err)
{
	int res = kind_of(call->parts[0], kind, err);

	if (!res)
		*ns = *kind == OBJECT_NAMESPACE || !strcmp(call->parts[1], "-") ? ""
										: call->parts[1];
	return res;
}

static int do_object_delete(struct call *call, json_t **reply, struct agent_error *err)
{
	enum object_kind kind;
	const char *ns;
	int res = named_object(call, &kind, &ns, err);

	return res ? res : agent_delete_one(call->agent, kind, ns, call->parts[2], reply, err);
}

static int do_object_get(struct call *call, json_t **reply, struct agent_error *err)
{
	struct store *store = call->agent->store;
	enum object_kind kind;
	const char *ns;
	char *text = NULL;
	int res = named_object(call, &kind, &ns, err);

	if (res)
		return res;
	res = store_object_json(store, kind, ns, call->parts[2], &text);
	if (res == -ENOENT)
		return agent_refuse(err, AGENT_NOT_FOUND, "there is no %s %.63s%s%.253s",
				    object_kind_name(kind), ns, *ns ? "/" : "", call->parts[2]);
	if (res)
		return agent_refuse_errno(err, res, store_error(store));
	call->queue_result = call_reply_text(call, MHD_HTTP_OK, text, strlen(text));
	call->queued = true;
	return 0;
}

static int append_item(void *arg, const char *json)
{
	FILE *out = arg;

	if (fprintf(out, "%s%s", ftell(out) > (long)strlen("{\"items\":[") ? "," : "", json) < 0)
		return -ENOMEM;
	return 0;
}

/* As text: the stored JSON is the answer's, so it is not parsed for it. */
static int do_object_list(struct call *call, json_t **reply, struct agent_error *err)
{
	struct store *store = call->agent->store;
	enum object_kind kind;
	char *text = NULL;
	size_t len = 0;
	int res = kind_of(call->parts[0], &kind, err);

	if (res)
		return res;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	fputs("{\"items\":[", out);
	res = store_json_each(store, kind, call_argument(call, "namespace"), append_item, out);
	fputs("]}", out);
	if (fclose(out) && !res)
		res = -ENOMEM;
	if (res) {
		free(text);
		return agent_refuse_errno(err, res, store_error(store));
	}
	call->queue_result = call_reply_text(call, MHD_HTTP_OK, text, len);
	call->queued = true;
	return 0;
}

/* ---- state ------------------------------------------------------------------------------------ */

int call_answer(json_t *json, json_t **reply, struct agent_error *err)
{
	*reply = json;
	return json ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

static int do_status(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(status_json(call->agent), reply, err);
}

static int do_identities(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(status_identities(call->agent), reply, err);
}

static int do_coverage(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(status_coverage(call->agent, call_argument(call, "namespace")), reply,
			   err);
}

static int do_explain(struct call *call, json_t **reply, struct agent_error *err)
{
	const struct explain_query query = {
		.from = call_argument(call, "from"),
		.to = call_argument(call, "to"),
		.proto = call_argument(call, "proto"),
		.port = call_argument(call, "port"),
	};

	return explain_json(call->agent, &query, reply, err);
}

void call_answered(void *arg, json_t *json, int res, const struct agent_error *err)
{
	call_finish(arg, json, res, err);
}

static int do_trace(struct call *call, json_t **reply, struct agent_error *err)
{
	json_t *body = NULL;
	int res = call_json(call, &body, err);

	if (!res)
		res = tracer_ask(call->agent->tracer, body, call_answered, call, err);
	json_decref(body);
	return res ? res : -EINPROGRESS;
}

static int do_top(struct call *call, json_t **reply, struct agent_error *err)
{
	struct top_query query;
	int res = top_query_parse(&query, call_argument(call, "what"), call_argument(call, "sort"),
				  call_argument(call, "n"), call_argument(call, "namespace"), err);

	if (res)
		return res;
	if (top_ask(call->agent->top, &query, call_answered, call))
		return agent_refuse(err, AGENT_NOT_READY,
				    "too many are watching already; try again");
	return -EINPROGRESS;
}

/* ---- endpoints -------------------------------------------------------------------------------- */

static int do_endpoints(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(status_endpoints(call->agent), reply, err);
}

typedef int (*body_fn)(struct agent *a, const json_t *body, json_t **reply,
		       struct agent_error *err);

static int with_body(struct call *call, body_fn fn, json_t **reply, struct agent_error *err)
{
	json_t *body = NULL;
	int res = call_json(call, &body, err);

	if (!res)
		res = fn(call->agent, body, reply, err);
	json_decref(body);
	return res;
}

static int do_endpoint_add(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_body(call, agent_endpoint_add, reply, err);
}

static int do_endpoint_gc(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_body(call, agent_endpoint_gc, reply, err);
}

static void endpoint_gone(void *arg, int res, const struct agent_error *err)
{
	call_finish(arg, NULL, res, err);
}

static int do_endpoint_del(struct call *call, json_t **reply, struct agent_error *err)
{
	struct agent *a = call->agent;
	struct endpoint *ep = slots_find(a->slots, call->parts[0], call->parts[1]);

	if (!ep)
		return call_answer(json_object(), reply, err);
	if (remover_add(a->remover, ep, endpoint_gone, call))
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	return -EINPROGRESS;
}

static int do_endpoint_get(struct call *call, json_t **reply, struct agent_error *err)
{
	const char *check = call_argument(call, "check");

	return agent_endpoint_get(call->agent, call->parts[0], call->parts[1],
				  check && strcmp(check, "0"), reply, err);
}

/* ---- the table -------------------------------------------------------------------------------- */

static int do_balance(struct call *call, json_t **reply, struct agent_error *err)
{
	if (!call->agent->balancer)
		return agent_refuse(err, AGENT_NOT_READY, "the balancer has not begun yet");
	*reply = balancer_json(call->agent->balancer);
	return *reply ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

static const struct route routes[] = {
	{ "GET", "/v1/status", 0, do_status },
	{ "POST", "/v1/apply", APPLY_MAX, do_apply },
	{ "POST", "/v1/delete", APPLY_MAX, do_delete },
	{ "GET", "/v1/objects/*", 0, do_object_list },
	{ "GET", "/v1/objects/*/*/*", 0, do_object_get },
	{ "DELETE", "/v1/objects/*/*/*", 0, do_object_delete },
	{ "GET", "/v1/identities", 0, do_identities },
	{ "GET", "/v1/endpoints", 0, do_endpoints },
	{ "POST", "/v1/endpoints", BODY_MAX, do_endpoint_add },
	{ "POST", "/v1/endpoints/gc", BODY_MAX, do_endpoint_gc },
	{ "GET", "/v1/endpoints/*/*", 0, do_endpoint_get },
	{ "DELETE", "/v1/endpoints/*/*", 0, do_endpoint_del },
	{ "GET", "/v1/flows", 0, stream_open },
	{ "GET", "/v1/explain", 0, do_explain },
	{ "GET", "/v1/top", 0, do_top },
	{ "GET", "/v1/coverage", 0, do_coverage },
	{ "POST", "/v1/trace", BODY_MAX, do_trace },
	{ "GET", "/v1/edge/balance", 0, do_balance },
	{ "GET", "/v1/hooks", 0, programs_list_hooks },
	{ "GET", "/v1/program-stats", 0, programs_get_stats },
	{ "GET", "/v1/programs", 0, programs_list },
	{ "POST", "/v1/programs", PROGRAM_MAX, programs_post },
	{ "GET", "/v1/programs/*", 0, programs_get },
	{ "PUT", "/v1/programs/*", PROGRAM_MAX, programs_put },
	{ "DELETE", "/v1/programs/*", 0, programs_delete },
	{ "GET", "/v1/edge", 0, edge_get },
	{ "GET", "/v1/edge/sources", 0, edge_sources_get },
	{ "POST", "/v1/edge/devices", BODY_MAX, edge_device_post },
	{ "DELETE", "/v1/edge/devices/*", 0, edge_device_delete },
	{ "POST", "/v1/edge/rules", BODY_MAX, edge_rules_post },
	{ "PUT", "/v1/edge/lists/*/*", APPLY_MAX, edge_list_put },
	{ "DELETE", "/v1/edge/lists/*/*", 0, edge_list_delete },
	{ "GET", "/v1/edge/limits", 0, edge_limits_get },
	{ "POST", "/v1/edge/limits", BODY_MAX, edge_limits_post },
	{ "GET", "/v1/edge/test", 0, edge_test_get },
};

/* Whether path has the form of the pattern. */
static bool route_matches(const char *pattern, const char *path)
{
	while (*pattern) {
		if (*pattern == '*') {
			size_t len = strcspn(path, "/");

			if (!len)
				return false;
			path += len;
			pattern++;
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return !*path;
}

/* Cuts the path into the parts that stars stand for. */
static void route_cut(const char *pattern, struct call *call)
{
	char *path = call->path;
	size_t n = 0;

	for (; *pattern; pattern++) {
		if (*pattern != '*') {
			path++;
			continue;
		}
		call->parts[n++] = path;
		path += strcspn(path, "/");
	}
	for (size_t i = 0; i < n; i++)
		((char *)call->parts[i])[strcspn(call->parts[i], "/")] = '\0';
}

const struct route *route_find(const char *method, struct call *call, unsigned int *status)
{
	*status = MHD_HTTP_NOT_FOUND;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!route_matches(routes[i].path, call->path))
			continue;
		if (!strcmp(routes[i].method, method)) {
			route_cut(routes[i].path, call);
			return &routes[i];
		}
		*status = MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	return NULL;
}
