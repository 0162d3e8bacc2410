/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The server: its socket, its place in the event loop, the life of a request. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/internal.h"
#include "log.h"

#define BACKLOG 1024 /* a flood of connections is taken and ended, not waited for */
#define IDLE_SECONDS 10u
#define CONNECTION_BYTES (16u << 10) /* head of a request, and buffers */
#define BODIES_MAX (128u << 20)	     /* bytes of all requests under way */
#define REPLIES_MAX (64u << 20)	     /* bytes of answers that wait; more requests are refused */
/* Between looks for streams whose client has left. */
#define STREAM_CHECK_MS 1000u

/* ---- replies -------------------------------------------------------------------------------- */

enum MHD_Result call_reply_text(struct call *call, unsigned int status, char *text, size_t len)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);

	if (!response) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	call->reply_len += len;
	call->api->reply_bytes += len;
	enum MHD_Result result = MHD_queue_response(call->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result call_reply(struct call *call, unsigned int status, const json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	return text ? call_reply_text(call, status, text, strlen(text)) : MHD_NO;
}

const char *call_argument(const struct call *call, const char *key)
{
	return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, key);
}

/*
 * What a sentence quotes may be no UTF-8 (a path, a query), or was cut within a character; JSON
 * takes neither. Then each byte of a character beyond ASCII becomes a '?'.
 */
static json_t *json_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy = json ? NULL : strdup(text);

	if (!copy)
		return json;
	for (char *at = copy; *at; at++)
		if (*at & 0x80)
			*at = '?';
	json = json_string(copy);
	free(copy);
	return json;
}

static enum MHD_Result reply_error(struct call *call, json_t *partial, const struct agent_error *e)
{
	static const struct {
		unsigned int status;
		const char *name;
	} codes[] = {
		[AGENT_INVALID] = { MHD_HTTP_BAD_REQUEST, "invalid" },
		[AGENT_NOT_FOUND] = { MHD_HTTP_NOT_FOUND, "not_found" },
		[AGENT_EXISTS] = { MHD_HTTP_CONFLICT, "exists" },
		[AGENT_EXHAUSTED] = { MHD_HTTP_INSUFFICIENT_STORAGE, "exhausted" },
		[AGENT_NOT_READY] = { MHD_HTTP_SERVICE_UNAVAILABLE, "not_ready" },
		[AGENT_INTERNAL] = { MHD_HTTP_INTERNAL_SERVER_ERROR, "internal" },
	};
	const struct object_error *at = &e->at;
	json_t *json = partial ? json_incref(partial) : json_object();

	json_object_set_new(json, "error", json_text(at->text));
	json_object_set_new(json, "code", json_string(codes[e->code].name));
	if (*at->file) {
		json_object_set_new(json, "file", json_text(at->file));
		json_object_set_new(json, "line", json_integer(at->line));
		json_object_set_new(json, "column", json_integer(at->column));
		json_object_set_new(json, "field", json_text(at->field));
	}
	if (e->code == AGENT_INTERNAL)
		log_error("%s %s: %s", call->route ? call->route->method : "request",
			  call->route ? call->route->path : "", at->text);
	enum MHD_Result result = call_reply(call, codes[e->code].status, json);
	json_decref(json);
	return result;
}

static enum MHD_Result reply_plain(struct call *call, unsigned int status, const char *code,
				   const char *text)
{
	json_t *json = json_pack("{s:s, s:s}", "error", text, "code", code);
	enum MHD_Result result = call_reply(call, status, json);

	json_decref(json);
	return result;
}

static void on_timer(uv_timer_t *timer);

/* ---- requests ------------------------------------------------------------------------------- */

static void call_free(struct call *call)
{
	if (call->stream)
		stream_close(call->stream);
	call->api->body_bytes -= call->room;
	call->api->reply_bytes -= call->reply_len;
	json_decref(call->reply);
	free(call->body);
	free(call->path);
	free(call);
}

static struct call *call_new(struct api *api, struct MHD_Connection *connection, const char *url)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->api = api;
	call->agent = api->agent;
	call->connection = connection;
	call->path = strdup(url);
	if (!call->path) {
		free(call);
		return NULL;
	}
	return call;
}

/* Refusals that need not wait for the body. */
static enum MHD_Result call_begin(struct call *call, const char *method)
{
	unsigned int status = 0;
	const char *length = MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	call->route = route_find(method, call, &status);
	if (!call->route)
		return status == MHD_HTTP_METHOD_NOT_ALLOWED
			       ? reply_plain(call, status, "invalid",
					     "this path does not take that method")
			       : reply_plain(call, status, "not_found", "there is no such path");
	if (call->api->reply_bytes > REPLIES_MAX)
		return reply_plain(call, MHD_HTTP_SERVICE_UNAVAILABLE, "not_ready",
				   "too many answers wait for clients to read them; try again");
	if (length && strtoull(length, NULL, 10) > call->route->body_max)
		return reply_plain(call, MHD_HTTP_CONTENT_TOO_LARGE, "invalid",
				   "the request is larger than this call takes");
	return MHD_YES;
}

/* MHD_NO ends the connection: the client sends more than it may, and reads no answer now. */
static enum MHD_Result call_body(struct call *call, const char *data, size_t len)
{
	struct api *api = call->api;

	if (len > call->route->body_max - call->len)
		return MHD_NO;
	if (call->len + len > call->room) {
		size_t room = call->room ? call->room : 4096;

		while (room < call->len + len)
			room *= 2;
		if (api->body_bytes - call->room + room > BODIES_MAX)
			return MHD_NO;
		char *body = realloc(call->body, room);
		if (!body)
			return MHD_NO;
		api->body_bytes += room - call->room;
		call->body = body;
		call->room = room;
	}
	memcpy(call->body + call->len, data, len);
	call->len += len;
	return MHD_YES;
}

static enum MHD_Result call_run(struct call *call)
{
	struct agent_error err = { .code = AGENT_INTERNAL };
	json_t *reply = NULL;
	enum MHD_Result result;
	int res = call->finished ? -EINPROGRESS : call->route->handle(call, &reply, &err);

	if (res == -EINPROGRESS && !call->finished) {
		call->suspended = true;
		MHD_suspend_connection(call->connection);
		return MHD_YES;
	}
	if (call->finished) {
		res = call->res;
		err = call->err;
		reply = call->reply ? json_incref(call->reply) : res ? NULL : json_object();
	}
	if (call->queued)
		result = call->queue_result;
	else if (res)
		result = reply_error(call, reply, &err);
	else
		result = call_reply(call, MHD_HTTP_OK, reply);
	json_decref(reply);
	return result;
}

void call_finish(struct call *call, json_t *reply, int res, const struct agent_error *err)
{
	call->finished = true;
	call->res = res;
	call->reply = reply;
	call->err = *err;
	if (!call->suspended)
		return; /* still inside the handler */
	call->suspended = false;
	MHD_resume_connection(call->connection);
	/* Not at once: several calls may be finished together. */
	uv_timer_start(&call->api->timer, on_timer, 0, 0);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *len, void **state)
{
	struct call *call = *state;

	if (!call) {
		call = call_new(arg, connection, url);
		*state = call;
		return call ? call_begin(call, method) : MHD_NO;
	}
	if (*len) {
		size_t n = *len;

		*len = 0;
		return call->route ? call_body(call, data, n) : MHD_YES;
	}
	return call->route ? call_run(call) : MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode why)
{
	if (*state)
		call_free(*state);
	*state = NULL;
	guest_answered(arg, connection);
}

/* ---- in the event loop ------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
	struct api *api = timer->data;

	streams_resume(api, false);
	api_run(api);
}

void api_run(struct api *api)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;

	/* A request that makes events wakes the streams from inside of the server. */
	if (api->running)
		return;
	api->running = true;
	MHD_run(api->daemon);
	api->running = false;
	/* Behind the server's turn: what came while the agent was busy is read first. */
	guests_sweep(api);
	if (MHD_get_timeout(api->daemon, &ms) != MHD_YES || ms > STREAM_CHECK_MS)
		ms = STREAM_CHECK_MS;
	uv_timer_start(&api->timer, on_timer, ms, 0);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	api_run(poll->data);
}

void api_wake(struct api *api)
{
	if (!api->streams)
		return;
	streams_resume(api, false);
	api_run(api);
}

/* ---- the socket -------------------------------------------------------------------------------- */

/* From the file itself: NSS would load libraries into the agent for one number. */
static int group_find(const char *name, gid_t *out)
{
	FILE *in = fopen("/etc/group", "re");
	const struct group *group;
	int res = -ENOENT;

	if (!in)
		return -errno;
	while (res && (group = fgetgrent(in))) {
		if (!strcmp(group->gr_name, name)) {
			*out = group->gr_gid;
			res = 0;
		}
	}
	fclose(in);
	return res;
}

static int socket_listen(const char *path, int *out, char *err, size_t err_len)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	gid_t gid = 0;
	int res = 0;

	memcpy(sun.sun_path, path, strlen(path));
	/* Nobody else's: the lock on run-dir is held. */
	unlink(path);
	mode_t mask = umask(0117);
	if (sock < 0 || bind(sock, (const struct sockaddr *)&sun, sizeof(sun)))
		res = -errno;
	umask(mask);
	if (!res && !group_find("towpath", &gid) && chown(path, (uid_t)-1, gid))
		res = -errno;
	if (!res && listen(sock, BACKLOG))
		res = -errno;
	if (res) {
		snprintf(err, err_len, "cannot listen on %s: %s", path, strerror(-res));
		if (sock >= 0)
			close(sock);
		return res;
	}
	*out = sock;
	return 0;
}

static int daemon_start(struct api *api, int sock, char *err, size_t err_len)
{
	api->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, api,
		MHD_OPTION_LISTEN_SOCKET, sock, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, api,
		MHD_OPTION_NOTIFY_CONNECTION, guests_notify, api, MHD_OPTION_END);
	if (api->daemon)
		return 0;
	snprintf(err, err_len, "cannot start the HTTP server on %s", api->socket);
	close(sock);
	return -EIO;
}

int api_new(struct api **out, struct agent *a, char *err, size_t err_len)
{
	struct api *api = calloc(1, sizeof(*api));
	int sock = -1;

	if (!api) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	api->agent = a;
	/* It fits: guard_dirs() has refused what is longer. */
	snprintf(api->socket, sizeof(api->socket), "%s/towpath.sock", a->opts->run_dir);
	int res = socket_listen(api->socket, &sock, err, err_len);
	if (!res)
		res = daemon_start(api, sock, err, err_len);
	if (res) {
		free(api);
		return res;
	}
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	uv_poll_init(&a->loop, &api->poll, info->epoll_fd);
	uv_timer_init(&a->loop, &api->timer);
	api->poll.data = api->timer.data = api;
	api->open_handles = 2;
	uv_poll_start(&api->poll, UV_READABLE, on_ready);
	*out = api;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct api *api = handle->data;

	if (!--api->open_handles)
		free(api);
}

void api_free(struct api *api)
{
	if (!api)
		return;
	unlink(api->socket);
	uv_poll_stop(&api->poll);
	/* The server does not stop over suspended connections. */
	streams_resume(api, true);
	MHD_stop_daemon(api->daemon);
	uv_close((uv_handle_t *)&api->poll, handle_closed);
	uv_close((uv_handle_t *)&api->timer, handle_closed);
}
