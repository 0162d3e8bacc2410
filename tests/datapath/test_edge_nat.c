/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Translated connections, and packets taken out of a balancer's. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge_balance_lab.h"

#define TCP_OF(port_, flags_) EDGE_P(TCP, OUTSIDE, NODE, port_, 80, flags_)
#define PORT_FIRST 50000u
#define PORT_LAST 50999u

/* Backends B of both families, which listen on 8080, behind NODE's 80 and 53. */
static void nat_make(struct balance_lab *lab)
{
	struct edge_front fronts[4];
	size_t n = 0;

	for (int family = 4; family <= 6; family += 2) {
		uint16_t service;

		assert_int_equal(edge_service_get(lab->eb, (uint64_t)family, &service), 0);
		assert_int_equal(edge_service_idle(lab->eb, service, 3600), 0);
		lab->service = service;
		lab->n_backends = 0;
		balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_NAT, family, .place = B,
							     .port = 8080 });
		balance_turn(lab, 0);
		for (size_t i = 0; i < 2; i++) {
			fronts[n] = (struct edge_front){ .len = 128,
							 .proto = i ? 17 : 6,
							 .port = htons(i ? 53 : 80),
							 .service = service,
							 .flags = TW_EDGE_FRONT_NAT };
			place_addr(NODE, family, &fronts[n++].addr);
		}
	}
	assert_int_equal(edge_fronts_set(lab->eb, fronts, n), 0);
}

/* The port that a translated packet left from. */
static uint16_t port_of(const struct edge_outcome *got)
{
	struct view view;

	assert_int_equal(frame_view(&got->out, &view), 0);
	assert_in_range(ntohs(view.tuple.sport), PORT_FIRST, PORT_LAST);
	return ntohs(view.tuple.sport);
}

/* Bytes behind the link layer are those of the spec's frame; the addresses there are given. */
static void frame_is(const struct edge_outcome *got, int family, const struct spec *want,
		     const uint8_t *dmac, const uint8_t *smac)
{
	struct frame frame;

	frame_build(&frame, family, want);
	assert_int_equal(got->action, XDP_TX);
	assert_int_equal(got->counter, TW_EDGE_BALANCED);
	assert_int_equal(got->out.len, frame.len);
	assert_memory_equal(got->out.data, dmac, 6);
	assert_memory_equal(got->out.data + 6, smac, 6);
	for (size_t i = 12; i < frame.len; i++)
		if (got->out.data[i] != frame.data[i])
			fail_msg("IPv%d: byte %zu is %02x, not %02x", family, i, got->out.data[i],
				 frame.data[i]);
}

static const uint8_t hop[6] = { 2, 0xbb, 0, 0, 0, 1 }, own[6] = { 2, 0xaa, 0, 0, 0, 1 };
/* What frame_build() puts in front: destination, source. */
static const uint8_t here[6] = { 2, 0x54, 0x57, 0, 0, 1 }, peer[6] = { 2, 0, 0, 0, 0, 2 };

static void a_connection_is_translated_there_and_back(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	nat_make(lab);
	for (int i = 0; i < 8; i++) {
		int family = i % 2 ? 6 : 4;
		bool tcp = i / 2 % 2, no_sum = !tcp && i >= 4 && family == 4;
		enum what what = tcp ? TCP : UDP;
		uint16_t front = tcp ? 80 : 53, client = (uint16_t)(4000 + i), port;
		struct spec in = { what,  OUTSIDE, NODE,	  client,
				   front, SYN,	   .payload = 33, .no_sum = no_sum };
		struct spec back = { what, B, ROUTER, 8080, 0, SYN | ACK, .payload = 20 };

		balance_send(lab, family, &in, &got);
		port = port_of(&got);
		frame_is(&got, family,
			 &EDGE_P(what, ROUTER, B, port, 8080, SYN, .payload = 33, .ttl = 63,
				 .no_sum = no_sum),
			 hop, own);
		back.dport = port;
		balance_send(lab, family, &back, &got);
		frame_is(&got, family,
			 &EDGE_P(what, NODE, OUTSIDE, front, client, SYN | ACK, .payload = 20,
				 .ttl = 63),
			 peer, here);
		/* What follows keeps port and way. */
		in.flags = ACK;
		in.vlan = false;
		balance_send(lab, family, &in, &got);
		assert_int_equal(port_of(&got), port);
	}
}

static void without_a_connection_nothing_is_translated(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	nat_make(lab);
	for (int family = 4; family <= 6; family += 2) {
		balance_send(lab, family, &TCP_OF(4000, ACK), &got);
		assert_int_equal(got.action, XDP_DROP);
		assert_int_equal(got.counter, TW_EDGE_NAT_NO_FLOW);
		/* From the backend, to a port of ours: it may be the stack's. */
		balance_send(lab, family, &EDGE_P(TCP, B, ROUTER, 8080, 50001, ACK), &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
	}
}

/* A stranger's packet to a port that is in use is no reply. */
static void replies_come_from_the_backend_only(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	nat_make(lab);
	balance_send(lab, 4, &TCP_OF(4000, SYN), &got);
	uint16_t port = port_of(&got);

	balance_send(lab, 4, &EDGE_P(TCP, C, ROUTER, 8080, port, ACK), &got);
	assert_int_equal(got.counter, TW_EDGE_PASS);
	balance_send(lab, 4, &EDGE_P(TCP, B, ROUTER, 8081, port, ACK), &got);
	assert_int_equal(got.counter, TW_EDGE_PASS);
}

static void every_connection_has_a_port_of_its_own(void **state)
{
	struct balance_lab *lab = *state;
	uint8_t used[PORT_LAST - PORT_FIRST + 1] = {};
	uint32_t refused = 0, made = 0;
	struct edge_outcome got;

	nat_make(lab);
	for (uint16_t i = 0; i < 1100; i++) {
		balance_send(lab, 4, &TCP_OF(4000 + i, SYN), &got);
		if (got.counter == TW_EDGE_NAT_NO_PORT) {
			refused++;
			continue;
		}
		assert_int_equal(got.counter, TW_EDGE_BALANCED);
		assert_int_equal(used[port_of(&got) - PORT_FIRST]++, 0);
		made++;
	}
	/* There are 1000 ports; sixteen are tried, so that few are left. */
	assert_in_range(made, 900, 1000);
	assert_in_range(refused, 100, 200);
}

static void new_connections_have_a_budget(void **state)
{
	const struct edge_balance_limits few = { .insert_rate = 2,
						 .nat_first = PORT_FIRST,
						 .nat_last = PORT_LAST };
	struct balance_lab *lab = *state;
	uint32_t refused = 0;
	struct edge_outcome got;

	nat_make(lab);
	assert_int_equal(edge_balance_limits_set(lab->eb, &few), 0);
	for (uint16_t i = 0; i < 20; i++) {
		balance_send(lab, 4, &TCP_OF(4000 + i, SYN), &got);
		refused += got.counter == TW_EDGE_NAT_RATE;
	}
	assert_true(refused > 0);
}

/* Ports used again after a FIN: to the same backend while it takes any, else to another one. */
static void ports_may_be_used_again(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct view view;
	union tw_addr addr;

	nat_make(lab);
	balance_send(lab, 6, &TCP_OF(4000, SYN), &got);
	balance_send(lab, 6, &TCP_OF(4000, FIN | ACK), &got);
	balance_send(lab, 6, &TCP_OF(4000, SYN), &got);
	assert_int_equal(got.counter, TW_EDGE_BALANCED);
	balance_send(lab, 6, &TCP_OF(4000, FIN | ACK), &got);
	lab->backends[0].weight = 0;
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_NAT, 6, .place = C });
	balance_turn(lab, 0);
	/* The open one stays. */
	balance_send(lab, 6, &TCP_OF(4000, ACK), &got);
	assert_int_equal(frame_view(&got.out, &view), 0);
	place_addr(B, 6, &addr);
	assert_memory_equal(&view.tuple.daddr, &addr, 16);
	balance_send(lab, 6, &TCP_OF(4000, SYN), &got);
	assert_int_equal(frame_view(&got.out, &view), 0);
	place_addr(C, 6, &addr);
	assert_memory_equal(&view.tuple.daddr, &addr, 16);
	/* No port of its own: the frontend's. */
	assert_int_equal(ntohs(view.tuple.dport), 80);
}

/* An error speaks to its receiver of what the receiver sent, in both directions. */
static void errors_are_translated(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	nat_make(lab);
	for (int i = 0; i < 4; i++) {
		int family = i % 2 ? 6 : 4;
		enum what kind = i / 2 ? TOO_BIG : UNREACHABLE;
		struct spec in = { UDP, OUTSIDE, NODE, 4000, 53, .payload = 40 };
		struct spec to_client, to_backend, from_backend, from_client;
		uint16_t port;

		balance_send(lab, family, &in, &got);
		port = port_of(&got);
		/* The inner packets as their senders sent them. Sums inside are not mended. */
		from_backend = EDGE_P(UDP, B, ROUTER, 8080, port, .payload = 40, .no_sum = true);
		to_client = EDGE_P(UDP, NODE, OUTSIDE, 53, 4000, .payload = 40, .no_sum = true);
		balance_send(lab, family,
			     &EDGE_P(kind, UNROUTED, NODE, .about = &to_client, .mtu = 1400), &got);
		frame_is(&got, family,
			 &EDGE_P(kind, UNROUTED, B, .about = &from_backend, .mtu = 1400, .ttl = 63),
			 hop, own);
		from_client = EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 40, .no_sum = true);
		to_backend = EDGE_P(UDP, ROUTER, B, port, 8080, .payload = 40, .no_sum = true);
		balance_send(lab, family,
			     &EDGE_P(kind, KEPT, ROUTER, .about = &to_backend, .mtu = 1400), &got);
		frame_is(
			&got, family,
			&EDGE_P(kind, KEPT, OUTSIDE, .about = &from_client, .mtu = 1400, .ttl = 63),
			peer, here);
	}
}

static void fragments_are_translated(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;

	nat_make(lab);
	for (int family = 4; family <= 6; family += 2) {
		struct spec first = { UDP, OUTSIDE,	   NODE,	 4000,
				      53,  .payload = 512, .more = true, .frag_id = 9 };
		struct spec later = { UDP,	     OUTSIDE,	      NODE,
				      .payload = 64, .frag_off = 520, .frag_id = 9 };

		balance_send(lab, family, &first, &got);
		assert_int_equal(got.counter, TW_EDGE_BALANCED);
		balance_send(lab, family, &later, &got);
		frame_is(&got, family,
			 &EDGE_P(UDP, ROUTER, B, .payload = 64, .frag_off = 520, .frag_id = 9,
				 .ttl = 63),
			 hop, own);
	}
}

/* The client's router fails over: replies go where its packets come from now. */
static void replies_follow_the_clients_neighbour(void **state)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame frame;
	uint16_t port;

	nat_make(lab);
	balance_send(lab, 4, &TCP_OF(4000, SYN), &got);
	port = port_of(&got);
	frame_build(&frame, 4, &TCP_OF(4000, ACK));
	memcpy(frame.data + 6, other, 6);
	edge_lab_run(lab->edge, &frame, &got);
	balance_send(lab, 4, &EDGE_P(TCP, B, ROUTER, 8080, port, ACK), &got);
	assert_memory_equal(got.out.data, other, 6);
}

/* Idle connections go, both entries of each; those in use stay. */
static void what_is_over_is_collected(void **state)
{
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct edge_walk *walk;

	nat_make(lab);
	for (uint16_t i = 0; i < 10; i++)
		balance_send(lab, 4, &TCP_OF(4000 + i, SYN), &got);
	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	assert_int_equal(walk->nats, 20);
	edge_walk_free(walk);
	/* Answered ones live as long as the service says. */
	for (uint16_t i = 0; i < 5; i++) {
		balance_send(lab, 4, &TCP_OF(4000 + i, SYN), &got);
		balance_send(lab, 4, &EDGE_P(TCP, B, ROUTER, 8080, port_of(&got), SYN | ACK), &got);
		assert_int_equal(got.counter, TW_EDGE_BALANCED);
	}
	for (uint16_t s = 1; s < 4; s++)
		edge_service_idle(lab->eb, s, 0);
	usleep(20000); /* idle for more than no time */
	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	assert_int_equal(walk->nats, 10);
	assert_int_equal(walk->deleted, 10);
	edge_walk_free(walk);
}

/* ---- decapsulation ------------------------------------------------------------------------------ */

/* What the balancer's side made of a frame, opened again: the frame, with one hop less. */
static void what_was_put_in_comes_out(void **state)
{
	static const struct {
		enum tw_edge_way way;
		int outer;
	} ways[] = {
		{ TW_EDGE_WAY_IPIP, 4 },
		{ TW_EDGE_WAY_IPIP, 6 },
		{ TW_EDGE_WAY_GUE, 4 },
		{ TW_EDGE_WAY_GUE, 6 },
	};
	struct edge_prefix_mask from[2] = {};
	struct balance_lab *lab = *state;
	struct edge_outcome sent, got;
	struct frame want;

	balance_front(lab, TCP, 80, 0);
	assert_int_equal(edge_service_idle(lab->eb, lab->service, 0), 0);
	for (int i = 0; i < 2; i++) {
		place_addr(ROUTER, i ? 6 : 4, &from[i].addr);
		memset(&from[i].mask, 0xff, 16);
	}
	for (size_t i = 0; i < 4 * sizeof(ways) / sizeof(ways[0]); i++) {
		const struct spec spec = { TCP, OUTSIDE, NODE,	       4000,
					   80,	ACK,	 .payload = 9, .vlan = i / 2 % 2 };
		struct spec hopped = spec;
		int family = i % 2 ? 6 : 4;

		hopped.ttl = 63;
		if (i % 4 == 0) {
			size_t b = balance_backend(lab, &(struct backend_spec){ ways[i / 4].way,
										ways[i / 4].outer,
										.place = B });

			for (size_t j = 0; j < lab->n_backends; j++)
				lab->backends[j].weight = j == b;
			balance_turn(lab, 0);
			while (balance_walk(lab))
				;
		}
		balance_send(lab, family, &spec, &sent);
		assert_int_equal(sent.action, XDP_TX);
		/* Not from just anybody. */
		assert_int_equal(edge_decap_set(lab->eb, from, 0), 0);
		edge_lab_run(lab->edge, &sent.out, &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
		assert_memory_equal(got.out.data, sent.out.data, sent.out.len);
		assert_int_equal(edge_decap_set(lab->eb, from, 2), 0);
		edge_lab_run(lab->edge, &sent.out, &got);
		assert_int_equal(got.action, XDP_PASS);
		assert_int_equal(got.counter, TW_EDGE_DECAPSULATED);
		frame_build(&want, family, &hopped);
		assert_int_equal(got.out.len, want.len);
		assert_memory_equal(got.out.data, hop, 6);
		assert_memory_equal(got.out.data + 12, want.data + 12, want.len - 12);
		/* Cut short anywhere it is no more than an odd packet. */
		for (sent.out.len--; sent.out.len >= 14; sent.out.len--) {
			edge_lab_run(lab->edge, &sent.out, &got);
			assert_int_equal(got.counter, TW_EDGE_TRUNCATED);
		}
	}
}

static void other_datagrams_stay_as_they_are(void **state)
{
	struct edge_prefix_mask from = {};
	struct balance_lab *lab = *state;
	struct edge_outcome got;
	struct frame frame;

	/* From everybody, but these are none of a balancer. */
	assert_int_equal(edge_decap_set(lab->eb, &from, 1), 0);
	for (int family = 4; family <= 6; family += 2) {
		balance_send(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53, .payload = 60),
			     &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
		balance_send(lab, family, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 6080), &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
		frame_build(&frame, family,
			    &EDGE_P(UDP, OUTSIDE, NODE, 4000, 6080, .payload = 60, .no_sum = true));
		frame.data[frame.len - 60] = 0x50;
		edge_lab_run(lab->edge, &frame, &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
		balance_send(lab, family, &EDGE_P(ESP, OUTSIDE, NODE), &got);
		assert_int_equal(got.counter, TW_EDGE_PASS);
	}
}

int main(void)
{
#define BALANCE(fn) cmocka_unit_test_setup(fn, balance_setup)
	const struct CMUnitTest tests[] = {
		BALANCE(a_connection_is_translated_there_and_back),
		BALANCE(without_a_connection_nothing_is_translated),
		BALANCE(replies_come_from_the_backend_only),
		BALANCE(every_connection_has_a_port_of_its_own),
		BALANCE(new_connections_have_a_budget),
		BALANCE(ports_may_be_used_again),
		BALANCE(errors_are_translated),
		BALANCE(fragments_are_translated),
		BALANCE(replies_follow_the_clients_neighbour),
		BALANCE(what_is_over_is_collected),
		BALANCE(what_was_put_in_comes_out),
		BALANCE(other_datagrams_stay_as_they_are),
	};

	return cmocka_run_group_tests_name("edge_nat", tests, balance_group_setup,
					   balance_group_teardown);
}
