/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Private to agent/api. */
#ifndef AGENT_API_INTERNAL_H
#define AGENT_API_INTERNAL_H

#include <microhttpd.h>
#include <uv.h>

#include "agent.h"
#include "api/api.h"

#define CONNECTIONS_MAX 128u
#define PATH_PARTS_MAX 3

struct call;

struct route {
	const char *method;
	const char *path; /* a * stands for one part, given to the handler */
	size_t body_max;  /* 0: takes none */
	/*
	 * Fills *reply, or err and returns -errno; or queues a response itself and says so; or
	 * returns -EINPROGRESS and has call_finish() called later.
	 */
	int (*handle)(struct call *call, json_t **reply, struct agent_error *err);
};

/* One request, from its head to its last byte. */
struct call {
	struct api *api;
	struct agent *agent;
	struct MHD_Connection *connection;
	const struct route *route;
	char *path; /* cut into parts */
	const char *parts[PATH_PARTS_MAX];
	char *body;
	size_t len, room;
	size_t reply_len;
	bool queued; /* the handler has answered */
	/* What a handler that returned -EINPROGRESS left to be told by call_finish(). */
	bool suspended, finished;
	int res;
	json_t *reply;
	struct agent_error err;
	enum MHD_Result queue_result;
	struct stream *stream; /* of a call that goes on */
};

struct api {
	struct agent *agent;
	struct MHD_Daemon *daemon;
	uv_poll_t poll;
	uv_timer_t timer;
	int open_handles;
	bool running;	    /* inside MHD_run() */
	char socket[108];   /* what fits sockaddr_un */
	size_t body_bytes;  /* of all calls */
	size_t reply_bytes; /* that clients have not read yet */
	struct guest *guests;
	unsigned int n_guests;
	struct stream *streams;
	unsigned int n_streams;
};

/* The route for a request; NULL with the status that says why not. */
const struct route *route_find(const char *method, struct call *call, unsigned int *status);

/* The value of an argument of the query, NULL: absent. */
const char *call_argument(const struct call *call, const char *key);
enum MHD_Result call_reply(struct call *call, unsigned int status, const json_t *json);
/* text is freed. */
enum MHD_Result call_reply_text(struct call *call, unsigned int status, char *text, size_t len);

/* The end of connections that take too long (guests.c). */
void guests_notify(void *arg, struct MHD_Connection *connection, void **context,
		   enum MHD_ConnectionNotificationCode code);
void guests_sweep(struct api *api);
void guest_streams(struct api *api, struct MHD_Connection *connection);
void guest_answered(struct api *api, struct MHD_Connection *connection);

/*
 * The answer of a call whose handler returned -EINPROGRESS: `reply`, which becomes the call's (NULL:
 * an empty object), or the error.
 */
void call_finish(struct call *call, json_t *reply, int res, const struct agent_error *err);

/* The request's body; *out is the caller's. */
int call_json(struct call *call, json_t **out, struct agent_error *err);
/* json as the reply; NULL: there was no memory for it. */
int call_answer(json_t *json, json_t **reply, struct agent_error *err);
/* call_finish() as a callback: arg is the call. */
void call_answered(void *arg, json_t *json, int res, const struct agent_error *err);

/* /v1/hooks, /v1/programs (programs.c). */
int programs_get_stats(struct call *call, json_t **reply, struct agent_error *err);
int programs_list_hooks(struct call *call, json_t **reply, struct agent_error *err);
int programs_list(struct call *call, json_t **reply, struct agent_error *err);
int programs_get(struct call *call, json_t **reply, struct agent_error *err);
int programs_post(struct call *call, json_t **reply, struct agent_error *err);
int programs_put(struct call *call, json_t **reply, struct agent_error *err);
int programs_delete(struct call *call, json_t **reply, struct agent_error *err);

/* /v1/edge (edge.c). */
int edge_get(struct call *call, json_t **reply, struct agent_error *err);
int edge_sources_get(struct call *call, json_t **reply, struct agent_error *err);
int edge_device_post(struct call *call, json_t **reply, struct agent_error *err);
int edge_device_delete(struct call *call, json_t **reply, struct agent_error *err);
int edge_rules_post(struct call *call, json_t **reply, struct agent_error *err);
int edge_list_put(struct call *call, json_t **reply, struct agent_error *err);
int edge_list_delete(struct call *call, json_t **reply, struct agent_error *err);
int edge_limits_get(struct call *call, json_t **reply, struct agent_error *err);
int edge_limits_post(struct call *call, json_t **reply, struct agent_error *err);
int edge_test_get(struct call *call, json_t **reply, struct agent_error *err);

/* GET /v1/flows (stream.c). */
int stream_open(struct call *call, json_t **reply, struct agent_error *err);
void stream_close(struct stream *s);
/* Streams that have something to say, or whose client has left, go on; all: every one. */
void streams_resume(struct api *api, bool all);

/* Lets the server work on what is ready. */
void api_run(struct api *api);

#endif
