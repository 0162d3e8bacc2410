/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* GET /v1/flows: the flow log as JSON lines, to its end or as it grows. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "api/internal.h"
#include "tick.h"

#define STREAMS_MAX 32u
#define STREAM_BLOCK 4096u

struct stream {
	struct api *api;
	struct MHD_Connection *connection;
	struct flow_reader *reader;
	uv_work_t load;
	bool loading; /* a worker has the reader */
	bool closed;  /* ... and this goes when it is through */
	bool suspended;
	bool gone; /* the client has closed its end */
	struct stream *prev, *next;
};

struct query {
	struct flow_filter *filter;
	struct flow_reading how;
	bool last_given;
	int res;
	struct agent_error *err;
};

static enum MHD_Result query_read(void *arg, enum MHD_ValueKind kind, const char *key,
				  const char *value)
{
	struct query *q = arg;
	char why[256] = "";
	char *end;

	value = value ? value : "";
	if (!strcmp(key, "follow")) {
		q->how.follow = strcmp(value, "0") != 0;
		return MHD_YES;
	}
	if (!strcmp(key, "last") || !strcmp(key, "after")) {
		unsigned long long n = strtoull(value, &end, 10);

		if (*key == 'a')
			q->how.after = n;
		else
			q->how.last = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
		q->last_given |= *key == 'l';
		if (*value && *value != '-' && !*end)
			return MHD_YES;
		q->res = agent_refuse(q->err, AGENT_INVALID, "%.8s must be a number, not '%.32s'",
				      key, value);
		return MHD_NO;
	}
	q->res = flow_filter_set(q->filter, key, value, why, sizeof(why));
	if (!q->res)
		return MHD_YES;
	if (q->res == -ENOENT)
		q->res = agent_refuse(q->err, AGENT_INVALID, "flows cannot be filtered by '%.32s'",
				      key);
	else
		q->res = agent_refuse_errno(q->err, q->res, why);
	return MHD_NO;
}

static void load_run(uv_work_t *work)
{
	const struct stream *s = work->data;

	flow_reader_load(s->reader);
}

static void stream_free(struct stream *s)
{
	flow_reader_free(s->reader);
	free(s);
}

static void load_done(uv_work_t *work, int status)
{
	struct stream *s = work->data;

	s->loading = false;
	if (s->closed)
		stream_free(s);
	else
		api_wake(s->api);
}

static ssize_t stream_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct stream *s = arg;

	if (s->gone || s->loading)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	int n = flow_reader_fill(s->reader, buf, max);
	if (n > 0)
		return n;
	if (n == -ENODATA)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n < 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (flow_reader_wants(s->reader) && flow_reader_ready(s->reader)) {
		s->load.data = s;
		s->loading = !uv_queue_work(&s->api->agent->loop, &s->load, load_run, load_done);
	}
	s->suspended = true;
	MHD_suspend_connection(s->connection);
	return 0;
}

void stream_close(struct stream *s)
{
	DL_DELETE(s->api->streams, s);
	s->api->n_streams--;
	s->closed = true;
	if (!s->loading)
		stream_free(s);
}

/* The server does not look at a connection that is suspended. */
static bool client_gone(const struct stream *s)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(s->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct pollfd fd = { .fd = info->connect_fd, .events = POLLRDHUP };

	return poll(&fd, 1, 0) > 0;
}

void streams_resume(struct api *api, bool all)
{
	struct stream *s;

	for (s = api->streams; s; s = s->next) {
		if (!s->suspended || (s->loading && !all))
			continue;
		s->gone = client_gone(s);
		if (!all && !s->gone && !flow_reader_ready(s->reader))
			continue;
		s->suspended = false;
		MHD_resume_connection(s->connection);
	}
}

static struct stream *stream_new(struct call *call, struct flow_reader *reader)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->api = call->api;
	s->connection = call->connection;
	s->reader = reader;
	DL_APPEND(call->api->streams, s);
	call->api->n_streams++;
	call->stream = s;
	guest_streams(s->api, s->connection);
	return s;
}

int stream_open(struct call *call, json_t **reply, struct agent_error *err)
{
	struct query q = { .err = err };
	struct flow_reader *reader = NULL;

	if (call->api->n_streams >= STREAMS_MAX)
		return agent_refuse(err, AGENT_NOT_READY,
				    "%u clients are reading flows already; end one of them",
				    STREAMS_MAX);
	if (flow_filter_new(&q.filter))
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	MHD_get_connection_values(call->connection, MHD_GET_ARGUMENT_KIND, query_read, &q);
	if (q.res) {
		flow_filter_free(q.filter);
		return q.res;
	}
	if (!q.last_given)
		q.how.last = q.how.follow ? 0 : UINT32_MAX;
	tick_events(call->agent->tick);
	if (flow_reader_new(&reader, call->agent->flows, call->agent->history, q.filter, &q.how))
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	struct stream *s = stream_new(call, reader);
	if (!s) {
		flow_reader_free(reader);
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	struct MHD_Response *response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_read, s, NULL);
	if (!response)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/jsonl");
	call->queue_result = MHD_queue_response(call->connection, MHD_HTTP_OK, response);
	call->queued = true;
	MHD_destroy_response(response);
	return 0;
}
