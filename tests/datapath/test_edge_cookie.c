/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* SYN cookies made and checked by the XDP program: frames against sockets of a real namespace. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <edge_limit.h>

#include "edge_lab.h"
#include "lab.h"

#define PORT 80
#define MSS4 1460
#define MSS6 1440
#define SCALE 7

static int listener = -1;

static void listen_here(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };

	listener = socket(AF_INET6, SOCK_STREAM, 0);
	assert_true(listener >= 0);
	/* Connections of the test before may be in TIME_WAIT. */
	assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)),
			 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(listener, 64), 0);
}

static void cookies_apply(struct edge *edge, uint32_t above, const struct edge_limit *limit,
			  enum tw_edge_cookie_mode mode)
{
	const struct edge_cookies cookies = { PORT, PORT, above };
	const struct edge_limits limits = {
		.limit = limit,
		.n = limit ? 1 : 0,
		.cookies = &cookies,
		.n_cookies = 1,
		.settings = { .mode = (uint8_t)mode,
			      .timestamps = 1,
			      .sack = 1,
			      .window_scale = SCALE,
			      .mss = { MSS4, MSS6 } },
	};
	char err[256] = "";

	if (edge_limits_apply(edge, &limits, err, sizeof(err)))
		fail_msg("%s", err);
}

static int setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = settings.limits = 1;
	*state = edge_lab_open(&settings);
	listen_here();
	cookies_apply(*state, 0, NULL, TW_EDGE_COOKIE_ASSIGN);
	return 0;
}

static int teardown(void **state)
{
	close(listener);
	edge_close(*state);
	return 0;
}

/* ---- segments ------------------------------------------------------------------------------- */

/* Puts TCP options behind the header, and right lengths into the headers before. */
static void options_add(struct frame *frame, int family, const uint8_t *options, size_t len)
{
	size_t l3 = 14, l4 = l3 + (family == 4 ? 20 : 40);
	uint16_t *length = (uint16_t *)(frame->data + l3 + (family == 4 ? 2 : 4));

	memmove(frame->data + l4 + 20 + len, frame->data + l4 + 20, frame->len - l4 - 20);
	memcpy(frame->data + l4 + 20, options, len);
	frame->data[l4 + 12] = (uint8_t)((20 + len) / 4 << 4);
	*length = htons((uint16_t)(ntohs(*length) + len));
	frame->len += len;
}

struct segment {
	uint32_t seq, ack;
	uint8_t off, flags;
	uint16_t window;
	uint8_t options[40];
	size_t options_len;
};

static void segment_read(const struct frame *frame, int family, struct segment *out)
{
	const uint8_t *l4 = frame->data + 14 + (family == 4 ? 20 : 40);

	memcpy(&out->seq, l4 + 4, 4);
	memcpy(&out->ack, l4 + 8, 4);
	out->seq = ntohl(out->seq);
	out->ack = ntohl(out->ack);
	out->off = l4[12] >> 4;
	out->flags = l4[13];
	out->window = (uint16_t)(l4[14] << 8 | l4[15]);
	out->options_len = out->off * 4u - 20;
	memcpy(out->options, l4 + 20, out->options_len);
}

static void numbers_set(struct frame *frame, int family, uint32_t seq, uint32_t ack)
{
	uint8_t *l4 = frame->data + 14 + (family == 4 ? 20 : 40);

	seq = htonl(seq);
	ack = htonl(ack);
	memcpy(l4 + 4, &seq, 4);
	memcpy(l4 + 8, &ack, 4);
}

#define ISN 0x12345678u
static const struct spec syn_spec = { TCP, OUTSIDE, NODE, 4000, PORT, SYN };
static const struct spec ack_spec = { TCP, OUTSIDE, NODE, 4000, PORT, ACK };

/* Sends a SYN, which must be answered; its sequence number. */
static uint32_t cookie_get(struct edge *edge, int family, const uint8_t *options, size_t len,
			   struct edge_outcome *got)
{
	struct segment answer;
	struct frame frame;

	frame_build(&frame, family, &syn_spec);
	options_add(&frame, family, options, len);
	numbers_set(&frame, family, ISN, 0);
	edge_lab_run(edge, &frame, got);
	assert_int_equal(got->action, XDP_TX);
	assert_int_equal(got->counter, TW_EDGE_SYN_COOKIE);
	segment_read(&got->out, family, &answer);
	return answer.seq;
}

static void ack_send(struct edge *edge, int family, uint32_t seq, uint32_t ack,
		     struct edge_outcome *got)
{
	struct frame frame;

	frame_build(&frame, family, &ack_spec);
	numbers_set(&frame, family, seq, ack);
	edge_lab_run(edge, &frame, got);
}

/* ---- answers ---------------------------------------------------------------------------------- */

#define BYTES(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })
#define TSVAL 0xaa, 0xbb, 0xcc, 0xdd
#define NO_STAMP 0xff

/* What a client may ask for, and what of it is kept. */
static const struct {
	const char *name;
	const uint8_t *options;
	size_t len;
	bool timestamps, sack;
	uint8_t scale; /* 15: none */
} asks[] = {
	{ "nothing", (const uint8_t[]){ 0 }, 0, false, false, 15 },
	{ "MSS", BYTES(2, 4, 5, 0xb4), false, false, 15 },
	{ "Linux", BYTES(2, 4, 5, 0xb4, 4, 2, 8, 10, TSVAL, 0, 0, 0, 0, 1, 3, 3, 9), true, true,
	  9 },
	{ "macOS", BYTES(2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, TSVAL, 0, 0, 0, 0, 4, 2, 0, 0),
	  true, true, 6 },
	{ "Windows", BYTES(2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2), false, false, 15 },
	{ "timestamps alone", BYTES(8, 10, TSVAL, 0, 0, 0, 0, 1, 1), true, false, 15 },
	{ "no SACK", BYTES(2, 4, 5, 0xb4, 1, 1, 8, 10, TSVAL, 0, 0, 0, 0, 1, 3, 3, 0), true, false,
	  0 },
	{ "a scale beyond RFC 7323", BYTES(1, 1, 8, 10, TSVAL, 0, 0, 0, 0, 1, 3, 3, 200), true,
	  false, 14 },
	{ "only padding",
	  BYTES(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
	  false, false, 15 },
	{ "an option of length 0", BYTES(2, 4, 5, 0xb4, 8, 0, 3, 3), false, false, 15 },
	{ "an option beyond the header", BYTES(2, 4, 5, 0xb4, 1, 1, 8, 10), false, false, 15 },
	{ "behind the end", BYTES(0, 0, 8, 10, TSVAL, 0, 0, 0, 0, 1), false, false, 15 },
};

static void options_check(const struct segment *answer, int family, size_t ask)
{
	uint16_t mss = family == 4 ? MSS4 : MSS6;
	uint8_t want[20] = { 2, 4, (uint8_t)(mss >> 8), (uint8_t)mss };

	if (!asks[ask].timestamps) {
		assert_int_equal(answer->options_len, 4);
		assert_memory_equal(answer->options, want, 4);
		return;
	}
	const bool scale = asks[ask].scale < 15;
	const uint8_t stamp[8] = { asks[ask].sack ? 4 : 1, asks[ask].sack ? 2 : 1, 8, 10 };
	const uint8_t rest[8] = { TSVAL, 1, scale ? 3 : 1, scale ? 3 : 1, scale ? SCALE : 1 };

	memcpy(want + 4, stamp, 4);
	memcpy(want + 8, answer->options + 8, 4); /* the time, but for what it keeps */
	want[11] = (uint8_t)((want[11] & 0xc0) | (asks[ask].sack ? 0x10 : 0) | asks[ask].scale);
	memcpy(want + 12, rest, 8);
	assert_int_equal(answer->options_len, sizeof(want));
	assert_memory_equal(answer->options, want, sizeof(want));
}

static void a_syn_is_answered_by_a_whole_syn_ack(void **state)
{
	for (size_t i = 0; i < 2 * sizeof(asks) / sizeof(asks[0]); i++) {
		int family = i % 2 ? 6 : 4;
		struct tw_tuple tuple;
		struct edge_outcome got;
		struct segment answer;
		struct frame frame;
		struct view v;

		cookie_get(*state, family, asks[i / 2].options, asks[i / 2].len, &got);
		frame_build(&frame, family, &syn_spec);
		spec_tuple(&syn_spec, family, &tuple);
		assert_int_equal(frame_view(&got.out, &v), 0);
		segment_read(&got.out, family, &answer);
		if (!v.checksums_right)
			fail_msg("IPv%d, %s: a checksum is wrong", family, asks[i / 2].name);
		assert_memory_equal(&v.tuple.saddr, &tuple.daddr, 16);
		assert_memory_equal(&v.tuple.daddr, &tuple.saddr, 16);
		assert_int_equal(v.tuple.sport, tuple.dport);
		assert_int_equal(v.tuple.dport, tuple.sport);
		assert_int_equal(v.ttl, 64);
		assert_memory_equal(v.dmac, frame.data + 6, 6);
		assert_memory_equal(v.smac, frame.data, 6);
		assert_int_equal(answer.flags, SYN | ACK);
		assert_int_equal(answer.ack, ISN + 1);
		options_check(&answer, family, i / 2);
		size_t whole = v.l4 + 20 + answer.options_len;
		assert_int_equal(got.out.len, whole < 60 ? 60 : whole);
	}
}

/* A SYN with data, and one behind a VLAN tag or IPv4 options: the answer has none of the data. */
static void odd_but_whole_syns_are_answered(void **state)
{
	const struct spec data = EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, SYN, .payload = 900);
	const struct spec tagged = EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, SYN, .vlan = true);
	const struct spec optioned = EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, SYN, .headers = 2);
	struct edge_outcome got;
	struct frame frame;
	struct view v;

	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, &data);
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.action, XDP_TX);
		assert_int_equal(got.out.len, family == 4 ? 60 : 78);
		assert_int_equal(frame_view(&got.out, &v), 0);
		assert_true(v.checksums_right);
		frame_build(&frame, family, &tagged);
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.action, XDP_TX);
		assert_memory_equal(got.out.data + 12, frame.data + 12, 4);
	}
	frame_build(&frame, 4, &optioned);
	edge_lab_run(*state, &frame, &got);
	assert_int_equal(got.action, XDP_TX);
	assert_int_equal(got.out.data[14], 0x45);
	assert_int_equal(frame_view(&got.out, &v), 0);
	assert_true(v.checksums_right);
}

static void syns_that_cannot_be_followed_are_dropped(void **state)
{
	const struct spec fragment = EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, SYN, .more = true,
					    .payload = 24, .frag_id = 3);
	const struct spec extended = EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, SYN, .headers = 1);
	struct edge_outcome got;
	struct frame frame;

	EDGE_STEPS(*state, EDGE_STEP(fragment, DROP, TW_EDGE_ODD_SYN));
	frame_build(&frame, 6, &extended);
	edge_lab_run(*state, &frame, &got);
	assert_int_equal(got.counter, TW_EDGE_ODD_SYN);
}

/* ---- what comes back ------------------------------------------------------------------------------ */

static void only_a_valid_cookie_comes_through(void **state)
{
	struct edge *edge = *state;
	struct edge_outcome got;

	for (int family = 4; family <= 6; family += 2) {
		uint32_t cookie = cookie_get(edge, family, BYTES(2, 4, 5, 0xb4), &got);

		ack_send(edge, family, ISN + 1, cookie + 1, &got);
		assert_int_equal(got.action, XDP_PASS);
		/* Again: a retransmission, or the first data behind an ACK that was lost. */
		ack_send(edge, family, ISN + 1, cookie + 1, &got);
		assert_int_equal(got.action, XDP_PASS);
		/* Guessed, of another connection, and older than the kernel takes them. */
		static const struct {
			uint32_t seq, ack;
		} bad[] = { { 0, 64 },		{ 0, 0x00800000 },    { 64, 0 },      { 0, -64 },
			    { 0, -(3u << 24) }, { 0, -(100u << 24) }, { 0, 1u << 24 } };
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			ack_send(edge, family, ISN + 1 + bad[i].seq, cookie + 1 + bad[i].ack, &got);
			if (got.action != XDP_DROP || got.counter != TW_EDGE_BAD_COOKIE)
				fail_msg("IPv%d, cookie %zu: action %u, counter %u", family, i,
					 got.action, got.counter);
		}
	}
}

static void what_asks_for_no_cookie_passes(void **state)
{
	EDGE_STEPS(
		*state,
		/* No such listener, another port, another protocol. */
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT + 1, SYN), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT + 1, ACK), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, PORT), PASS, TW_EDGE_PASS),
		/* RST ends what it ends; SYN with FIN or ACK is no SYN. */
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, RST), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, PORT, RST | ACK), PASS, TW_EDGE_PASS));
	/* The listener goes: its SYNs are the stack's again, which answers with RST. */
	close(listener);
	listener = -1;
	EDGE_STEPS(*state, EDGE_STEP(syn_spec, PASS, TW_EDGE_PASS),
		   EDGE_STEP(ack_spec, PASS, TW_EDGE_PASS));
}

/* A connection to the node from itself, which is a connection to the program as any other. */
static int connection_make(int family, int *accepted, struct sockaddr_in6 *client)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	socklen_t len = sizeof(*client);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	place_addr(NODE, family, (union tw_addr *)&to.sin6_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	*accepted = accept(listener, NULL, NULL);
	assert_true(*accepted >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)client, &len), 0);
	return fd;
}

/* Each segment of an existing connection passes, and a SYN with its ports; no RST is provoked. */
static void existing_connections_are_let_alone(void **state)
{
	static const uint8_t flags[] = { ACK, PSH | ACK, FIN | ACK, RST | ACK, SYN };

	for (int family = 4; family <= 6; family += 2) {
		struct sockaddr_in6 client;
		struct edge_outcome got;
		struct frame frame;
		int accepted, fd = connection_make(family, &accepted, &client);

		for (size_t i = 0; i < sizeof(flags); i++) {
			frame_build(
				&frame, family,
				&EDGE_P(TCP, NODE, NODE, ntohs(client.sin6_port), PORT, flags[i]));
			edge_lab_run(*state, &frame, &got);
			if (got.action != XDP_PASS)
				fail_msg("IPv%d, flags %x: counter %u", family, flags[i],
					 got.counter);
		}
		/* Closed by this side first: TIME_WAIT is a connection, too. */
		close(accepted);
		close(fd);
		frame_build(&frame, family,
			    &EDGE_P(TCP, NODE, NODE, ntohs(client.sin6_port), PORT, SYN));
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.action, XDP_PASS);
	}
}

/* ---- when ------------------------------------------------------------------------------------------ */

static void cookies_begin_above_a_rate(void **state)
{
	struct edge *edge = *state;
	struct edge_cookie_count count;
	struct edge_outcome got;
	struct frame frame;

	cookies_apply(edge, 20, NULL, TW_EDGE_COOKIE_ASSIGN);
	frame_build(&frame, 4, &syn_spec);
	/* Before: SYNs and ACKs are the listener's. */
	ack_send(edge, 4, ISN + 1, 77, &got);
	assert_int_equal(got.action, XDP_PASS);
	assert_int_equal(edge_cookie_count_read(edge, 0, 20, &count), 0);
	assert_false(count.active);
	/* A second has 20 of them at most; on a slow machine a second may begin in between. */
	unsigned int passed = 0;
	do {
		edge_lab_run(edge, &frame, &got);
		passed += got.action == XDP_PASS;
	} while (got.action == XDP_PASS && passed < 2000);
	assert_int_equal(got.action, XDP_TX);
	assert_true(passed >= 20);
	assert_int_equal(edge_cookie_count_read(edge, 0, 20, &count), 0);
	assert_true(count.active);
	assert_int_equal(count.sum.answered, 1);
	ack_send(edge, 4, ISN + 1, 77, &got);
	assert_int_equal(got.counter, TW_EDGE_BAD_COOKIE);
}

/* Where listeners check cookies themselves, one real SYN a second keeps them at it. */
static void a_syn_a_second_goes_to_a_listener_that_checks(void **state)
{
	struct edge *edge = *state;
	unsigned int passed = 0;
	struct edge_outcome got;
	struct frame frame;

	cookies_apply(edge, 0, NULL, TW_EDGE_COOKIE_KERNEL);
	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, &syn_spec);
		edge_lab_run(edge, &frame, &got);
		assert_int_equal(got.action, XDP_PASS);
		for (int i = 0; i < 50; i++) {
			edge_lab_run(edge, &frame, &got);
			passed += got.action == XDP_PASS;
		}
	}
	assert_true(passed < 50);
	passed = 0;
	for (int i = 0; i < 200 && !passed; i++) {
		usleep(20000);
		edge_lab_run(edge, &frame, &got);
		passed += got.action == XDP_PASS;
	}
	assert_int_equal(passed, 1);
}

/* A SYN may be forged, so it costs its source nothing; a cookie that comes back does. */
static void limits_on_connections_count_cookies(void **state)
{
	const struct edge_limit limit = { .id = 1,
					  .source = true,
					  .prefix4 = 32,
					  .prefix6 = 128,
					  .last = 65535,
					  .proto = 6,
					  .kind = TW_EDGE_LIMIT_CONNECTIONS,
					  .rate = 1,
					  .seconds = 3600,
					  .burst = 2 };
	struct edge *edge = *state;
	struct edge_outcome got;

	cookies_apply(edge, 0, &limit, TW_EDGE_COOKIE_ASSIGN);
	for (int family = 4; family <= 6; family += 2) {
		uint32_t cookie = 0;

		for (int i = 0; i < 20; i++)
			cookie = cookie_get(edge, family, BYTES(2, 4, 5, 0xb4), &got);
		for (int i = 0; i < 3; i++) {
			ack_send(edge, family, ISN + 1, cookie + 1, &got);
			assert_int_equal(got.counter, i < 2 ? TW_EDGE_PASS : TW_EDGE_FIRST_LIMIT);
		}
	}
}

static int group_setup(void **state)
{
	(void)state;
	lab_netns();
	return 0;
}

int main(void)
{
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_syn_is_answered_by_a_whole_syn_ack),
		CASE(odd_but_whole_syns_are_answered),
		CASE(syns_that_cannot_be_followed_are_dropped),
		CASE(only_a_valid_cookie_comes_through),
		CASE(what_asks_for_no_cookie_passes),
		CASE(existing_connections_are_let_alone),
		CASE(cookies_begin_above_a_rate),
		CASE(a_syn_a_second_goes_to_a_listener_that_checks),
		CASE(limits_on_connections_count_cookies),
	};

	return cmocka_run_group_tests_name("edge_cookie", tests, group_setup, NULL);
}
