/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The API client: one libcurl handle over the agent's Unix socket. The connection is kept
 * between calls. Knows nothing of what the calls mean.
 */
#include <towpath/client.h>

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define TIMEOUT_DEFAULT_MS 120000u
#define REPLY_MAX (256u << 20) /* a reply beyond this is not from an agent */

struct buffer {
	char *v;
	size_t n, cap;
};

struct tw_client {
	CURL *curl;
	struct curl_slist *headers;
	char *socket_path;
	unsigned int timeout_ms;
	char error[1024]; /* sentence for the last failed call */
};

/* What the write callback of one call works on. */
struct transfer {
	struct tw_client *client;
	struct buffer buf; /* the reply, or the begun line of a stream */
	int (*line)(void *arg, const char *line, size_t len); /* NULL: no stream */
	void *arg;
	bool ended; /* by line() */
	bool no_memory;
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
	/* NOTHING: no TLS library is initialised, which would take longer than a call does. */
	if (curl_global_init(CURL_GLOBAL_NOTHING) == CURLE_OK)
		c->curl = curl_easy_init();
	/* "Expect:" as libcurl would wait for 100-continue before a large body. */
	c->headers = curl_slist_append(NULL, "Expect:");
	if (c->headers) {
		struct curl_slist *more =
			curl_slist_append(c->headers, "Content-Type: application/json");

		if (!more) {
			curl_slist_free_all(c->headers);
			c->headers = NULL;
		}
	}
	if (!c->curl || !c->headers || !c->socket_path) {
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
	curl_slist_free_all(c->headers);
	curl_easy_cleanup(c->curl);
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
static size_t transfer_lines(struct transfer *t, const char *data, size_t n)
{
	const char *end = data + n;

	for (const char *p = data; p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (!nl) {
			t->no_memory = buffer_append(&t->buf, p, (size_t)(end - p));
			return t->no_memory ? 0 : n;
		}
		const char *line = p;
		size_t len = (size_t)(nl - p);

		if (t->buf.n) {
			t->no_memory = buffer_append(&t->buf, p, len);
			if (t->no_memory)
				return 0;
			line = t->buf.v;
			len = t->buf.n;
		}
		t->buf.n = 0;
		p = nl + 1;
		if (len && t->line(t->arg, line, len)) {
			t->ended = true;
			return 0;
		}
	}
	return n;
}

static size_t transfer_write(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	long status = 0;

	n *= size;
	curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &status);
	/* An error's body is one JSON document, also where a stream was asked for. */
	if (t->line && status < 300)
		return transfer_lines(t, data, n);
	t->no_memory = buffer_append(&t->buf, data, n);
	return t->no_memory ? 0 : n;
}

static int client_failed(struct tw_client *c, const struct transfer *t, CURLcode code)
{
	long os_errno = 0;

	if (t->no_memory || code == CURLE_OUT_OF_MEMORY)
		return client_fail(c, -ENOMEM, "out of memory while reading the agent's reply");
	curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_errno);
	switch (code) {
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
		if (os_errno == EACCES || os_errno == EPERM)
			return client_fail(c, -EACCES,
					   "may not open %s: run as root, or as a member of the "
					   "group towpath",
					   c->socket_path);
		return client_fail(c, -ECONNREFUSED,
				   "no agent answers at %s: start towpathd, or name its socket "
				   "with --socket or TOWPATH_SOCKET",
				   c->socket_path);
	case CURLE_OPERATION_TIMEDOUT:
		return client_fail(c, -ETIMEDOUT,
				   "the agent at %s did not answer within %u s: see its log",
				   c->socket_path, (c->timeout_ms + 999) / 1000);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		return client_fail(c, -ECONNRESET,
				   "the agent at %s went away during the call: see its log, and "
				   "try again once it runs",
				   c->socket_path);
	default:
		return client_fail(c, -EBADMSG, "what answers at %s is not an agent: %s",
				   c->socket_path, curl_easy_strerror(code));
	}
}

/* Runs what is set up on the handle; the status, or -errno with the sentence in c->error. */
static int client_run(struct tw_client *c, const char *path, struct transfer *t, long timeout_ms)
{
	char *url = NULL;

	c->error[0] = '\0';
	if (strlen(c->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return client_fail(c, -ENAMETOOLONG, "the socket path %s is longer than %zu bytes",
				   c->socket_path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	if (asprintf(&url, "http://localhost%s", path) < 0)
		return client_fail(c, -ENOMEM, "out of memory");
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	free(url); /* libcurl copies strings */
	curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket_path);
	curl_easy_setopt(c->curl, CURLOPT_PROXY, ""); /* not even from http_proxy */
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, transfer_write);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)c->timeout_ms);

	CURLcode code = curl_easy_perform(c->curl);
	long status = 0;

	if (code != CURLE_OK && !t->ended)
		return client_failed(c, t, code);
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
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

int tw_client_call(struct tw_client *c, const char *method, const char *path, json_t *body,
		   json_t **reply)
{
	struct transfer t = { .client = c };
	json_t *json = NULL;
	char *text = NULL;

	curl_easy_reset(c->curl); /* options only: the connection stays */
	if (body) {
		text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
		if (!text)
			return client_fail(c, -ENOMEM, "out of memory while encoding the request");
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
	} else if (!strcmp(method, "POST")) {
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, 0L);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, "");
	}
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);

	int ret = client_run(c, path, &t, (long)c->timeout_ms);

	if (ret >= 0)
		ret = client_decode(c, ret, &t.buf, &json);
	free(text);
	free(t.buf.v);
	if (ret >= 0 && reply)
		*reply = json;
	else
		json_decref(json);
	return ret;
}

int tw_client_stream(struct tw_client *c, const char *path,
		     int (*fn)(void *arg, const char *line, size_t len), void *arg)
{
	struct transfer t = { .client = c, .line = fn, .arg = arg };
	json_t *json = NULL;

	curl_easy_reset(c->curl);
	curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);

	int ret = client_run(c, path, &t, 0);

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
