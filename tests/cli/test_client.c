/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The API client against a real HTTP server on a Unix socket, as the agent has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <threads.h>
#include <unistd.h>
#include <towpath/client.h>

#define LONG_LINE 70000 /* longer than any buffer on the way */
#define SHORT_LINES 25	/* bytes before the long one */

struct server {
	char dir[64];
	char path[108];
	struct MHD_Daemon *daemon;
	struct tw_client *client;
};

/* A request's body, collected over MHD's calls. */
struct request {
	char *body;
	size_t n;
};

static enum MHD_Result answer(struct MHD_Connection *c, unsigned int status, const char *text)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result ret = MHD_queue_response(c, status, r);

	MHD_destroy_response(r);
	return ret;
}

/* One line a call but cut in the middle, then a very long one, then one without its newline. */
static ssize_t lines_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	static const char *const pieces[] = { "{\"n\":1}\n{\"n\"", ":2}\n", "\n{\"n\":3}\n" };
	unsigned int *turn = arg;
	unsigned int t = (*turn)++;

	if (t < 3) {
		size_t len = strlen(pieces[t]);

		memcpy(buf, pieces[t], len);
		return (ssize_t)len;
	}
	if (pos < SHORT_LINES + LONG_LINE) {
		size_t n = SHORT_LINES + LONG_LINE - pos;

		if (n > max)
			n = max;
		memset(buf, 'x', n);
		return (ssize_t)n;
	}
	if (pos == SHORT_LINES + LONG_LINE) {
		memcpy(buf, "\nlast", 5);
		return 5;
	}
	return MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t broken_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result answer_stream(struct MHD_Connection *c, MHD_ContentReaderCallback fn)
{
	struct MHD_Response *r = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, 4096, fn, calloc(1, sizeof(unsigned int)), free);
	enum MHD_Result ret = MHD_queue_response(c, 200, r);

	MHD_destroy_response(r);
	return ret;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *url,
			      const char *method, const char *version, const char *data, size_t *n,
			      void **state)
{
	struct request *req = *state;
	char text[256];

	if (!req) {
		*state = calloc(1, sizeof(*req));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*n) {
		char *body = realloc(req->body, req->n + *n + 1);

		if (!body)
			return MHD_NO;
		req->body = body;
		memcpy(req->body + req->n, data, *n);
		req->n += *n;
		req->body[req->n] = '\0';
		*n = 0;
		return MHD_YES;
	}
	if (!strcmp(url, "/echo"))
		return answer(c, 200, req->body ? req->body : "null");
	if (!strcmp(url, "/method")) {
		snprintf(text, sizeof(text), "{\"method\":\"%s\",\"expect\":%s}", method,
			 MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Expect") ? "true"
										   : "false");
		return answer(c, 200, text);
	}
	if (!strcmp(url, "/refused"))
		return answer(c, 400, "{\"error\":\"the port is out of range\",\"line\":3}");
	if (!strcmp(url, "/bare"))
		return answer(c, 500, "{}");
	if (!strcmp(url, "/empty"))
		return answer(c, 204, "");
	if (!strcmp(url, "/text"))
		return answer(c, 200, "<html>It works!</html>");
	if (!strcmp(url, "/lines"))
		return answer_stream(c, lines_read);
	if (!strcmp(url, "/broken"))
		return answer_stream(c, broken_read);
	if (!strcmp(url, "/slow")) {
		usleep(400000);
		return answer(c, 200, "{}");
	}
	return answer(c, 404, "{\"error\":\"no such call\"}");
}

static void request_done(void *arg, struct MHD_Connection *c, void **state,
			 enum MHD_RequestTerminationCode why)
{
	struct request *req = *state;

	if (req)
		free(req->body);
	free(req);
}

static void server_start(struct server *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->path);
	assert_return_code(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), errno);
	assert_return_code(listen(fd, 16), errno);
	s->daemon =
		MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
				 NULL, NULL, handle, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
				 MHD_OPTION_NOTIFY_COMPLETED, request_done, NULL, MHD_OPTION_END);
	assert_non_null(s->daemon);
}

static void server_stop(struct server *s)
{
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
	s->daemon = NULL;
	unlink(s->path);
}

static int setup(void **state)
{
	struct server *s = calloc(1, sizeof(*s));

	strcpy(s->dir, "/tmp/towpath-client-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
	server_start(s);
	assert_int_equal(tw_client_new(&s->client, s->path), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct server *s = *state;

	tw_client_free(s->client);
	server_stop(s);
	rmdir(s->dir);
	free(s);
	return 0;
}

static void test_body_goes_and_comes(void **state)
{
	struct server *s = *state;
	json_t *body = json_pack("{s:s, s:[i, i]}", "text", "a \"b\" \u00e9\n", "v", 1, 2);
	json_t *reply = NULL;

	/* Several on one connection: the second must not see what the first set. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(tw_client_call(s->client, "POST", "/echo", body, &reply), 200);
		assert_true(json_equal(body, reply));
		json_decref(reply);
		assert_int_equal(tw_client_call(s->client, "GET", "/method", NULL, &reply), 200);
		assert_string_equal(json_string_value(json_object_get(reply, "method")), "GET");
		json_decref(reply);
	}
	json_decref(body);
}

static void test_large_body_does_not_wait_for_continue(void **state)
{
	struct server *s = *state;
	char *text = calloc(1, 5000001);
	json_t *reply = NULL;

	memset(text, 'y', 5000000);
	json_t *body = json_pack("{s:s}", "text", text);

	assert_int_equal(tw_client_call(s->client, "POST", "/echo", body, &reply), 200);
	assert_true(json_equal(body, reply));
	json_decref(reply);
	assert_int_equal(tw_client_call(s->client, "POST", "/method", body, &reply), 200);
	assert_true(json_is_false(json_object_get(reply, "expect")));
	json_decref(reply);
	json_decref(body);
	free(text);
}

static void test_methods(void **state)
{
	struct server *s = *state;
	static const char *const methods[] = { "DELETE", "GET", "POST", "PUT" };

	for (size_t i = 0; i < 4; i++) {
		json_t *reply = NULL;

		assert_int_equal(tw_client_call(s->client, methods[i], "/method", NULL, &reply),
				 200);
		assert_string_equal(json_string_value(json_object_get(reply, "method")),
				    methods[i]);
		json_decref(reply);
	}
}

static void test_errors_have_their_sentence(void **state)
{
	struct server *s = *state;
	json_t *reply = NULL;

	assert_int_equal(tw_client_call(s->client, "GET", "/refused", NULL, &reply), 400);
	assert_int_equal(json_integer_value(json_object_get(reply, "line")), 3);
	assert_string_equal(tw_client_error(s->client, 400, reply), "the port is out of range");
	json_decref(reply);
	/* The client keeps it for callers that want no reply. */
	assert_int_equal(tw_client_call(s->client, "GET", "/nothing", NULL, NULL), 404);
	assert_string_equal(tw_client_error(s->client, 404, NULL), "no such call");
	assert_int_equal(tw_client_call(s->client, "GET", "/bare", NULL, NULL), 500);
	assert_non_null(strstr(tw_client_error(s->client, 500, NULL), "without a reason"));
}

static void test_empty_reply_is_no_json(void **state)
{
	struct server *s = *state;
	json_t *reply = (json_t *)s;

	assert_int_equal(tw_client_call(s->client, "GET", "/empty", NULL, &reply), 204);
	assert_null(reply);
}

static void test_what_is_no_agent_is_said(void **state)
{
	struct server *s = *state;
	json_t *reply = (json_t *)s;

	assert_int_equal(tw_client_call(s->client, "GET", "/text", NULL, &reply), -EBADMSG);
	assert_ptr_equal(reply, s); /* untouched */
	assert_non_null(strstr(tw_client_error(s->client, -EBADMSG, NULL), "not JSON"));
}

/* Takes one connection on the listening socket and sends a text, whatever it is asked. */
struct liar {
	int listen;
	const char *text;
	size_t len;
};

static int liar_run(void *arg)
{
	const struct liar *liar = arg;
	int fd = accept(liar->listen, NULL, NULL);
	size_t sent = 0;
	char request[1024];

	/* It comes in one send; to hang up on it unread would be an error of its own. */
	(void)!read(fd, request, sizeof(request));
	while (sent < liar->len) {
		ssize_t n = send(fd, liar->text + sent, liar->len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	close(fd);
	return 0;
}

static int ask_liar(struct server *s, const char *text, size_t len)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct liar liar = { .text = text, .len = len };
	thrd_t thread;
	int res;

	server_stop(s);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->path);
	liar.listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(bind(liar.listen, (struct sockaddr *)&addr, sizeof(addr)), errno);
	assert_return_code(listen(liar.listen, 1), errno);
	assert_int_equal(thrd_create(&thread, liar_run, &liar), thrd_success);
	res = tw_client_call(s->client, "GET", "/", NULL, NULL);
	thrd_join(thread, NULL);
	close(liar.listen);
	unlink(s->path);
	return res;
}

static void test_what_is_no_http_is_said(void **state)
{
	static char endless[200000];
	static const struct {
		const char *text;
		int res;
	} cases[] = {
		{ "", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nContent-Le", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12", -ECONNRESET },
		{ "SSH-2.0-OpenSSH\r\n\r\n", -EBADMSG },
		{ "HTTP/1.1 99 X\r\n\r\n", -EBADMSG },
		{ "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", -EBADMSG },
		{ "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", -EBADMSG },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", -EBADMSG },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", -EBADMSG },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		  200 },
		{ "HTTP/1.0 200 OK\r\n\r\n{}", 200 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(ask_liar(*state, cases[i].text, strlen(cases[i].text)),
				 cases[i].res);
	memset(endless, 'x', sizeof(endless));
	assert_int_equal(ask_liar(*state, endless, sizeof(endless)), -EBADMSG);
}

static void test_time_limit(void **state)
{
	struct server *s = *state;

	tw_client_timeout(s->client, 100);
	assert_int_equal(tw_client_call(s->client, "GET", "/slow", NULL, NULL), -ETIMEDOUT);
	tw_client_timeout(s->client, 5000);
	assert_int_equal(tw_client_call(s->client, "GET", "/slow", NULL, NULL), 200);
}

static void test_no_agent(void **state)
{
	struct server *s = *state;

	assert_int_equal(tw_client_call(s->client, "GET", "/empty", NULL, NULL), 204);
	server_stop(s);
	assert_int_equal(tw_client_call(s->client, "GET", "/empty", NULL, NULL), -ECONNREFUSED);
	assert_non_null(strstr(tw_client_error(s->client, -ECONNREFUSED, NULL), s->path));
	/* Back again: the same client goes on. */
	server_start(s);
	assert_int_equal(tw_client_call(s->client, "GET", "/empty", NULL, NULL), 204);
}

static void test_agent_that_dies_during_the_call(void **state)
{
	struct server *s = *state;

	assert_int_equal(tw_client_call(s->client, "GET", "/broken", NULL, NULL), -ECONNRESET);
}

static void test_proxy_of_the_environment_is_not_asked(void **state)
{
	struct server *s = *state;
	json_t *reply = NULL;

	setenv("http_proxy", "http://127.0.0.1:9/", 1);
	assert_int_equal(tw_client_call(s->client, "GET", "/method", NULL, &reply), 200);
	unsetenv("http_proxy");
	json_decref(reply);
}

static void test_long_socket_path(void **state)
{
	struct tw_client *c = NULL;
	char path[200];

	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(tw_client_new(&c, path), 0);
	assert_int_equal(tw_client_call(c, "GET", "/", NULL, NULL), -ENAMETOOLONG);
	assert_non_null(strstr(tw_client_error(c, -ENAMETOOLONG, NULL), "longer than"));
	tw_client_free(c);
}

static void test_socket_from_the_environment(void **state)
{
	struct server *s = *state;
	struct tw_client *c = NULL;

	setenv("TOWPATH_SOCKET", s->path, 1);
	assert_int_equal(tw_client_new(&c, NULL), 0);
	unsetenv("TOWPATH_SOCKET");
	assert_int_equal(tw_client_call(c, "GET", "/empty", NULL, NULL), 204);
	tw_client_free(c);
}

struct lines {
	unsigned int n, stop;
	size_t longest;
	char last[16];
};

static int line_take(void *arg, const char *line, size_t len)
{
	struct lines *l = arg;

	l->n++;
	if (len > l->longest)
		l->longest = len;
	snprintf(l->last, sizeof(l->last), "%.*s", (int)len, line);
	return l->n == l->stop;
}

static void test_stream_gives_whole_lines(void **state)
{
	struct server *s = *state;
	struct lines l = { 0 };

	assert_int_equal(tw_client_stream(s->client, "/lines", line_take, &l), 200);
	assert_int_equal(l.n, 5);
	assert_int_equal(l.longest, LONG_LINE);
	assert_string_equal(l.last, "last");
}

static void test_stream_ends_when_told(void **state)
{
	struct server *s = *state;
	struct lines l = { .stop = 2 };

	assert_int_equal(tw_client_stream(s->client, "/lines", line_take, &l), 200);
	assert_int_equal(l.n, 2);
	assert_string_equal(l.last, "{\"n\":2}");
	/* The client is of use afterwards. */
	assert_int_equal(tw_client_call(s->client, "GET", "/empty", NULL, NULL), 204);
}

static void test_stream_that_is_refused(void **state)
{
	struct server *s = *state;
	struct lines l = { 0 };

	assert_int_equal(tw_client_stream(s->client, "/refused", line_take, &l), 400);
	assert_int_equal(l.n, 0);
	assert_string_equal(tw_client_error(s->client, 400, NULL), "the port is out of range");
}

static void test_escape(void **state)
{
	char *text = tw_client_escape("a/b c?d=1&e%\u00e9.-_~Z9");

	assert_string_equal(text, "a%2Fb%20c%3Fd%3D1%26e%25%C3%A9.-_~Z9");
	free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_body_goes_and_comes),
		TEST(test_large_body_does_not_wait_for_continue),
		TEST(test_methods),
		TEST(test_errors_have_their_sentence),
		TEST(test_empty_reply_is_no_json),
		TEST(test_what_is_no_agent_is_said),
		TEST(test_what_is_no_http_is_said),
		TEST(test_time_limit),
		TEST(test_no_agent),
		TEST(test_agent_that_dies_during_the_call),
		TEST(test_proxy_of_the_environment_is_not_asked),
		cmocka_unit_test(test_long_socket_path),
		TEST(test_socket_from_the_environment),
		TEST(test_stream_gives_whole_lines),
		TEST(test_stream_ends_when_told),
		TEST(test_stream_that_is_refused),
		cmocka_unit_test(test_escape),
	};
#undef TEST

	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
