/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "api/metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "metrics.h"

#define CONNECTIONS_MAX 16u
#define BACKLOG 128
/* Who has a place and says nothing gives it up soon; Prometheus connects anew. */
#define IDLE_SECONDS 2u
#define CONNECTION_BYTES (4u << 10)
/* The text is made once in this time, however many ask: who asks too often costs little. */
#define FRESH_NS 500000000u
/* Between looks for connections that have been idle for too long. */
#define CHECK_MS 5000u

struct metrics_server {
	struct agent *a;
	struct MHD_Daemon *daemon;
	struct MHD_Response *response; /* the last one; NULL: none */
	uint64_t made;		       /* uv_hrtime() */
	uv_poll_t poll;
	uv_timer_t timer;
	int open_handles;
};

static struct MHD_Response *response_text(char *text, size_t len, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);

	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
					"text/plain; version=0.0.4; charset=utf-8");
	else if (mode == MHD_RESPMEM_MUST_FREE)
		free(text);
	return response;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status,
			      const char *why)
{
	/* MHD only reads it. */
	struct MHD_Response *response =
		response_text((char *)why, strlen(why), MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result = MHD_NO;

	if (!response)
		return MHD_NO;
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static struct MHD_Response *response_now(struct metrics_server *m)
{
	uint64_t now = uv_hrtime();
	size_t len = 0;

	if (m->response && now - m->made < FRESH_NS)
		return m->response;
	char *text = metrics_text(m->a, &len);
	if (m->response)
		MHD_destroy_response(m->response);
	m->response = text ? response_text(text, len, MHD_RESPMEM_MUST_FREE) : NULL;
	m->made = now;
	return m->response;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *len, void **state)
{
	struct metrics_server *m = arg;
	struct MHD_Response *response;

	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	if (strcmp(url, "/metrics"))
		return refuse(connection, MHD_HTTP_NOT_FOUND, "only /metrics is here\n");
	/* The first call is before a body; there is to be none. */
	if (!*state) {
		*state = m;
		return MHD_YES;
	}
	if (*len)
		return MHD_NO;
	response = response_now(m);
	if (!response)
		return MHD_NO;
	return MHD_queue_response(connection, MHD_HTTP_OK, response);
}

static void on_timer(uv_timer_t *timer)
{
	struct metrics_server *m = timer->data;
	MHD_UNSIGNED_LONG_LONG ms = 0;

	MHD_run(m->daemon);
	if (MHD_get_timeout(m->daemon, &ms) != MHD_YES || ms > CHECK_MS)
		ms = CHECK_MS;
	uv_timer_start(timer, on_timer, ms, 0);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct metrics_server *m = poll->data;

	on_timer(&m->timer);
}

static int socket_listen(const struct agent_options *opts, int *out, char *err, size_t err_len)
{
	const struct sockaddr *addr = (const struct sockaddr *)&opts->metrics;
	int on = 1, res = 0;
	int sock = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (sock < 0)
		res = -errno;
	if (!res && setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		res = -errno;
	/* [::] is IPv6: who wants both says so twice, on two ports, or asks a proxy. */
	if (!res && addr->sa_family == AF_INET6 &&
	    setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)))
		res = -errno;
	if (!res && bind(sock, addr, opts->metrics_len))
		res = -errno;
	if (!res && listen(sock, BACKLOG))
		res = -errno;
	if (!res) {
		*out = sock;
		return 0;
	}
	snprintf(err, err_len,
		 "cannot listen on %s for metrics: %s; choose another address or port with "
		 "--metrics",
		 opts->metrics_text, strerror(-res));
	if (sock >= 0)
		close(sock);
	return res;
}

int metrics_server_new(struct metrics_server **out, struct agent *a, char *err, size_t err_len)
{
	struct metrics_server *m;
	int sock = -1, res;

	if (!a->opts->metrics_len)
		return 0;
	res = socket_listen(a->opts, &sock, err, err_len);
	if (res)
		return res;
	m = calloc(1, sizeof(*m));
	if (m)
		m->daemon = MHD_start_daemon(
			MHD_USE_EPOLL, 0, NULL, NULL, on_request, m, MHD_OPTION_LISTEN_SOCKET, sock,
			MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
			IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
			MHD_OPTION_END);
	if (!m || !m->daemon) {
		snprintf(err, err_len, "cannot start the HTTP server on %s", a->opts->metrics_text);
		close(sock);
		free(m);
		return -EIO;
	}
	m->a = a;
	uv_poll_init(&a->loop, &m->poll,
		     MHD_get_daemon_info(m->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	uv_timer_init(&a->loop, &m->timer);
	m->poll.data = m->timer.data = m;
	m->open_handles = 2;
	uv_poll_start(&m->poll, UV_READABLE, on_ready);
	uv_timer_start(&m->timer, on_timer, CHECK_MS, 0);
	*out = m;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct metrics_server *m = handle->data;

	if (!--m->open_handles)
		free(m);
}

void metrics_server_free(struct metrics_server *m)
{
	if (!m)
		return;
	uv_poll_stop(&m->poll);
	MHD_stop_daemon(m->daemon);
	if (m->response)
		MHD_destroy_response(m->response);
	uv_close((uv_handle_t *)&m->poll, handle_closed);
	uv_close((uv_handle_t *)&m->timer, handle_closed);
}
