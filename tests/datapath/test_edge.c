/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The edge's parser and its ends, frame by frame. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "edge_lab.h"

/* With everything parsed, as any stage behind the filter needs it. */
static int parse_setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = 1;
	*state = edge_lab_open(&settings);
	return 0;
}

static int plain_setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	*state = edge_lab_open(&settings);
	return 0;
}

static int teardown(void **state)
{
	edge_close(*state);
	return 0;
}

static void ordinary_frames_pass(void **state)
{
	EDGE_STEPS(
		*state, EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(SCTP, OUTSIDE, NODE, 4000, 53), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(ECHO, OUTSIDE, NODE, 7), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(ICMP_OTHER, OUTSIDE, NODE), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(ESP, OUTSIDE, NODE), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .vlan = true), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 1400), PASS,
			  TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .more = true, .payload = 64,
				 .frag_id = 5),
			  PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .frag_off = 64, .payload = 64,
				 .frag_id = 5),
			  PASS, TW_EDGE_PASS));
}

static void what_is_not_ip_passes(void **state)
{
	EDGE_STEPS(*state, EDGE_STEP(EDGE_P(ARP, OUTSIDE, NODE), PASS, TW_EDGE_NOT_IP));
}

/* frame.h tags once; another tag goes before it. */
static void frame_tag(struct frame *frame, uint16_t proto)
{
	uint16_t tag[2] = { htons(proto), htons(7) };

	memmove(frame->data + 16, frame->data + 12, frame->len - 12);
	memcpy(frame->data + 12, tag, sizeof(tag));
	frame->len += sizeof(tag);
}

static void tags_are_followed_twice(void **state)
{
	static const uint32_t counters[] = { TW_EDGE_PASS, TW_EDGE_PASS, TW_EDGE_PASS,
					     TW_EDGE_VLAN_DEPTH };
	struct edge_outcome got;
	struct frame frame;

	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53));
		for (size_t tags = 0; tags < 4; tags++) {
			edge_lab_run(*state, &frame, &got);
			assert_int_equal(got.counter, counters[tags]);
			frame_tag(&frame, tags ? 0x88a8 : 0x8100);
		}
	}
}

/* Options and extension headers: the ports behind them are found, or the frame is dropped. */
static void options_are_followed(void **state)
{
	EDGE_STEPS(
		*state,
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .headers = 1), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 53, SYN, .headers = 6), PASS,
			  TW_EDGE_PASS));

	struct edge_outcome got;
	struct frame frame;

	frame_build(&frame, 6, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .headers = 7));
	edge_lab_run(*state, &frame, &got);
	assert_int_equal(got.action, XDP_DROP);
	assert_int_equal(got.counter, TW_EDGE_EXT_HEADERS);
}

/* At each length a frame is whole, or dropped as truncated; nothing is read behind its end. */
static void truncated_frames_are_dropped(void **state)
{
	static const struct spec specs[] = {
		{ TCP, OUTSIDE, NODE, 4000, 80, SYN },
		{ UDP, OUTSIDE, NODE, 4000, 80, .payload = 20 },
		{ SCTP, OUTSIDE, NODE, 4000, 80 },
		{ ECHO, OUTSIDE, NODE, 7 },
		{ UDP, OUTSIDE, NODE, 4000, 80, .vlan = true },
		{ UDP, OUTSIDE, NODE, 4000, 80, .headers = 3 },
		{ UDP, OUTSIDE, NODE, 4000, 80, .more = true, .frag_id = 3 },
	};
	struct edge_outcome got;
	struct frame frame;

	for (size_t i = 0; i < 2 * sizeof(specs) / sizeof(specs[0]); i++) {
		frame_build(&frame, i % 2 ? 6 : 4, &specs[i / 2]);
		size_t whole = frame.len;

		for (frame.len = 14; frame.len < whole; frame.len++) {
			edge_lab_run(*state, &frame, &got);
			if (got.action != XDP_DROP || got.counter != TW_EDGE_TRUNCATED)
				fail_msg("frame %zu, %zu of %zu bytes: action %u, counter %u", i,
					 frame.len, whole, got.action, got.counter);
		}
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
	}
}

struct damage {
	size_t at;
	uint8_t value;
	uint32_t counter;
};

static void damaged(struct edge *edge, int family, const struct spec *spec, const struct damage *d)
{
	struct edge_outcome got;
	struct frame frame;

	frame_build(&frame, family, spec);
	frame.data[d->at] = d->value;
	edge_lab_run(edge, &frame, &got);
	if (got.action != XDP_DROP || got.counter != d->counter)
		fail_msg("IPv%d, byte %zu as %02x: action %u, counter %u", family, d->at, d->value,
			 got.action, got.counter);
}

static void headers_that_contradict_are_dropped(void **state)
{
	static const struct spec tcp = { TCP, OUTSIDE, NODE, 4000, 80, SYN };
	static const struct damage ip4[] = {
		{ 14, 0x65, TW_EDGE_MALFORMED }, /* version 6 */
		{ 14, 0x44, TW_EDGE_MALFORMED }, /* a header of 16 bytes */
		{ 14, 0x4f, TW_EDGE_MALFORMED }, /* ... of 60, which is more than the packet */
		{ 17, 19, TW_EDGE_MALFORMED },	 /* shorter than its header */
		{ 17, 200, TW_EDGE_TRUNCATED },	 /* longer than the frame */
		{ 46, 0x40, TW_EDGE_MALFORMED }, /* a TCP header of 16 bytes */
		{ 23, 58, TW_EDGE_MALFORMED },	 /* ICMPv6 in IPv4 */
	};
	static const struct damage ip6[] = {
		{ 14, 0x45, TW_EDGE_MALFORMED }, /* version 4 */
		{ 19, 200, TW_EDGE_TRUNCATED },
		{ 66, 0x10, TW_EDGE_MALFORMED },
		{ 20, 1, TW_EDGE_MALFORMED }, /* ICMP in IPv6 */
	};

	for (size_t i = 0; i < sizeof(ip4) / sizeof(ip4[0]); i++)
		damaged(*state, 4, &tcp, &ip4[i]);
	for (size_t i = 0; i < sizeof(ip6) / sizeof(ip6[0]); i++)
		damaged(*state, 6, &tcp, &ip6[i]);
}

/* Without a stage that needs ports, only addresses are looked for. */
static void a_damaged_transport_is_not_looked_at(void **state)
{
	struct edge_outcome got;
	struct frame frame;

	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN));
		frame.len -= 10;
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.action, XDP_PASS);
		frame.len = 14 + (family == 4 ? 19 : 39);
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.counter, TW_EDGE_TRUNCATED);
	}
}

/* Of a reload the counts stay, and the settings change. */
static void settings_change_by_a_reload(void **state)
{
	struct edge *edge = *state;
	struct tw_edge_settings settings;
	struct tw_metric passed, after;
	struct edge_outcome got;
	struct frame frame;
	char err[256] = "";

	frame_build(&frame, 4, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN));
	frame.len -= 10;
	edge_lab_run(edge, &frame, &got);
	assert_int_equal(got.action, XDP_PASS);
	assert_int_equal(edge_count_read(edge, TW_EDGE_PASS, &passed), 0);
	edge_settings_default(&settings);
	settings.parse = 1;
	if (edge_reload(edge, &settings, err, sizeof(err)))
		fail_msg("%s", err);
	edge_lab_run(edge, &frame, &got);
	assert_int_equal(got.counter, TW_EDGE_TRUNCATED);
	assert_int_equal(edge_count_read(edge, TW_EDGE_PASS, &after), 0);
	assert_int_equal(after.packets, passed.packets);
}

/* Rules on form, each by its own setting; without it the same frames pass. */
static int forms_setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = 1;
	settings.drop = TW_EDGE_DROP_BAD_FLAGS | TW_EDGE_DROP_FRAGMENTS | TW_EDGE_DROP_OPTIONS |
			TW_EDGE_DROP_BAD_LENGTH;
	*state = edge_lab_open(&settings);
	return 0;
}

static void forms_are_dropped(void **state)
{
	EDGE_STEPS(
		*state, EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, FIN | ACK), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, RST), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 9), PASS, TW_EDGE_PASS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80), DROP, TW_EDGE_BAD_FLAGS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN | FIN), DROP, TW_EDGE_BAD_FLAGS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN | RST), DROP, TW_EDGE_BAD_FLAGS),
		EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, FIN | PSH), DROP, TW_EDGE_BAD_FLAGS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .headers = 1), DROP,
			  TW_EDGE_OPTIONS),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .more = true, .payload = 64,
				 .frag_id = 5),
			  DROP, TW_EDGE_FRAGMENT),
		EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .frag_off = 64, .payload = 64,
				 .frag_id = 5),
			  DROP, TW_EDGE_FRAGMENT));

	struct edge_outcome got;
	struct frame frame;

	for (int family = 4; family <= 6; family += 2) {
		frame_build(&frame, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 8));
		frame.data[(family == 4 ? 34 : 54) + 5]--; /* the length in its header */
		edge_lab_run(*state, &frame, &got);
		assert_int_equal(got.action, XDP_DROP);
		assert_int_equal(got.counter, TW_EDGE_BAD_LENGTH);
	}
}

static int ports_setup(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = settings.ports = 1;
	*state = edge_lab_open(&settings);
	return 0;
}

/* Rules on ports whatever the source: the port's, else the protocol's. */
static void ports_decide(void **state)
{
	static struct tw_edge_ports ports;
	const uint32_t deny = TW_EDGE_FIRST_RULE + 1, allow = TW_EDGE_FIRST_RULE + 2,
		       proto = TW_EDGE_FIRST_RULE + 3;

	memset(&ports, 0, sizeof(ports));
	ports.port[TW_EDGE_TCP][80] = (uint16_t)(TW_EDGE_CLASS_DENY | deny);
	ports.port[TW_EDGE_UDP][53] = (uint16_t)(TW_EDGE_CLASS_ALLOW | allow);
	ports.proto[17] = (uint16_t)(TW_EDGE_CLASS_DENY | proto);
	assert_int_equal(edge_ports_store(*state, &ports), 0);
	EDGE_STEPS(*state, EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN), DROP, deny),
		   EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 80, 81, SYN), PASS, TW_EDGE_PASS),
		   EDGE_STEP(EDGE_P(SCTP, OUTSIDE, NODE, 4000, 80), PASS, TW_EDGE_PASS),
		   EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53), PASS, allow),
		   EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 54), DROP, proto),
		   /* A later fragment has no port: only the protocol's rule sees it. */
		   EDGE_STEP(EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .frag_off = 64, .payload = 64,
				    .frag_id = 5),
			     DROP, proto),
		   EDGE_STEP(EDGE_P(ECHO, OUTSIDE, NODE, 80), PASS, TW_EDGE_PASS));
	memset(&ports, 0, sizeof(ports));
	assert_int_equal(edge_ports_store(*state, &ports), 0);
	EDGE_STEPS(*state,
		   EDGE_STEP(EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, SYN), PASS, TW_EDGE_PASS));
}

static int source_found(void *arg, const struct edge_source *source)
{
	*(struct edge_source *)arg = *source;
	return 1;
}

/* One frame in TW_EDGE_SAMPLE, the first one with it. */
static void sources_are_sampled(void **state)
{
	struct edge *edge = *state;
	struct edge_source source = {};
	struct tw_metric passed;
	union tw_addr from;
	struct frame frame;

	place_addr(OUTSIDE, 6, &from);
	frame_build(&frame, 6, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53));
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data,
		    .data_size_in = (uint32_t)frame.len, .repeat = 3 * TW_EDGE_SAMPLE);
	assert_int_equal(bpf_prog_test_run_opts(edge_prog_fd(edge), &opts), 0);
	assert_int_equal(edge_count_read(edge, TW_EDGE_PASS, &passed), 0);
	assert_int_equal(passed.packets, 3 * TW_EDGE_SAMPLE);
	assert_int_equal(edge_sources_each(edge, source_found, &source), 1);
	assert_memory_equal(&source.addr, &from, sizeof(from));
	/* A test run may move to another CPU, which begins with a sample of its own. */
	assert_in_range(source.passed, 3 * TW_EDGE_SAMPLE, 5 * TW_EDGE_SAMPLE);
	assert_int_equal(source.dropped, 0);
	assert_int_equal(source.counter, TW_EDGE_PASS);
}

int main(void)
{
#define PARSE(fn) cmocka_unit_test_setup_teardown(fn, parse_setup, teardown)
#define PLAIN(fn) cmocka_unit_test_setup_teardown(fn, plain_setup, teardown)
	const struct CMUnitTest tests[] = {
		PARSE(ordinary_frames_pass),
		PARSE(what_is_not_ip_passes),
		PARSE(tags_are_followed_twice),
		PARSE(options_are_followed),
		PARSE(truncated_frames_are_dropped),
		PARSE(headers_that_contradict_are_dropped),
		PLAIN(ordinary_frames_pass),
		PLAIN(what_is_not_ip_passes),
		PLAIN(tags_are_followed_twice),
		PLAIN(a_damaged_transport_is_not_looked_at),
		PLAIN(settings_change_by_a_reload),
		PLAIN(sources_are_sampled),
		cmocka_unit_test_setup_teardown(forms_are_dropped, forms_setup, teardown),
		cmocka_unit_test_setup_teardown(ports_decide, ports_setup, teardown),
	};

	return cmocka_run_group_tests_name("edge", tests, NULL, NULL);
}
