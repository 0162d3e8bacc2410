/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The legitimate load of `./bench.sh flood`: HTTP requests at a rate that does not depend on the
 * answers, over kept connections or each over its own.
 *
 *   flood_load new|kept ADDRESS PORT RATE SECONDS    RATE 0: as fast as answers come
 *
 * Says "ready" when kept connections are open, and begins with a line on stdin. Then it prints one
 * JSON object: what was asked, and what was answered within a second of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 4096u
#define KEPT 64u
#define CLOSED_LOOP 64u /* requests at a time with RATE 0 */
#define LATE_NS 1000000000u

static const char ask_new[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
static const char ask_kept[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct slot {
	int fd;		/* -1: free */
	uint64_t begin; /* of its request; 0: none under way */
	bool connected;
	bool late; /* counted as failed; the answer may still come */
};

static struct slot slots[SLOTS];
static struct sockaddr_in to;
static int events;
static bool kept;
static uint64_t asked, answered, failed;

static void die(const char *what)
{
	fprintf(stderr, "flood_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void slot_close(struct slot *s)
{
	close(s->fd);
	*s = (struct slot){ .fd = -1 };
}

static void slot_open(struct slot *s)
{
	const struct linger none = { .l_onoff = 1 };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s };
	int one = 1;

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		die("socket");
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Ports come back at once: the client keeps no TIME_WAIT. */
	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	if (epoll_ctl(events, EPOLL_CTL_ADD, s->fd, &ev))
		die("epoll_ctl");
	if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
		slot_close(s);
		failed++;
	}
}

static void slot_send(struct slot *s)
{
	const char *text = kept ? ask_kept : ask_new;

	if (send(s->fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
		failed++;
		slot_close(s);
	}
}

/* A request by the next slot that has none under way; false: all are busy. */
static bool ask(void)
{
	static size_t next;
	size_t n = kept ? KEPT : SLOTS;

	for (size_t i = 0; i < n; i++) {
		struct slot *s = &slots[next++ % n];

		if (s->begin)
			continue;
		s->begin = now_ns();
		asked++;
		if (s->fd < 0)
			slot_open(s);
		else
			slot_send(s);
		return true;
	}
	return false;
}

static void slot_event(struct slot *s, uint32_t what, uint64_t now)
{
	char text[2048];
	ssize_t n;

	if (s->fd < 0)
		return;
	if (!s->connected && what & EPOLLOUT && !(what & (EPOLLERR | EPOLLHUP))) {
		s->connected = true;
		slot_send(s);
	}
	if (!(what & (EPOLLIN | EPOLLERR | EPOLLHUP)) || s->fd < 0)
		return;
	n = recv(s->fd, text, sizeof(text), 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n >= 6 && !memcmp(text + n - 6, "hello\n", 6)) {
		if (s->begin && !s->late) {
			answered += now - s->begin <= LATE_NS;
			failed += now - s->begin > LATE_NS;
		}
		s->begin = 0;
		s->late = false;
		if (!kept)
			slot_close(s);
		return;
	}
	failed += s->begin && !s->late;
	slot_close(s);
}

static void late_close(uint64_t now)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (slots[i].begin && !slots[i].late && now - slots[i].begin > LATE_NS) {
			failed++;
			slots[i].late = true;
			/* A kept connection waits for its answer; the next request takes another. */
			if (!kept)
				slot_close(&slots[i]);
		}
}

static size_t answered_slots(void)
{
	size_t n = 0;

	for (size_t i = 0; i < KEPT; i++)
		n += slots[i].fd >= 0 && slots[i].connected && !slots[i].begin;
	return n;
}

/*
 * Connections that the flood finds open; each has been asked once. The flood before may still be
 * felt, so what is not answered within a second is tried again.
 */
static void connections_keep(void)
{
	const uint64_t end = now_ns() + 60 * (uint64_t)LATE_NS;

	while (answered_slots() < KEPT) {
		struct epoll_event ev[KEPT];
		uint64_t now = now_ns();
		int n;

		if (now > end)
			die("the server does not answer");
		for (size_t i = 0; i < KEPT; i++) {
			if (slots[i].fd >= 0 && slots[i].begin && now - slots[i].begin > LATE_NS)
				slot_close(&slots[i]);
			if (slots[i].fd < 0) {
				slots[i].begin = now;
				slot_open(&slots[i]);
			}
		}
		n = epoll_wait(events, ev, KEPT, 20);
		for (int i = 0; i < n; i++)
			slot_event(ev[i].data.ptr, ev[i].events, now_ns());
	}
	asked = answered = failed = 0;
}

static void run(double rate, double seconds)
{
	const uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	uint64_t now, looked = begin, under_way, skipped = 0;

	while ((now = now_ns()) < end + (rate > 0 ? LATE_NS : 0)) {
		struct epoll_event ev[256];
		uint64_t due = (uint64_t)((double)(now - begin) * rate / 1e9);
		int n;

		under_way = asked - answered - failed;
		if (now < end) {
			while (rate > 0 && asked + skipped < due)
				if (!ask())
					skipped++;
			while (!(rate > 0) && under_way++ < CLOSED_LOOP && ask())
				;
		} else if (!under_way) {
			break;
		}
		n = epoll_wait(events, ev, 256, 1);
		for (int i = 0; i < n; i++)
			slot_event(ev[i].data.ptr, ev[i].events, now_ns());
		if (now - looked > LATE_NS / 20) {
			late_close(now);
			looked = now;
		}
	}
	printf("{\"asked\": %llu, \"answered\": %llu, \"failed\": %llu, \"seconds\": %.3f}\n",
	       (unsigned long long)asked + skipped, (unsigned long long)answered,
	       (unsigned long long)failed, seconds);
}

int main(int argc, char **argv)
{
	if (argc != 6 || (strcmp(argv[1], "new") && strcmp(argv[1], "kept"))) {
		fputs("usage: flood_load new|kept ADDRESS PORT RATE SECONDS\n", stderr);
		return 2;
	}
	kept = !strcmp(argv[1], "kept");
	to = (struct sockaddr_in){ .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)atoi(argv[3])) };
	if (inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		die(argv[2]);
	events = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < SLOTS; i++)
		slots[i].fd = -1;
	if (kept)
		connections_keep();
	puts("ready");
	fflush(stdout);
	if (getchar() != '\n')
		return 1;
	run(atof(argv[4]), atof(argv[5]));
	return 0;
}
