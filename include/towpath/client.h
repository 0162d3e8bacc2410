/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The public C API to a running agent: HTTP with JSON over its Unix socket
 * (docs/design/agent.md lists the calls). Used by towpath and towpath-cni.
 */
#ifndef TOWPATH_CLIENT_H
#define TOWPATH_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define TW_SOCKET_DEFAULT "/run/towpath/towpath.sock"

struct tw_client;

/* socket_path NULL: $TOWPATH_SOCKET, else TW_SOCKET_DEFAULT. Does not connect yet. -ENOMEM. */
int tw_client_new(struct tw_client **out, const char *socket_path);
void tw_client_free(struct tw_client *c);
/* Whole-call time limit in ms; 0: none. Default 120 000. */
void tw_client_timeout(struct tw_client *c, unsigned int ms);

/*
 * One call. body may be NULL and stays the caller's; *reply (may be NULL) is owned by the
 * caller and is the decoded JSON, errors' too (NULL for an empty body). Returns the HTTP
 * status (200 ...), or -ECONNREFUSED when no agent answers, -EACCES when the socket may not
 * be opened, -ECONNRESET when the agent went away during the call, -ETIMEDOUT, -EBADMSG for
 * a reply that is not an agent's, -ENAMETOOLONG for the socket's path, -ENOMEM.
 */
int tw_client_call(struct tw_client *c, const char *method, const char *path, json_t *body,
		   json_t **reply);

/* The same with a body that is no JSON: a list of the edge. */
int tw_client_send(struct tw_client *c, const char *method, const char *path, const void *body,
		   size_t len, json_t **reply);

/*
 * A stream of JSON lines; fn returning non-zero ends it. Same results. No time limit but
 * that of connecting: a stream may be silent for as long as it likes.
 */
int tw_client_stream(struct tw_client *c, const char *path,
		     int (*fn)(void *arg, const char *line, size_t len), void *arg);

/* The sentence in an error reply, or a sentence for a negative result. Never NULL. */
const char *tw_client_error(const struct tw_client *c, int result, const json_t *reply);

/* Percent-encodes text for one path segment or query value. malloc'ed; NULL: no memory. */
char *tw_client_escape(const char *text);

#endif
