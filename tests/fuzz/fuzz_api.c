// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * libFuzzer: requests on the agent's socket. An input is "METHOD PATH?QUERY", a line break and
 * the body; an input that begins with '!' goes out as it is, so the head can be anything too.
 * Every request has an answer, what is refused says why in words, and nothing that a client
 * sends is an error of the agent's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/internal.h"
#include "fuzz.h"
#include "fuzz_agent.h"

#define REQUEST_MAX 60000u /* what the socket's buffer takes at once */
#define ANSWER_MAX (4u << 20)
#define ROUNDS_MAX 20000

static int client_connect(const struct agent *a)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.90s/towpath.sock", a->opts->run_dir);
	fuzz_check(fd >= 0);
	fuzz_check(!connect(fd, (const struct sockaddr *)&sun, sizeof(sun)));
	return fd;
}

/* Head and body in buf; returns the length. */
static size_t request_make(const uint8_t *data, size_t size, char *buf, size_t room)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t line = end ? (size_t)(end - data) : size;
	size_t body = end ? size - line - 1 : 0;
	int head = snprintf(buf, room,
			    "%.*s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			    "Content-Length: %zu\r\n\r\n",
			    (int)line, (const char *)data, body);

	fuzz_check(head > 0 && (size_t)head + body < room);
	if (body)
		memcpy(buf + head, end + 1, body);
	return (size_t)head + body;
}

/* Lets the server work till it has closed the connection. Returns the length, with a NUL behind. */
static size_t answer_read(struct agent *a, int fd, char *buf)
{
	size_t n = 0;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		api_run(a->api);
		ssize_t got = recv(fd, buf + n, ANSWER_MAX - 1 - n, MSG_DONTWAIT);

		if (!got || (got < 0 && errno != EAGAIN))
			break;
		if (got > 0)
			n += (size_t)got;
		fuzz_check(n < ANSWER_MAX - 1);
		/* A stream that follows has no end; half closed, it is the server that ends it. */
		if (got < 0 && round > 4)
			break;
	}
	buf[n] = '\0';
	return n;
}

/* The first answer; a raw request may be several. */
static void answer_check(const char *answer, size_t n)
{
	const char *body = strstr(answer, "\r\n\r\n");
	const char *length = strcasestr(answer, "\r\nContent-Length: ");
	const char *json_type = strcasestr(answer, "\r\nContent-Type: application/json\r\n");
	size_t body_len;
	int status = 0;
	json_t *json;

	/* The server's own refusals (no HTTP, too long a head) are not ours to judge. */
	if (!body || sscanf(answer, "HTTP/1.1 %d", &status) != 1 || !json_type ||
	    json_type > body || !length || length > body)
		return;
	fuzz_check(status == 200 || (status >= 400 && status < 500) || status == 503 ||
		   status == 507);
	body += 4;
	body_len = strtoul(length + strlen("\r\nContent-Length: "), NULL, 10);
	if (body == answer + n)
		return; /* HEAD */
	fuzz_check(body_len <= n - (size_t)(body - answer));
	json = json_loadb(body, body_len, 0, NULL);
	if (!json)
		fprintf(stderr, "%s\n", answer);
	fuzz_check(json);
	if (status >= 400) {
		const char *text = json_string_value(json_object_get(json, "error"));

		fuzz_check(text && *text);
		fuzz_check(json_is_string(json_object_get(json, "code")));
	}
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char request[REQUEST_MAX + 1024], answer[ANSWER_MAX];
	struct agent *a = fuzz_agent();
	size_t n;
	int fd;

	if (!size || size > REQUEST_MAX)
		return 0;
	fd = client_connect(a);
	if (*data == '!') {
		n = size - 1;
		memcpy(request, data + 1, n);
	} else {
		n = request_make(data, size, request, sizeof(request));
	}
	/* The server may refuse before it has read all. */
	send(fd, request, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
	n = answer_read(a, fd, answer);
	answer_check(answer, n);
	close(fd);
	/* The server's side goes, and with it what a stream holds. */
	streams_resume(a->api, true);
	for (int i = 0; i < 4; i++)
		api_run(a->api);
	fuzz_agent_reset(a);
	return 0;
}
