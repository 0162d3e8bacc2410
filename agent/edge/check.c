/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 20u	 /* when too many are under way */
#define ANSWER_MAX 4096u /* of an answer, in which its first line must end */

struct checks {
	uv_loop_t *loop;
	unsigned int open; /* checks whose memory is there */
	unsigned int busy;
	bool closing;
};

struct check {
	struct checks *all;
	struct check_spec spec;
	char request[768];
	check_fn done;
	void *arg;
	uv_timer_t timer; /* the next one; while one is under way, its end */
	uv_tcp_t tcp;
	uv_connect_t connect;
	uv_write_t write;
	char answer[ANSWER_MAX];
	size_t len;
	bool busy;    /* tcp is open, or being closed */
	bool closing; /* nobody wants to know any more */
	unsigned int handles;
};

static void check_release(struct check *c)
{
	struct checks *all = c->all;

	if (!c->closing || c->handles)
		return;
	free(c);
	all->open--;
	if (all->closing && !all->open)
		free(all);
}

int checks_new(struct checks **out, uv_loop_t *loop)
{
	struct checks *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->loop = loop;
	*out = c;
	return 0;
}

void checks_free(struct checks *c)
{
	if (!c)
		return;
	c->closing = true;
	if (!c->open)
		free(c);
}

/* ---- one check ---------------------------------------------------------------------------- */

static void check_begin(uv_timer_t *timer);

/* A tenth earlier or later. */
static uint64_t check_interval(const struct check *c)
{
	uint32_t interval = c->spec.interval_ms;

	return interval - interval / 10 + (uint64_t)(random() % (interval / 5 + 1));
}

static void tcp_closed(uv_handle_t *handle)
{
	struct check *c = handle->data;

	c->handles--;
	c->busy = false;
	c->all->busy--;
	if (c->closing)
		check_release(c);
	else
		uv_timer_start(&c->timer, check_begin, check_interval(c), 0);
}

static void check_end(struct check *c, const char *failed)
{
	if (uv_is_closing((uv_handle_t *)&c->tcp))
		return;
	uv_timer_stop(&c->timer);
	uv_close((uv_handle_t *)&c->tcp, tcp_closed);
	if (!c->closing)
		c->done(c->arg, failed);
}

static void timed_out(uv_timer_t *timer)
{
	struct check *c = timer->data;
	char text[64];

	snprintf(text, sizeof(text), "no answer within %u ms", c->spec.timeout_ms);
	check_end(c, text);
}

static void failed_by(struct check *c, int status)
{
	/* Cancelled: its end was told already. */
	if (status != UV_ECANCELED)
		check_end(c, uv_strerror(status));
}

/* "HTTP/1.1 200 OK" */
static void answer_judge(struct check *c)
{
	unsigned int minor, status;
	char text[64];

	if (sscanf(c->answer, "HTTP/1.%1u %3u", &minor, &status) != 2) {
		check_end(c, "its answer is not HTTP/1");
		return;
	}
	snprintf(text, sizeof(text), "it answered %u", status);
	check_end(c, status >= 200 && status <= 399 ? NULL : text);
}

static void answer_room(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
	struct check *c = handle->data;

	*buf = uv_buf_init(c->answer + c->len, (unsigned int)(sizeof(c->answer) - 1 - c->len));
}

static void answer_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct check *c = stream->data;

	if (n > 0) {
		c->len += (size_t)n;
		c->answer[c->len] = '\0';
		if (strchr(c->answer, '\n') || c->len == sizeof(c->answer) - 1)
			answer_judge(c);
	} else if (n == UV_EOF) {
		check_end(c, "it closed the connection without an answer");
	} else if (n < 0) {
		failed_by(c, (int)n);
	}
}

static void request_sent(uv_write_t *write, int status)
{
	if (status)
		failed_by(write->data, status);
}

static void connected(uv_connect_t *connect, int status)
{
	struct check *c = connect->data;
	uv_buf_t buf = uv_buf_init(c->request, (unsigned int)strlen(c->request));
	int res = status;

	if (!res && !c->spec.http) {
		check_end(c, NULL);
		return;
	}
	c->write.data = c;
	if (!res)
		res = uv_read_start((uv_stream_t *)&c->tcp, answer_room, answer_read);
	if (!res)
		res = uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, request_sent);
	if (res)
		failed_by(c, res);
}

static void sockaddr_make(const struct check_spec *spec, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (addr_is4(&spec->addr)) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(spec->port);
		memcpy(&v4->sin_addr, &spec->addr.word[3], 4);
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(spec->port);
		memcpy(&v6->sin6_addr, &spec->addr, 16);
	}
}

static void check_begin(uv_timer_t *timer)
{
	struct check *c = timer->data;
	struct sockaddr_storage addr;
	int res;

	if (c->all->busy >= CHECKS_AT_ONCE) {
		uv_timer_start(&c->timer, check_begin, RETRY_MS + (uint64_t)(random() % RETRY_MS),
			       0);
		return;
	}
	sockaddr_make(&c->spec, &addr);
	c->len = 0;
	c->answer[0] = '\0';
	uv_tcp_init(c->all->loop, &c->tcp);
	c->tcp.data = c->connect.data = c;
	c->handles++;
	c->busy = true;
	c->all->busy++;
	uv_timer_start(&c->timer, timed_out, c->spec.timeout_ms, 0);
	res = uv_tcp_connect(&c->connect, &c->tcp, (const struct sockaddr *)&addr, connected);
	if (res)
		check_end(c, uv_strerror(res));
}

/* ---- from outside ------------------------------------------------------------------------- */

static void request_make(struct check *c, const struct check_spec *spec)
{
	char addr[INET6_ADDRSTRLEN] = "", host[INET6_ADDRSTRLEN + 2];

	addr_format(&spec->addr, addr, sizeof(addr));
	snprintf(host, sizeof(host), addr_is4(&spec->addr) ? "%s" : "[%s]", addr);
	snprintf(c->request, sizeof(c->request),
		 "GET %.256s HTTP/1.1\r\nHost: %.256s\r\nUser-Agent: towpath\r\n"
		 "Connection: close\r\n\r\n",
		 spec->path ?: "/", spec->host ?: host);
}

int check_new(struct check **out, struct checks *all, const struct check_spec *spec, check_fn done,
	      void *arg)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->all = all;
	c->spec = *spec;
	c->done = done;
	c->arg = arg;
	request_make(c, spec);
	c->spec.path = c->spec.host = NULL;
	uv_timer_init(all->loop, &c->timer);
	c->timer.data = c;
	c->handles = 1;
	all->open++;
	/* Not from in here: the caller has no handle yet. */
	uv_timer_start(&c->timer, check_begin, 0, 0);
	*out = c;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	struct check *c = handle->data;

	c->handles--;
	check_release(c);
}

void check_close(struct check *c)
{
	if (!c)
		return;
	c->closing = true;
	uv_timer_stop(&c->timer);
	uv_close((uv_handle_t *)&c->timer, timer_closed);
	if (c->busy && !uv_is_closing((uv_handle_t *)&c->tcp))
		uv_close((uv_handle_t *)&c->tcp, tcp_closed);
}
