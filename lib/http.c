/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "http.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (64u << 10) /* a line of the head, or of chunk sizes, is below it */
#define HEADERS_MAX 128

/* A connection and what was read ahead: buf[at] to buf[end - 1]. */
struct http {
	const struct http_call *call;
	int fd;
	uint64_t deadline; /* in ms of the monotonic clock; 0: none */
	size_t at, end;
	char buf[BUFFER_BYTES];
};

struct head {
	int status;
	bool chunked;
	bool has_length;
	uint64_t length;
};

static void http_cleanup(struct http **h)
{
	if (*h && (*h)->fd >= 0)
		close((*h)->fd);
	free(*h);
}
#define _cleanup_http_ __attribute__((cleanup(http_cleanup)))

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- bytes ------------------------------------------------------------------------------------ */

/* The kernel's word for it, as one of the few that callers tell apart. */
static int socket_error(int err)
{
	switch (err) {
	case ENOENT:
	case ECONNREFUSED:
	case ENOTSOCK:
	case ENOTDIR:
		return -ECONNREFUSED;
	case EACCES:
	case EPERM:
		return -EACCES;
	case EAGAIN: /* of connect(): nobody accepted in time */
		return -ETIMEDOUT;
	case EPIPE:
		return -ECONNRESET;
	default:
		return -err;
	}
}

static int http_connect(struct http *h)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	unsigned int ms = h->call->connect_ms;
	const struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	int res;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", h->call->socket_path);
	h->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (h->fd < 0)
		return -errno;
	/* Blocking: a Unix socket does not connect in the background. */
	setsockopt(h->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	do
		res = connect(h->fd, (const struct sockaddr *)&addr, sizeof(addr));
	while (res && errno == EINTR);
	return res ? socket_error(errno) : 0;
}

static int http_wait(const struct http *h, short events)
{
	struct pollfd poll_fd = { .fd = h->fd, .events = events };
	int timeout = -1, n;

	do {
		if (h->deadline) {
			uint64_t now = now_ms();

			if (now >= h->deadline)
				return -ETIMEDOUT;
			timeout = (int)(h->deadline - now);
		}
		n = poll(&poll_fd, 1, timeout);
	} while (!n || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

static int http_send(const struct http *h, const char *data, size_t len)
{
	while (len) {
		int res = http_wait(h, POLLOUT);
		ssize_t n;

		if (res)
			return res;
		n = send(h->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return socket_error(errno);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* Reads on: how many bytes came, 0 at the end, or -errno. */
static int http_fill(struct http *h)
{
	if (h->at == h->end)
		h->at = h->end = 0;
	if (h->at) {
		memmove(h->buf, h->buf + h->at, h->end - h->at);
		h->end -= h->at;
		h->at = 0;
	}
	if (h->end == sizeof(h->buf))
		return -EBADMSG; /* a line that has no end */
	for (;;) {
		int res = http_wait(h, POLLIN);
		ssize_t n;

		if (res)
			return res;
		n = recv(h->fd, h->buf + h->end, sizeof(h->buf) - h->end, MSG_DONTWAIT);
		if (n >= 0) {
			h->end += (size_t)n;
			return (int)n;
		}
		if (errno != EAGAIN && errno != EINTR)
			return socket_error(errno);
	}
}

/* The next line without its end; valid until more is read. */
static int http_line(struct http *h, const char **line)
{
	size_t seen = 0;

	for (;;) {
		char *end = memchr(h->buf + h->at + seen, '\n', h->end - h->at - seen);
		int res;

		if (end) {
			*line = h->buf + h->at;
			h->at = (size_t)(end - h->buf) + 1;
			if (end > *line && end[-1] == '\r')
				end--;
			*end = '\0';
			return 0;
		}
		seen = h->end - h->at;
		res = http_fill(h);
		if (res <= 0)
			return res ? res : -ECONNRESET;
	}
}

/* ---- the call ------------------------------------------------------------------------------------ */

static int request_send(const struct http *h)
{
	const struct http_call *call = h->call;
	char *head = NULL;
	int len, res;

	len = asprintf(&head,
		       "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		       call->method, call->path, call->body_len);
	if (len < 0)
		return -ENOMEM;
	res = http_send(h, head, (size_t)len);
	free(head);
	if (!res)
		res = http_send(h, call->body, call->body_len);
	/* One that refuses a body without reading all of it has answered before it hung up. */
	return res == -ECONNRESET ? 0 : res;
}

static int header_parse(struct head *head, const char *line)
{
	const char *value = strchr(line, ':');
	size_t len = value ? (size_t)(value - line) : 0;
	char *end;

	if (!len)
		return -EBADMSG;
	value += 1 + strspn(value + 1, " \t");
	if (len == 14 && !strncasecmp(line, "Content-Length", len)) {
		head->length = strtoull(value, &end, 10);
		head->has_length = true;
		return end == value || *end ? -EBADMSG : 0;
	}
	if (len == 17 && !strncasecmp(line, "Transfer-Encoding", len)) {
		head->chunked = !strcasecmp(value, "chunked");
		return head->chunked ? 0 : -EBADMSG;
	}
	return 0;
}

static int head_read_one(struct http *h, struct head *head)
{
	const char *line;
	int res = http_line(h, &line);

	*head = (struct head){ 0 };
	if (res)
		return res;
	if (sscanf(line, "HTTP/1.%*1[0-9] %3d", &head->status) != 1 || head->status < 100)
		return -EBADMSG;
	for (int i = 0; i < HEADERS_MAX; i++) {
		res = http_line(h, &line);
		if (res || !*line)
			return res;
		res = header_parse(head, line);
		if (res)
			return res;
	}
	return -EBADMSG;
}

static int head_read(struct http *h, struct head *head)
{
	int res;

	do
		res = head_read_one(h, head);
	while (!res && head->status < 200); /* "Continue" and the like: the answer follows */
	return res;
}

/* Hands on len bytes of the body. */
static int body_take(struct http *h, int status, uint64_t len)
{
	while (len) {
		size_t n = h->end - h->at;
		int res;

		if (!n) {
			res = http_fill(h);
			if (res <= 0)
				return res ? res : -ECONNRESET;
			continue;
		}
		if (n > len)
			n = (size_t)len;
		res = h->call->take(h->call->arg, status, h->buf + h->at, n);
		if (res)
			return res;
		h->at += n;
		len -= n;
	}
	return 0;
}

static int body_take_chunks(struct http *h, int status)
{
	for (;;) {
		const char *line;
		uint64_t len;
		char *end;
		int res = http_line(h, &line);

		if (res)
			return res;
		len = strtoull(line, &end, 16);
		if (end == line || (*end && *end != ';' && *end != ' '))
			return -EBADMSG;
		if (!len)
			return 0; /* trailers say nothing to us */
		res = body_take(h, status, len);
		if (!res)
			res = http_line(h, &line);
		if (res)
			return res;
	}
}

static int body_take_rest(struct http *h, int status)
{
	int res;

	do {
		res = body_take(h, status, h->end - h->at);
		if (!res)
			res = http_fill(h);
	} while (res > 0);
	return res;
}

int http_run(const struct http_call *call)
{
	_cleanup_http_ struct http *h = malloc(sizeof(*h));
	struct head head;
	int res;

	if (!h)
		return -ENOMEM;
	h->call = call;
	h->fd = -1;
	h->at = h->end = 0;
	h->deadline = call->total_ms ? now_ms() + call->total_ms : 0;
	res = http_connect(h);
	if (!res)
		res = request_send(h);
	if (!res)
		res = head_read(h, &head);
	if (res)
		return res;
	if (head.status == 204 || head.status == 304) /* RFC 9112 6.3: never a body */
		return head.status;
	if (head.chunked)
		res = body_take_chunks(h, head.status);
	else if (head.has_length)
		res = body_take(h, head.status, head.length);
	else
		res = body_take_rest(h, head.status);
	return res ? res : head.status;
}
