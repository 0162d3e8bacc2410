/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The two ends of a bench's traffic: a server that echoes, and clients that measure. IPv4.
 *
 *   ends serve PORT                     echoes TCP and UDP until it is killed
 *   ends bulk ADDR PORT SECONDS         one TCP connection at full speed
 *   ends ask ADDR PORT SECONDS          one TCP connection, a question after each answer
 *   ends connect ADDR PORT SECONDS      a connection, a question, the next connection
 *   ends fresh ADDR PORT BASE           questions by UDP, each from a port that was not used
 *                                       before: BASE to BASE + 1999
 *   ends watch ADDR PORT SECONDS        2 000 numbered datagrams a second; which came back
 *
 * Clients print one JSON object.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BULK 'b' /* the first byte of a connection whose bytes are only counted */
#define QUESTION 'q'
#define QUESTION_BYTES 64
#define FRESH_COUNT 2000
#define WATCH_PAUSE_NS 500000
#define SAMPLES_MAX (1u << 22)

static void die(const char *what)
{
	fprintf(stderr, "ends: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int socket_new(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if ((type & 0xf) == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* ---- server --------------------------------------------------------------------------------- */

static char bulk_fd[65536]; /* by descriptor: its bytes are only counted */

static void serve_udp(int fd)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char data[2048];
	ssize_t n;

	while ((n = recvfrom(fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from,
			     &len)) > 0) {
		sendto(fd, data, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, len);
		len = sizeof(from);
	}
}

static void serve_tcp(int fd)
{
	static char data[1 << 20];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		bulk_fd[fd] = 0;
		close(fd);
		return;
	}
	if (data[0] == BULK)
		bulk_fd[fd] = 1;
	if (!bulk_fd[fd])
		send(fd, data, (size_t)n, MSG_NOSIGNAL);
}

static void serve(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int udp = socket_new(SOCK_DGRAM), tcp = socket_new(SOCK_STREAM);
	int poller = epoll_create1(EPOLL_CLOEXEC), buffer = 8 << 20;

	setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	if (bind(udp, (struct sockaddr *)&at, sizeof(at)) ||
	    bind(tcp, (struct sockaddr *)&at, sizeof(at)) || listen(tcp, 1024))
		die("bind");
	epoll_ctl(poller, EPOLL_CTL_ADD, udp,
		  &(struct epoll_event){ .events = EPOLLIN, .data.fd = udp });
	epoll_ctl(poller, EPOLL_CTL_ADD, tcp,
		  &(struct epoll_event){ .events = EPOLLIN, .data.fd = tcp });
	for (;;) {
		struct epoll_event ev[64];
		int n = epoll_wait(poller, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;

			if (fd == udp) {
				serve_udp(fd);
			} else if (fd != tcp) {
				serve_tcp(fd);
			} else if ((fd = accept4(tcp, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
				if (fd >= (int)sizeof(bulk_fd))
					die("too many connections");
				epoll_ctl(
					poller, EPOLL_CTL_ADD, fd,
					&(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
			}
		}
	}
}

/* ---- clients -------------------------------------------------------------------------------- */

static int tcp_connect(const struct sockaddr_in *to)
{
	struct timeval patience = { 20, 0 };
	int fd = socket_new(SOCK_STREAM);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		die("connect");
	return fd;
}

static void ask(int fd)
{
	char data[QUESTION_BYTES];
	size_t got = 0;

	memset(data, QUESTION, sizeof(data));
	if (send(fd, data, sizeof(data), MSG_NOSIGNAL) != sizeof(data))
		die("send");
	while (got < sizeof(data)) {
		ssize_t n = recv(fd, data + got, sizeof(data) - got, 0);

		if (n <= 0)
			die("recv");
		got += (size_t)n;
	}
}

static void bulk(const struct sockaddr_in *to, double seconds)
{
	static char data[1 << 17];
	uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), bytes = 0;
	int fd = tcp_connect(to);

	memset(data, BULK, sizeof(data));
	while (now_ns() < end) {
		ssize_t n = send(fd, data, sizeof(data), MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		bytes += (uint64_t)n;
	}
	/* Without waiting for what is still in buffers: it is little, and the same for all. */
	printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes,
	       (double)(now_ns() - begin) / 1e9);
}

static int sample_order(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void report(uint32_t *ns, size_t n, uint64_t took)
{
	if (!n)
		die("no answer");
	qsort(ns, n, sizeof(*ns), sample_order);
	size_t middle = n / 2, last = n - 1 - n / 100;
	printf("{\"count\": %zu, \"seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", n,
	       (double)took / 1e9, ns[middle] / 1e3, ns[last] / 1e3);
}

static void questions(const struct sockaddr_in *to, double seconds, bool each_connects)
{
	uint32_t *ns = malloc(SAMPLES_MAX * sizeof(*ns));
	struct linger reset = { 1, 0 }; /* no TIME_WAIT: ports would run out */
	size_t n = 0;
	int fd = ns && !each_connects ? tcp_connect(to) : -1;

	if (!ns)
		die("malloc");
	if (fd >= 0)
		ask(fd);
	uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), at = begin, done;
	for (; n < SAMPLES_MAX && at < end; at = done) {
		if (each_connects)
			fd = tcp_connect(to);
		ask(fd);
		if (each_connects) {
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
			close(fd);
		}
		done = now_ns();
		ns[n++] = (uint32_t)(done - at);
	}
	report(ns, n, at - begin);
	free(ns);
}

static void pause_until(uint64_t ns)
{
	struct timespec at = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void fresh(const struct sockaddr_in *to, uint16_t base)
{
	static uint32_t ns[FRESH_COUNT];
	uint64_t begin = now_ns();
	char data[8];

	for (unsigned int i = 0; i < FRESH_COUNT; i++) {
		struct sockaddr_in from = { .sin_family = AF_INET,
					    .sin_port = htons((uint16_t)(base + i)) };
		struct pollfd p = { .fd = socket_new(SOCK_DGRAM), .events = POLLIN };

		if (bind(p.fd, (struct sockaddr *)&from, sizeof(from)))
			die("bind");
		uint64_t at = now_ns();
		sendto(p.fd, "fresh", 5, 0, (const struct sockaddr *)to, sizeof(*to));
		if (poll(&p, 1, 2000) != 1 || recv(p.fd, data, sizeof(data), 0) != 5)
			die("no answer to a datagram");
		ns[i] = (uint32_t)(now_ns() - at);
		close(p.fd);
	}
	report(ns, FRESH_COUNT, now_ns() - begin);
}

static unsigned long watch_collect(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	unsigned long n = 0;
	char data[64];

	if (poll(&p, 1, timeout_ms) > 0)
		while (recv(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
			n++;
	return n;
}

static void watch(const struct sockaddr_in *to, double seconds)
{
	uint64_t begin = now_ns(), at = begin, end = begin + (uint64_t)(seconds * 1e9);
	unsigned long sent = 0, answered = 0;
	int fd = socket_new(SOCK_DGRAM), buffer = 8 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		die("connect");
	for (; at < end; at += WATCH_PAUSE_NS) {
		sent += send(fd, &sent, sizeof(sent), 0) > 0;
		answered += watch_collect(fd, 0);
		pause_until(at + WATCH_PAUSE_NS);
	}
	for (int i = 0; i < 10 && answered < sent; i++)
		answered += watch_collect(fd, 50);
	printf("{\"sent\": %lu, \"answered\": %lu}\n", sent, answered);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	const char *what = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(what, "serve"))
		serve((uint16_t)atoi(argv[2]));
	if (argc != 5 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: ends serve PORT\n"
				"       ends bulk|ask|connect|watch ADDR PORT SECONDS\n"
				"       ends fresh ADDR PORT BASE\n");
		return 2;
	}
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	if (!strcmp(what, "bulk"))
		bulk(&to, atof(argv[4]));
	else if (!strcmp(what, "ask"))
		questions(&to, atof(argv[4]), false);
	else if (!strcmp(what, "connect"))
		questions(&to, atof(argv[4]), true);
	else if (!strcmp(what, "fresh"))
		fresh(&to, (uint16_t)atoi(argv[4]));
	else if (!strcmp(what, "watch"))
		watch(&to, atof(argv[4]));
	else
		return 2;
	return 0;
}
