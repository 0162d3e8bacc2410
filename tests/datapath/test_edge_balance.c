/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer frame by frame: ways to a backend, frontends, errors, fragments, QUIC. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "edge_balance_lab.h"

#define TCP_TO(port_, flags_) EDGE_P(TCP, OUTSIDE, NODE, port_, 80, flags_)

static void frame_equal(const char *what, const struct frame *got, const struct frame *want)
{
	for (size_t i = 0; i < want->len && i < got->len; i++)
		if (got->data[i] != want->data[i])
			fail_msg("%s: byte %zu is %02x, not %02x", what, i, got->data[i],
				 want->data[i]);
	if (got->len != want->len)
		fail_msg("%s: %zu bytes, not %zu", what, got->len, want->len);
}

/* ---- ways ------------------------------------------------------------------------------- */

static const struct way_case {
	const char *name;
	enum tw_edge_way way;
	int outer; /* family of the backend's address */
} ways[] = {
	{ "IPIP over IPv4", TW_EDGE_WAY_IPIP, 4 },
	{ "IPIP over IPv6", TW_EDGE_WAY_IPIP, 6 },
	{ "GUE over IPv4", TW_EDGE_WAY_GUE, 4 },
	{ "GUE over IPv6", TW_EDGE_WAY_GUE, 6 },
	{ "L2", TW_EDGE_WAY_L2, 4 },
};

static const struct spec way_specs[] = {
	{ TCP, OUTSIDE, NODE, 4000, 80, SYN },
	{ TCP, OUTSIDE, NODE, 4000, 80, ACK, .payload = 100 },
	{ TCP, OUTSIDE, NODE, 4001, 80, ACK, .ttl = 2 },
	{ TCP, OUTSIDE, NODE, 4001, 80, ACK, .vlan = true },
	{ TCP, OUTSIDE, NODE, 4001, 80, ACK, .headers = 2 },
	{ UDP, OUTSIDE, NODE, 4001, 80, .payload = 1 },
};

static void a_frame_takes_every_way(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame want;

	balance_front(lab, TCP, 80, 0);
	balance_front(lab, UDP, 80, 0);
	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
		size_t backend = balance_backend(
			lab, &(struct backend_spec){ ways[w].way, ways[w].outer, .place = B });

		/* Only this one, and all flows at once. */
		for (size_t i = 0; i < lab->n_backends; i++)
			lab->backends[i].weight = i == backend;
		balance_turn(lab, 0);
		assert_int_equal(edge_service_idle(lab->eb, lab->service, 0), 0);
		while (balance_walk(lab))
			;
		for (size_t i = 0; i < 2 * sizeof(way_specs) / sizeof(way_specs[0]); i++) {
			int family = i % 2 ? 6 : 4;
			char what[64];

			snprintf(what, sizeof(what), "%s, IPv%d, frame %zu", ways[w].name, family,
				 i / 2);
			balance_send(lab, family, &way_specs[i / 2], &got);
			if (got.action != XDP_TX || got.counter != TW_EDGE_BALANCED)
				fail_msg("%s: action %u, counter %u", what, got.action,
					 got.counter);
			balance_expect(lab, backend, family, &way_specs[i / 2], &got.out, &want);
			frame_equal(what, &got.out, &want);
		}
	}
}

/* Whoever spreads packets by their ports must be able to tell flows apart, and keep each whole. */
static void gue_source_ports_follow_flows(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t ports[64], different = 0;
	struct edge_outcome got;

	balance_front(lab, TCP, 80, 0);
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_GUE, 4 });
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < 64; i++) {
		balance_send(lab, 4, &TCP_TO(4000 + i, SYN), &got);
		memcpy(&ports[i], got.out.data + ETH_HLEN + 20, 2);
		assert_true(ntohs(ports[i]) >= 49152);
		balance_send(lab, 4, &TCP_TO(4000 + i, ACK), &got);
		assert_memory_equal(&ports[i], got.out.data + ETH_HLEN + 20, 2);
		if (i && ports[i] != ports[i - 1])
			different++;
	}
	assert_true(different > 60);
}

static void another_interface_is_redirected_to(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	balance_front(lab, TCP, 80, 0);
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4, .ifindex = 7 });
	balance_turn(lab, 0);
	balance_send(lab, 4, &TCP_TO(4000, SYN), &got);
	assert_int_equal(got.action, XDP_REDIRECT);
	assert_int_equal(got.counter, TW_EDGE_BALANCED);
}

static void without_a_way_it_is_dropped(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	balance_front(lab, TCP, 80, 0);
	balance_send(lab, 4, &TCP_TO(4000, SYN), &got);
	assert_int_equal(got.action, XDP_DROP);
	assert_int_equal(got.counter, TW_EDGE_NO_BACKEND);
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4, .no_hop = true });
	balance_turn(lab, 0);
	balance_send(lab, 6, &TCP_TO(4000, SYN), &got);
	assert_int_equal(got.action, XDP_DROP);
	assert_int_equal(got.counter, TW_EDGE_NO_NEIGHBOUR);
}

/* ---- frontends ----------------------------------------------------------------------------- */

static void front_is(struct balance_lab *lab, int family, const struct spec *spec, bool balanced)
{
	struct edge_outcome got;

	balance_send(lab, family, spec, &got);
	assert_int_equal(got.counter, balanced ? TW_EDGE_BALANCED : TW_EDGE_PASS);
	assert_int_equal(got.action, balanced ? XDP_TX : XDP_PASS);
}

static void only_frontends_are_balanced(void **state)
{
	struct balance_lab *lab = *state;

	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	balance_front(lab, TCP, 80, 0);
	for (int family = 4; family <= 6; family += 2) {
		front_is(lab, family, &TCP_TO(4000, SYN), true);
		front_is(lab, family, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 81, SYN), false);
		front_is(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 80), false);
		front_is(lab, family, &EDGE_P(TCP, OUTSIDE, NODE2, 4000, 80, SYN), false);
		front_is(lab, family, &EDGE_P(ECHO, OUTSIDE, NODE, 4000), false);
		front_is(lab, family, &EDGE_P(ESP, OUTSIDE, NODE), false);
	}
	lab->n_fronts = 0;
	assert_int_equal(edge_fronts_set(lab->eb, NULL, 0), 0);
	front_is(lab, 4, &TCP_TO(4000, SYN), false);
}

static void a_frontend_may_have_every_port(void **state)
{
	struct balance_lab *lab = *state;

	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	balance_front(lab, UDP, 0, 0);
	for (int family = 4; family <= 6; family += 2) {
		front_is(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 1), true);
		front_is(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 65535), true);
		front_is(lab, family, &TCP_TO(4000, SYN), false);
	}
}

static void frontends_may_be_prefixes(void **state)
{
	struct balance_lab *lab = *state;
	union tw_addr addr;

	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	place_addr(NODE, 4, &addr);
	addr.byte[15] = 0;
	balance_front_at(lab, &addr, 120, TCP, 80, 0);
	place_addr(NODE, 6, &addr);
	memset(addr.byte + 8, 0, 8);
	balance_front_at(lab, &addr, 64, TCP, 80, 0);
	for (int family = 4; family <= 6; family += 2) {
		front_is(lab, family, &TCP_TO(4000, SYN), true);
		front_is(lab, family, &EDGE_P(TCP, OUTSIDE, ROUTER, 4000, 80, SYN), true);
		front_is(lab, family, &EDGE_P(TCP, OUTSIDE, NODE2, 4000, 80, SYN), false);
		front_is(lab, family, &EDGE_P(TCP, OUTSIDE, ROUTER, 4000, 81, SYN), false);
	}
}

/* Five hundred, and each found; replaced by five hundred others. */
static void many_frontends_are_all_found(void **state)
{
	static struct edge_front fronts[500];
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame frame;

	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	for (uint16_t round = 0; round < 3; round++) {
		for (uint16_t i = 0; i < 500; i++) {
			fronts[i] = (struct edge_front){ .len = 128,
							 .proto = 6,
							 .port = htons((uint16_t)(1000 + i % 50)),
							 .service = lab->service };
			place_addr(NODE, 4, &fronts[i].addr);
			fronts[i].addr.byte[14] = (uint8_t)round;
			fronts[i].addr.byte[15] = (uint8_t)(i / 50);
		}
		assert_int_equal(edge_fronts_set(lab->eb, fronts, 500), 0);
		for (uint16_t i = 0; i < 500; i++) {
			frame_build(&frame, 4,
				    &EDGE_P(TCP, OUTSIDE, NODE, 4000, 1000 + i % 50, SYN));
			frame.data[ETH_HLEN + 18] = (uint8_t)round;
			frame.data[ETH_HLEN + 19] = (uint8_t)(i / 50);
			edge_lab_run(lab->edge, &frame, &got);
			assert_int_equal(got.counter, TW_EDGE_BALANCED);
			frame.data[ETH_HLEN + 18] ^= 8;
			edge_lab_run(lab->edge, &frame, &got);
			assert_int_equal(got.counter, TW_EDGE_PASS);
		}
	}
	assert_int_equal(edge_fronts_set(lab->eb, fronts, TW_EDGE_FRONTS / 2), -ENOSPC);
}

/* ---- size and hops ---------------------------------------------------------------------------- */

static void error_is(const struct edge_outcome *got, int family, uint8_t type4, uint8_t code4,
		     uint8_t type6, uint16_t mtu)
{
	union tw_addr node, client;
	struct view view;

	assert_int_equal(got->action, XDP_TX);
	assert_int_equal(frame_view(&got->out, &view), 0);
	assert_true(view.checksums_right);
	assert_int_equal(view.icmp_type, family == 4 ? type4 : type6);
	assert_int_equal(view.icmp_code, family == 4 ? code4 : 0);
	assert_int_equal(view.icmp_mtu, mtu);
	place_addr(NODE, family, &node);
	place_addr(OUTSIDE, family, &client);
	assert_memory_equal(&view.tuple.saddr, &node, 16);
	assert_memory_equal(&view.tuple.daddr, &client, 16);
}

/* The client is told how long its packets may be, whatever the way needs in front of them. */
static void too_long_for_the_way_is_answered(void **state)
{
	static const struct {
		enum tw_edge_way way;
		int outer;
		uint16_t head;
	} cases[] = {
		{ TW_EDGE_WAY_IPIP, 4, 20 }, { TW_EDGE_WAY_IPIP, 6, 40 },
		{ TW_EDGE_WAY_GUE, 4, 28 },  { TW_EDGE_WAY_GUE, 6, 48 },
		{ TW_EDGE_WAY_L2, 4, 0 },
	};
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame in;

	balance_front(lab, TCP, 80, 0);
	assert_int_equal(edge_service_idle(lab->eb, lab->service, 0), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t backend = balance_backend(
			lab, &(struct backend_spec){ cases[i].way, cases[i].outer, .place = B });

		for (size_t j = 0; j < lab->n_backends; j++)
			lab->backends[j].weight = j == backend;
		balance_turn(lab, 0);
		while (balance_walk(lab))
			;
		for (int family = 4; family <= 6; family += 2) {
			uint16_t room = (uint16_t)(1500 - cases[i].head),
				 fits = (uint16_t)(room - (family == 4 ? 40 : 60));
			struct spec spec = { TCP, OUTSIDE, NODE, 4000, 80, ACK, .payload = fits };

			balance_send(lab, family, &spec, &got);
			assert_int_equal(got.counter, TW_EDGE_BALANCED);
			assert_int_equal(got.out.len, 14 + 1500);
			spec.payload++;
			spec.df = true;
			balance_send(lab, family, &spec, &got);
			assert_int_equal(got.counter, TW_EDGE_TOO_BIG);
			error_is(&got, family, 3, 4, 2, room);
			frame_build(&in, family, &spec);
			/* Back to where it came from, with the beginning of what it is about. */
			assert_memory_equal(got.out.data, in.data + 6, 6);
			assert_memory_equal(got.out.data + 14 + (family == 4 ? 28 : 48),
					    in.data + 14, family == 4 ? 28 : 48);
		}
	}
}

static void the_last_hop_is_answered(void **state)
{
	const struct edge_balance_limits none = { .insert_rate = 1, .nat_last = 1 };
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	balance_front(lab, TCP, 80, 0);
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	for (int family = 4; family <= 6; family += 2) {
		balance_send(lab, family,
			     &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK, .ttl = 1, .payload = 20),
			     &got);
		assert_int_equal(got.counter, TW_EDGE_TTL);
		error_is(&got, family, 11, 0, 3, 0);
	}
	assert_int_equal(balance_counter(lab, TW_EDGE_COUNT_ICMP_SENT), 2);
	assert_int_equal(edge_balance_limits_set(lab->eb, &none), 0);
	balance_send(lab, 4, &EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK, .ttl = 1), &got);
	assert_int_equal(got.action, XDP_DROP);
	assert_int_equal(balance_counter(lab, TW_EDGE_COUNT_ICMP_RATE), 1);
}

/* ---- errors, fragments -------------------------------------------------------------------------- */

static void many_backends(struct balance_lab *lab, enum tw_edge_way way, size_t n)
{
	while (n--)
		balance_backend(lab, &(struct backend_spec){ way, 4 });
	balance_turn(lab, 0);
}

/* An error about what a backend sent to a client goes to that backend. */
static void errors_find_their_backend(void **state)
{
	static const enum what kinds[] = { UNREACHABLE, TOO_BIG, TIME_EXCEEDED };
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	balance_front(lab, TCP, 80, 0);
	balance_front(lab, UDP, 53, 0);
	many_backends(lab, TW_EDGE_WAY_IPIP, 20);
	for (uint16_t i = 0; i < 100; i++) {
		int family = i % 2 ? 6 : 4;
		enum what what = i % 3 ? TCP : UDP;
		uint16_t port = what == TCP ? 80 : 53;
		struct spec sent = { what, NODE, OUTSIDE, port, 4000 + i, ACK, .payload = 40 };
		struct spec error = { kinds[i % 3], ROUTER, NODE, .about = &sent, .mtu = 1300 };

		assert_int_equal(
			balance_to(lab, family, &error),
			balance_to(lab, family, &EDGE_P(what, OUTSIDE, NODE, 4000 + i, port, ACK)));
	}
	/* About something else, or about what its receiver did not send: the stack's. */
	balance_send(lab, 4,
		     &EDGE_P(UNREACHABLE, ROUTER, NODE,
			     .about = &EDGE_P(TCP, NODE, OUTSIDE, 81, 4000, ACK)),
		     &got);
	assert_int_equal(got.counter, TW_EDGE_PASS);
	balance_send(lab, 4,
		     &EDGE_P(UNREACHABLE, ROUTER, NODE2,
			     .about = &EDGE_P(TCP, NODE, OUTSIDE, 80, 4000, ACK)),
		     &got);
	assert_int_equal(got.counter, TW_EDGE_PASS);
	/* Nothing was remembered for any of it. */
	assert_int_equal(balance_counter(lab, TW_EDGE_COUNT_REMEMBERED), 0);
}

static void fragments_follow_their_first(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	balance_front(lab, UDP, 53, 0);
	many_backends(lab, TW_EDGE_WAY_IPIP, 20);
	for (uint16_t i = 0; i < 50; i++) {
		struct spec first = { UDP, OUTSIDE,	   NODE,	 4000 + i,
				      53,  .payload = 512, .more = true, .frag_id = 100 + i };
		struct spec later = { UDP,	     OUTSIDE,	      NODE,
				      .payload = 64, .frag_off = 520, .frag_id = 100 + i };
		int family = i % 2 ? 6 : 4;
		uint16_t backend;

		/* Before its first one it is of no port, and so of no frontend. */
		balance_send(lab, family, &later, &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
		backend = balance_to(lab, family, &first);
		assert_int_equal(backend, balance_to(lab, family,
						     &EDGE_P(UDP, OUTSIDE, NODE, 4000 + i, 53)));
		assert_int_equal(balance_to(lab, family, &later), backend);
		later.frag_off = 1040;
		later.more = true;
		assert_int_equal(balance_to(lab, family, &later), backend);
	}
}

static void fragments_of_all_ports_by_address_need_no_first(void **state)
{
	struct balance_lab *lab = *state;
	struct spec later = { UDP, OUTSIDE, NODE, .payload = 64, .frag_off = 520, .frag_id = 7 };
	struct edge_outcome got;

	many_backends(lab, TW_EDGE_WAY_IPIP, 20);
	balance_front(lab, UDP, 0, TW_EDGE_FRONT_ADDRESS);
	for (int family = 4; family <= 6; family += 2)
		assert_int_equal(balance_to(lab, family, &later),
				 balance_to(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53)));
	/* By ports it would be anybody's. */
	lab->n_fronts = 0;
	balance_front(lab, UDP, 0, 0);
	balance_send(lab, 4, &later, &got);
	assert_int_equal(got.action, XDP_DROP);
	assert_int_equal(got.counter, TW_EDGE_FRAG_NO_FIRST);
}

static void an_address_keeps_its_backend(void **state)
{
	struct balance_lab *lab = *state;

	balance_front(lab, TCP, 80, TW_EDGE_FRONT_ADDRESS);
	many_backends(lab, TW_EDGE_WAY_IPIP, 20);
	for (uint16_t i = 1; i < 50; i++)
		assert_int_equal(balance_to(lab, 4, &TCP_TO(4000 + i, SYN)),
				 balance_to(lab, 4, &TCP_TO(4000, SYN)));
}

/* Cut anywhere, a frame is whole enough for what is done with it, or it is not balanced. */
static void truncated_frames_are_not_balanced(void **state)
{
	static const struct spec about = { TCP, NODE, OUTSIDE, 80, 4000, ACK };
	const struct spec specs[] = {
		TCP_TO(4000, SYN),
		EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK, .payload = 30, .vlan = true),
		EDGE_P(UNREACHABLE, ROUTER, NODE, .about = &about),
		EDGE_P(TCP, OUTSIDE, NODE, 4000, 80, ACK, .ttl = 1),
	};
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame frame;

	balance_front(lab, TCP, 80, 0);
	many_backends(lab, TW_EDGE_WAY_IPIP, 3);
	for (size_t i = 0; i < 2 * sizeof(specs) / sizeof(specs[0]); i++) {
		frame_build(&frame, i % 2 ? 6 : 4, &specs[i / 2]);
		for (size_t whole = frame.len; frame.len >= 14; frame.len--) {
			edge_lab_run(lab->edge, &frame, &got);
			assert_int_equal(got.counter == TW_EDGE_TRUNCATED, frame.len < whole);
		}
	}
	/* An error whose quote is too short to say of which flow it is. */
	frame_build(&frame, 4, &specs[2]);
	frame.data[14 + 3] = (uint8_t)(frame.len - 14 - 10);
	frame.len -= 10;
	edge_lab_run(lab->edge, &frame, &got);
	assert_int_equal(got.counter, TW_EDGE_PASS);
}

/* ---- QUIC ------------------------------------------------------------------------------------- */

/* A datagram of QUIC from a client's port, its connection id beginning with the server id. */
static uint16_t quic_to(struct balance_lab *lab, int family, uint16_t port, uint8_t first,
			uint16_t server_id, uint8_t cid_first)
{
	struct edge_outcome got;
	struct frame frame;
	uint8_t *at;

	frame_build(&frame, family,
		    &EDGE_P(UDP, OUTSIDE, NODE, port, 443, .payload = 64, .no_sum = true));
	at = frame.data + frame.len - 64;
	memset(at, 0x77, 64);
	*at++ = first;
	if (first & 0x80) {
		memcpy(at, "\0\0\0\1\x08", 5);
		at += 5;
	}
	*at++ = cid_first;
	*at++ = (uint8_t)(server_id >> 8);
	*at = (uint8_t)server_id;
	edge_lab_run(lab->edge, &frame, &got);
	assert_int_equal(got.counter, TW_EDGE_BALANCED);
	return balance_backend_of(&got.out);
}

static void quic_keeps_its_backend_by_connection_id(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t id, other = 0;

	balance_front(lab, UDP, 443, TW_EDGE_FRONT_QUIC);
	for (uint16_t i = 0; i < 20; i++)
		balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4,
							     .server_id = 0x1230 + i });
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < 20; i++) {
		int family = i % 2 ? 6 : 4;

		id = lab->backends[i].id;
		/* From any port: its address changed. Short header, then Handshake. */
		for (uint16_t port = 4000; port < 4010; port++) {
			assert_int_equal(quic_to(lab, family, port, 0x40, 0x1230 + i, 0x08), id);
			assert_int_equal(quic_to(lab, family, port, 0xe0, 0x1230 + i, 0x48), id);
			/* Initial: by the flow, whatever the client has thought of. */
			if (quic_to(lab, family, port, 0xc0, 0x1230 + i, 0x08) == id)
				other++;
		}
		/* An id of nobody, and one that says that it names nobody: by the flow. */
		assert_int_equal(quic_to(lab, family, 4000, 0x40, 0x9999, 0x08),
				 quic_to(lab, family, 4000, 0x40, 0x1230 + i, 0xe8));
	}
	assert_true(other < 50);
	/* It drains: its connections stay, by their ids, without anything remembered. */
	lab->backends[3].weight = 0;
	balance_turn(lab, 0);
	assert_int_equal(quic_to(lab, 4, 4000, 0x40, 0x1233, 0x08), lab->backends[3].id);
	/* It is gone: so is its id. */
	assert_int_equal(edge_service_forget(lab->eb, lab->service, lab->backends[3].id), 0);
	assert_int_equal(edge_backend_clear(lab->eb, lab->backends[3].id), 0);
	assert_int_not_equal(quic_to(lab, 4, 4000, 0x40, 0x1233, 0x08), lab->backends[3].id);
}

/* The verifier takes the program with every stage, and with each that stands alone. */
static void every_stage_loads(void **state)
{
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = settings.filter = settings.ports = settings.limits = 1;
	settings.balance = settings.nat = settings.decap = settings.jumbo = 1;
	settings.drop = TW_EDGE_DROP_BAD_FLAGS | TW_EDGE_DROP_FRAGMENTS | TW_EDGE_DROP_OPTIONS |
			TW_EDGE_DROP_BAD_LENGTH;
	edge_close(edge_lab_open(&settings));
	edge_settings_default(&settings);
	settings.parse = settings.balance = 1;
	edge_close(edge_lab_open(&settings));
	settings.balance = 0;
	settings.decap = 1;
	edge_close(edge_lab_open(&settings));
}

int main(void)
{
#define BALANCE(fn) cmocka_unit_test_setup(fn, balance_setup)
	const struct CMUnitTest tests[] = {
		BALANCE(a_frame_takes_every_way),
		BALANCE(gue_source_ports_follow_flows),
		BALANCE(another_interface_is_redirected_to),
		BALANCE(without_a_way_it_is_dropped),
		BALANCE(only_frontends_are_balanced),
		BALANCE(a_frontend_may_have_every_port),
		BALANCE(frontends_may_be_prefixes),
		BALANCE(many_frontends_are_all_found),
		BALANCE(too_long_for_the_way_is_answered),
		BALANCE(the_last_hop_is_answered),
		BALANCE(errors_find_their_backend),
		BALANCE(fragments_follow_their_first),
		BALANCE(fragments_of_all_ports_by_address_need_no_first),
		BALANCE(an_address_keeps_its_backend),
		BALANCE(truncated_frames_are_not_balanced),
		BALANCE(quic_keeps_its_backend_by_connection_id),
		cmocka_unit_test(every_stage_loads),
	};

	return cmocka_run_group_tests_name("edge_balance", tests, balance_group_setup,
					   balance_group_teardown);
}
