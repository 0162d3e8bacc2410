/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The API client: each call is a connection to the agent's Unix socket (http.h). Knows nothing
 * of what the calls mean.
 */
#include <towpath/client.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "http.h"

#define TIMEOUT_DEFAULT_MS 120000u
#define REPLY_MAX (256u << 20) /* a reply beyond this is not from an agent */

struct buffer {
	char *v;
	size_t n, cap;
};

struct tw_client {
	char *socket_path;
	unsigned int timeout_ms;
	char error[1024]; /* sentence for the last failed call */
};

/* What take() of one call works on. */
struct transfer {
	struct buffer buf; /* the reply, or the begun line of a stream */
	int (*line)(void *arg, const char *line, size_t len); /* NULL: no stream */
	void *arg;
	bool ended; /* by line() */
};

static int buffer_append(struct buffer *b, const char *data, size_t n)
{
	if (n > REPLY_MAX - b->n)
		return -EMSGSIZE;
	if (b->n + n > b->cap) {
		size_t cap = b->cap ? b->cap : 4096;

		while (cap < b->n + n)
			cap *= 2;
		char *v = realloc(b->v, cap);

		if (!v)
			return -ENOMEM;
		b->v = v;
		b->cap = cap;
	}
	memcpy(b->v + b->n, data, n);
	b->n += n;
	return 0;
}

int tw_client_new(struct tw_client **out, const char *socket_path)
{
	struct tw_client *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	if (!socket_path)
		socket_path = getenv("TOWPATH_SOCKET");
	if (!socket_path || !*socket_path)
		socket_path = TW_SOCKET_DEFAULT;
	c->timeout_ms = TIMEOUT_DEFAULT_MS;
	c->socket_path = strdup(socket_path);
	if (!c->socket_path) {
		tw_client_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void tw_client_free(struct tw_client *c)
{
	if (!c)
		return;
	free(c->socket_path);
	free(c);
}

void tw_client_timeout(struct tw_client *c, unsigned int ms)
{
	c->timeout_ms = ms;
}

__attribute__((format(printf, 3, 4))) static int client_fail(struct tw_client *c, int err,
							     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
	return err;
}

/* Hands out whole lines and keeps the rest for the next piece of the body. */
static int transfer_lines(struct transfer *t, const char *data, size_t n)
{
	const char *end = data + n;

	for (const char *p = data; p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (!nl)
			return buffer_append(&t->buf, p, (size_t)(end - p));
		const char *line = p;
		size_t len = (size_t)(nl - p);

		if (t->buf.n) {
			int res = buffer_append(&t->buf, p, len);

			if (res)
				return res;
			line = t->buf.v;
			len = t->buf.n;
		}
		t->buf.n = 0;
		p = nl + 1;
		t->ended = len && t->line(t->arg, line, len);
		if (t->ended)
			return 200; /* as streams are answered */
	}
	return 0;
}

static int transfer_take(void *arg, int status, const char *data, size_t n)
{
	struct transfer *t = arg;

	/* An error's body is one JSON document, also where a stream was asked for. */
	if (t->line && status < 300)
		return transfer_lines(t, data, n);
	return buffer_append(&t->buf, data, n);
}

static int client_failed(struct tw_client *c, int res)
{
	switch (res) {
	case -ENOMEM:
		return client_fail(c, res, "out of memory while reading the agent's reply");
	case -EACCES:
		return client_fail(c, res,
				   "may not open %s: run as root, or as a member of the "
				   "group towpath",
				   c->socket_path);
	case -ECONNREFUSED:
		return client_fail(c, res,
				   "no agent answers at %s: start towpathd, or name its socket "
				   "with --socket or TOWPATH_SOCKET",
				   c->socket_path);
	case -ETIMEDOUT:
		return client_fail(c, res,
				   "the agent at %s did not answer within %u s: see its log",
				   c->socket_path, (c->timeout_ms + 999) / 1000);
	case -ECONNRESET:
		return client_fail(c, res,
				   "the agent at %s went away during the call: see its log, and "
				   "try again once it runs",
				   c->socket_path);
	default:
		return client_fail(c, -EBADMSG, "what answers at %s is not an agent: %s",
				   c->socket_path, strerror(-res));
	}
}

/* Runs the call; the status, or -errno with the sentence in c->error. */
static int client_run(struct tw_client *c, struct http_call *call, struct transfer *t)
{
	c->error[0] = '\0';
	if (strlen(c->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return client_fail(c, -ENAMETOOLONG, "the socket path %s is longer than %zu bytes",
				   c->socket_path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	call->socket_path = c->socket_path;
	call->connect_ms = c->timeout_ms;
	call->take = transfer_take;
	call->arg = t;

	int res = http_run(call);

	return res < 0 ? client_failed(c, res) : res;
}

/* Decodes a reply and keeps the sentence of an error. */
static int client_decode(struct tw_client *c, int status, const struct buffer *buf, json_t **reply)
{
	json_error_t jerr;
	json_t *json = NULL;

	if (buf->n) {
		json = json_loadb(buf->v, buf->n, JSON_DECODE_ANY, &jerr);
		if (!json)
			return client_fail(c, -EBADMSG,
					   "what answers at %s is not an agent: its reply to the "
					   "call (status %d) is not JSON",
					   c->socket_path, status);
	}
	if (status >= 300) {
		const char *text = json_string_value(json_object_get(json, "error"));

		snprintf(c->error, sizeof(c->error), "%s",
			 text ? text : "the agent refused the call without a reason");
	}
	*reply = json;
	return status;
}

int tw_client_send(struct tw_client *c, const char *method, const char *path, const void *body,
		   size_t len, json_t **reply)
{
	struct http_call call = { .method = method,
				  .path = path,
				  .body = body,
				  .body_len = len,
				  .total_ms = c->timeout_ms };
	struct transfer t = { 0 };
	json_t *json = NULL;
	int ret = client_run(c, &call, &t);

	if (ret >= 0)
		ret = client_decode(c, ret, &t.buf, &json);
	free(t.buf.v);
	if (ret >= 0 && reply)
		*reply = json;
	else
		json_decref(json);
	return ret;
}

int tw_client_call(struct tw_client *c, const char *method, const char *path, json_t *body,
		   json_t **reply)
{
	char *text = NULL;
	int ret;

	if (body) {
		text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
		if (!text)
			return client_fail(c, -ENOMEM, "out of memory while encoding the request");
	}
	ret = tw_client_send(c, method, path, text, text ? strlen(text) : 0, reply);
	free(text);
	return ret;
}

int tw_client_stream(struct tw_client *c, const char *path,
		     int (*fn)(void *arg, const char *line, size_t len), void *arg)
{
	struct http_call call = { .method = "GET", .path = path };
	struct transfer t = { .line = fn, .arg = arg };
	json_t *json = NULL;
	int ret = client_run(c, &call, &t);

	if (ret >= 300)
		ret = client_decode(c, ret, &t.buf, &json);
	else if (ret >= 0 && t.buf.n && !t.ended)
		fn(arg, t.buf.v, t.buf.n); /* a last line without its newline */
	json_decref(json);
	free(t.buf.v);
	return ret;
}

const char *tw_client_error(const struct tw_client *c, int result, const json_t *reply)
{
	const char *text = json_string_value(json_object_get(reply, "error"));

	if (text)
		return text;
	if (c && c->error[0])
		return c->error;
	return result < 0 ? strerror(-result) : "the agent refused the call without a reason";
}

char *tw_client_escape(const char *text)
{
	static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					 "0123456789-._~"; /* RFC 3986 2.3 */
	char *out = malloc(3 * strlen(text) + 1);
	char *p = out;

	if (!out)
		return NULL;
	for (; *text; text++) {
		if (strchr(unreserved, *text))
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*text);
	}
	*p = '\0';
	return out;
}
