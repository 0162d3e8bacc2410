/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The edge's token buckets: whom they charge, when they fill and drain, and forged sources. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <edge_limit.h>

#include "edge_lab.h"

#define DROPPED(slot) (TW_EDGE_FIRST_LIMIT + (slot))

/* An hour for a token: nothing comes back while a test runs. */
#define SLOW .rate = 1, .seconds = 3600

static int setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = settings.limits = 1;
	*state = edge_lab_open(&settings);
	return 0;
}

static int teardown(void **state)
{
	edge_close(*state);
	return 0;
}

#define EACH(bits4, bits6) .source = true, .prefix4 = bits4, .prefix6 = bits6
#define HOST EACH(32, 128)

/* A number and all ports, where a limit says nothing else. */
static struct edge_limit completed(const struct edge_limit *limit)
{
	struct edge_limit out = *limit;

	if (!out.id)
		out.id = 1;
	if (!out.first && !out.last)
		out.last = 65535;
	return out;
}

static int try_n(struct edge *edge, const struct edge_limit *limit, size_t n, char err[256])
{
	struct edge_limit all[4];
	struct edge_limits limits = { .limit = all, .n = n };

	assert_true(n <= 4);
	for (size_t i = 0; i < n; i++)
		all[i] = completed(&limit[i]);
	return edge_limits_apply(edge, &limits, err, 256);
}

static void apply_n(struct edge *edge, const struct edge_limit *limit, size_t n)
{
	char err[256] = "";

	if (try_n(edge, limit, n, err))
		fail_msg("%s", err);
}
#define APPLY(edge, ...)                                                                           \
	apply_n(edge, (const struct edge_limit[]){ __VA_ARGS__ },                                  \
		sizeof((const struct edge_limit[]){ __VA_ARGS__ }) / sizeof(struct edge_limit))

/* So many frames of a spec, of which the last are dropped by the slot. */
static void expect(struct edge *edge, const struct spec *spec, unsigned int pass, unsigned int drop,
		   uint32_t slot)
{
	struct edge_outcome got;
	struct frame frame;

	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, spec);
		for (unsigned int i = 0; i < pass + drop; i++) {
			edge_lab_run(edge, &frame, &got);
			if (got.action != (i < pass ? XDP_PASS : XDP_DROP) ||
			    got.counter != (i < pass ? TW_EDGE_PASS : DROPPED(slot)))
				fail_msg("IPv%d, frame %u: action %u, counter %u", family, i + 1,
					 got.action, got.counter);
		}
	}
}

#define UDP_FROM(place) (&EDGE_P(UDP, place, NODE, 4000, 53))

static void a_burst_passes_and_no_more(void **state)
{
	APPLY(*state, { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5 });
	expect(*state, UDP_FROM(OUTSIDE), 5, 3, 0);
	/* Another source has a bucket of its own. */
	expect(*state, UDP_FROM(OUTSIDE2), 5, 3, 0);
}

static void sources_of_a_prefix_share(void **state)
{
	APPLY(*state, { EACH(24, 64), .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5 });
	expect(*state, UDP_FROM(OUTSIDE), 3, 0, 0);
	expect(*state, UDP_FROM(OUTSIDE2), 2, 2, 0);
	expect(*state, UDP_FROM(OUTSIDE), 0, 1, 0);
	expect(*state, UDP_FROM(KEPT), 5, 1, 0);
}

/* /0: all of a family; the other one has its own. */
static void the_empty_prefix_is_everybody(void **state)
{
	APPLY(*state, { EACH(0, 0), .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 2 });
	expect(*state, UDP_FROM(OUTSIDE), 1, 0, 0);
	expect(*state, UDP_FROM(KEPT), 1, 1, 0);
}

static void bytes_are_those_of_frames(void **state)
{
	const struct spec big = EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 1400);
	struct edge_outcome got;
	struct frame frame;

	APPLY(*state,
	      { HOST, .kind = TW_EDGE_LIMIT_BYTES, .rate = 1000, .seconds = 3600, .burst = 14000 });
	for (int family = 4; family <= 6; family += 2) {
		uint64_t bytes = 0;

		frame_build(&frame, family, &big);
		do {
			edge_lab_run(*state, &frame, &got);
			bytes += frame.len;
		} while (got.action == XDP_PASS && bytes < 100000);
		assert_int_equal(got.counter, DROPPED(0));
		assert_in_range(bytes, 14001, 14000 + frame.len);
	}
}

static void connections_are_syns(void **state)
{
	APPLY(*state, { HOST, .kind = TW_EDGE_LIMIT_CONNECTIONS, SLOW, .burst = 3, .proto = 6 });
	expect(*state, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK), 8, 0, 0);
	expect(*state, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN | ACK), 8, 0, 0);
	expect(*state, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN), 3, 2, 0);
	expect(*state, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK), 8, 0, 0);
	expect(*state, UDP_FROM(OUTSIDE), 8, 0, 0);
}

static void only_its_ports_are_asked(void **state)
{
	APPLY(*state, { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 1, .proto = 17,
			.first = 53, .last = 54 });
	expect(*state, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 52), 4, 0, 0);
	expect(*state, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 55), 4, 0, 0);
	expect(*state, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 53, ACK), 4, 0, 0);
	expect(*state, &EDGE_P(UDP, OUTSIDE, NODE, 53, 4000), 4, 0, 0);
	expect(*state, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 54), 1, 1, 0);
	/* A fragment without ports is of no port. */
	expect(*state, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .frag_off = 64, .payload = 64), 4, 0,
	       0);
}

static void limits_on_all_ports_ask_every_packet(void **state)
{
	static const struct spec specs[] = {
		{ UDP, OUTSIDE, NODE, 4000, 53 },
		{ TCP, OUTSIDE, NODE, 4000, 80, ACK },
		{ ECHO, OUTSIDE, NODE, 7 },
		{ ESP, OUTSIDE, NODE },
		{ UDP, OUTSIDE, NODE, 4000, 53, .frag_off = 64, .payload = 64 },
	};

	APPLY(*state, { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5 });
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
		expect(*state, &specs[i], 1, 0, 0);
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
		expect(*state, &specs[i], 0, 1, 0);
}

static void a_total_is_of_all_sources(void **state)
{
	struct edge_outcome got;
	struct frame frame;

	APPLY(*state, { .slot = 7,
			.kind = TW_EDGE_LIMIT_PACKETS,
			SLOW,
			.burst = 4,
			.proto = 17,
			.first = 53,
			.last = 53 });
	for (unsigned int i = 0; i < 8; i++) {
		frame_build(&frame, i % 2 ? 6 : 4, UDP_FROM(i & 2 ? OUTSIDE : KEPT));
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.counter, i < 4 ? TW_EDGE_PASS : DROPPED(7));
	}
}

/* What a source's own limit cut is not taken from the others. */
static void sources_are_asked_before_totals(void **state)
{
	APPLY(*state, { .slot = 0, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 10 },
	      { HOST, .id = 2, .slot = 1, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 2 });
	expect(*state, UDP_FROM(OUTSIDE), 2, 50, 1);
	expect(*state, UDP_FROM(OUTSIDE2), 2, 50, 1);
	expect(*state, UDP_FROM(ROUTER), 1, 0, 1);
	expect(*state, UDP_FROM(KEPT), 0, 2, 0);
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Never more than burst and rate say, whatever the pace; and what the rate says comes back. */
static void tokens_come_back_at_the_rate(void **state)
{
	static const struct edge_limit each[] = {
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 50, .seconds = 1, .burst = 10 },
		{ .kind = TW_EDGE_LIMIT_PACKETS, .rate = 50, .seconds = 1, .burst = 10 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 3000, .seconds = 60, .burst = 10 },
	};

	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		struct edge_limit limit = each[i];
		struct edge_outcome got;
		struct frame frame;
		unsigned int passed = 0;
		double begin = seconds_now(), end, last = begin;

		limit.id = 100 + (uint32_t)i;
		apply_n(*state, &limit, 1);
		assert_int_equal(edge_limit_reset(*state, 0), 0);
		frame_build(&frame, 4, UDP_FROM(OUTSIDE));
		while (passed < 30) {
			edge_lab_run(*state, &frame, &got);
			end = seconds_now();
			if (got.action != XDP_PASS)
				continue;
			last = end;
			passed++;
			/* A jiffy's rounding is a token at most. */
			assert_true(passed <= 10 + (end - begin) * 50 + 1);
		}
		/* 20 tokens take 0.4 s where nothing else runs; a loaded machine is given 10 s. */
		assert_true(last - begin < 10);
	}
}

static void a_change_keeps_the_buckets_of_what_stays(void **state)
{
	const struct edge_limit one = { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 3 };
	struct edge_limit changed = one;

	apply_n(*state, &one, 1);
	expect(*state, UDP_FROM(OUTSIDE), 3, 1, 0);
	APPLY(*state, { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 3 },
	      { HOST, .id = 2, .slot = 1, .kind = TW_EDGE_LIMIT_BYTES, .rate = 1000,
		.seconds = 3600, .burst = 20000 });
	expect(*state, UDP_FROM(OUTSIDE), 0, 1, 0);
	/* Another limit has full buckets, also in the same place. */
	changed.id = 3;
	apply_n(*state, &changed, 1);
	expect(*state, UDP_FROM(OUTSIDE), 3, 1, 0);
	apply_n(*state, NULL, 0);
	expect(*state, UDP_FROM(OUTSIDE), 9, 0, 0);
}

static void what_is_no_limit_is_refused(void **state)
{
	static const struct edge_limit bad[] = {
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 0, .seconds = 1, .burst = 3 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 5, .seconds = 1, .burst = 0 },
		/* Less than comes in a jiffy, at any HZ. */
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 1000000, .seconds = 1,
		  .burst = 900 },
		{ HOST, .kind = TW_EDGE_LIMIT_BYTES, .rate = 5, .seconds = 1, .burst = 9999 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 25 },
		{ EACH(33, 128), .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5, .proto = 6, .first = 7,
		  .last = 6 },
		{ HOST, .kind = TW_EDGE_LIMIT_CONNECTIONS, SLOW, .burst = 5 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5, .first = 7, .last = 7 },
		{ HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 5, .slot = TW_EDGE_LIMITS },
	};
	const struct edge_limit good = { HOST, .kind = TW_EDGE_LIMIT_PACKETS, SLOW, .burst = 2 };

	apply_n(*state, &good, 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char err[256] = "";

		assert_int_equal(try_n(*state, &bad[i], 1, err), -EINVAL);
		assert_string_not_equal(err, "");
	}
	/* Nothing of them is in force. */
	expect(*state, UDP_FROM(OUTSIDE), 2, 1, 0);
}

/* ---- forged sources -------------------------------------------------------------------------- */

#define FORGED 1000000u
#define LEGIT 200u
#define HEAVY 20u
#define BURST 5u

static void source_set(struct frame *frame, int family, uint32_t n)
{
	if (family == 4) {
		n = htonl(n);
		memcpy(frame->data + 26, &n, 4);
		return;
	}
	/* The upper half of the address: /64 is what limits go by. */
	n = htonl(n);
	memcpy(frame->data + 22 + 4, &n, 4);
}

static uint32_t action_of(int fd, const struct frame *frame)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->data,
		    .data_size_in = (uint32_t)frame->len, .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	return opts.retval;
}

/*
 * A million sources, each once, between packets of sources that keep the limit and of some that
 * do not. Twice as many as there are buckets: debts have to be forgotten. Whoever keeps the limit
 * loses nothing, and whoever does not gets no more than it.
 */
static void flood(struct edge *edge, int family)
{
	int fd = edge_prog_fd(edge);
	unsigned int heavy_passed[HEAVY] = {}, legit_lost = 0, forged_lost = 0, legit = 0;
	struct edge_limit_count count;
	double begin = seconds_now(), most;
	struct frame frame;

	frame_build(&frame, family, UDP_FROM(OUTSIDE));
	for (uint32_t i = 0; i < FORGED; i++) {
		/* A permutation, so that neighbours are not neighbours. */
		source_set(&frame, family, 0x20000000 | (i * 0x9e3779b1u & 0xfffffff));
		forged_lost += action_of(fd, &frame) != XDP_PASS;
		if (i % (FORGED / (LEGIT * BURST)) == 0 && legit < LEGIT * BURST) {
			source_set(&frame, family, 0x0a000000 + legit++ % LEGIT);
			legit_lost += action_of(fd, &frame) != XDP_PASS;
		}
		if (i % 50 == 0) {
			source_set(&frame, family, 0x0b000000 + i / 50 % HEAVY);
			heavy_passed[i / 50 % HEAVY] += action_of(fd, &frame) == XDP_PASS;
		}
	}
	/* One token a minute. */
	most = BURST + (seconds_now() - begin) / 60 + 1;
	assert_int_equal(edge_limit_count_read(edge, 0, &count), 0);
	assert_int_equal(legit, LEGIT * BURST);
	print_message("IPv%d: forged lost %u, legit lost %u, debts forgotten %lu\n", family,
		      forged_lost, legit_lost, (unsigned long)count.forgotten);
	assert_int_equal(legit_lost, 0);
	for (uint32_t i = 0; i < HEAVY; i++) {
		assert_true(heavy_passed[i] >= BURST);
		assert_true(heavy_passed[i] <= most);
	}
	/* Tags that agree by chance make a source pay for another; see docs/design/edge.md. */
	assert_true(forged_lost < FORGED / 10000);
	assert_true(count.forgotten > 0);
}

static void a_million_forged_sources_harm_nobody_ipv4(void **state)
{
	APPLY(*state,
	      { HOST, .kind = TW_EDGE_LIMIT_PACKETS, .rate = 1, .seconds = 60, .burst = BURST });
	flood(*state, 4);
}

static void a_million_forged_sources_harm_nobody_ipv6(void **state)
{
	APPLY(*state, { EACH(32, 64), .kind = TW_EDGE_LIMIT_PACKETS, .rate = 1, .seconds = 60,
			.burst = BURST });
	flood(*state, 6);
}

int main(void)
{
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_burst_passes_and_no_more),
		CASE(sources_of_a_prefix_share),
		CASE(the_empty_prefix_is_everybody),
		CASE(bytes_are_those_of_frames),
		CASE(connections_are_syns),
		CASE(only_its_ports_are_asked),
		CASE(limits_on_all_ports_ask_every_packet),
		CASE(a_total_is_of_all_sources),
		CASE(sources_are_asked_before_totals),
		CASE(tokens_come_back_at_the_rate),
		CASE(a_change_keeps_the_buckets_of_what_stays),
		CASE(what_is_no_limit_is_refused),
		CASE(a_million_forged_sources_harm_nobody_ipv4),
		CASE(a_million_forged_sources_harm_nobody_ipv6),
	};

	return cmocka_run_group_tests_name("edge_limit", tests, NULL, NULL);
}
