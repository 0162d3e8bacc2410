/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* I6 and I7: translation to the outside. The lab of this file has a range of two ports. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lab.h"

#define FIRST 61000
#define LAST 61001

/* The reply entry's tuple for a flow to OUTSIDE's port that left by `snat`. */
static void reply_tuple(enum what what, int family, uint16_t port, uint16_t snat,
			struct tw_tuple *out)
{
	const struct spec reply = P(what, OUTSIDE, NODE, port, snat);

	spec_tuple(&reply, family, out);
}

/* ---- I6: inserts ------------------------------------------------------------------------------- */

static void i6_port_is_claimed_by_the_reply_entry(struct lab *lab, int family)
{
	struct tw_tuple first, last;
	struct tw_flow flow;

	/* Two ports, so two connections to the same server port; the third is refused by name. */
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), REDIRECT, .entries = 2),
		  STEP(FROM_B, P(UDP, B, OUTSIDE, 4000, 53), REDIRECT, .entries = 2),
		  STEP(FROM_C, P(UDP, C, OUTSIDE, 4000, 53), DROPPED(NO_PORT)),
		  /* Another server, or another port of it, is another reply entry. */
		  STEP(FROM_C, P(UDP, C, OUTSIDE2, 4000, 53), REDIRECT, .entries = 2),
		  STEP(FROM_C, P(UDP, C, OUTSIDE, 4000, 54), REDIRECT, .entries = 2),
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), REDIRECT),
		  STEP(FROM_B, P(UDP, B, OUTSIDE, 4000, 53), REDIRECT));
	reply_tuple(UDP, family, 53, FIRST, &first);
	reply_tuple(UDP, family, 53, LAST, &last);
	assert_int_equal(lab_flow_get(lab, &first, &flow, NULL), 0);
	assert_int_equal(lab_flow_get(lab, &last, &flow, NULL), 0);
}

/* The reply key may already be a container's own connection: then another port is taken. */
static void i6_reply_key_of_another_connection(struct lab *lab, int family)
{
	struct tw_flow other = {}, after;
	struct tw_tuple t;
	struct outcome got;
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct view v;

	other.half[0].kind = other.half[1].kind = TW_KIND_STACK;
	other.half[0].in = other.half[1].in = lab->uplink[0];
	reply_tuple(UDP, family, 53, FIRST, &t);
	lab_flow_set(lab, &t, &other);
	lab_send(lab, family, FROM_A, &up, &got);
	assert_int_equal(got.verdict, REDIRECTED);
	assert_int_equal(frame_view(&got.out, &v), 0);
	assert_int_equal(ntohs(v.tuple.sport), LAST);
	assert_int_equal(lab_flow_get(lab, &t, &after, NULL), 0);
	assert_memory_equal(&other, &after, sizeof(after));
}

/* Of two entries either both are made or none. */
static void i6_failed_second_insert_undoes_the_first(struct lab *lab, int family)
{
	struct tw_collect_args args = {};
	uint32_t before;

	for (uint16_t port = 1000; lab_flow_count(lab, family) < lab->max_flows - 1; port++) {
		const struct spec fill = P(UDP, A, B, port, 9);
		struct outcome got;

		lab_send(lab, family, FROM_A, &fill, &got);
		assert_int_equal(got.verdict, REDIRECTED);
	}
	before = lab_flow_count(lab, family);
	for (uint16_t port = 4000; port < 4003; port++) {
		const struct spec up = P(UDP, A, OUTSIDE, port, 53);
		struct outcome got;

		args = (struct tw_collect_args){};
		lab_send(lab, family, FROM_A, &up, &got);
		assert_int_equal(got.verdict, DROP);
		assert_int_equal(got.reason, TW_REASON_MAP_FULL);
		assert_int_equal(got.inserts, 0);
		/* What was made of it goes with the collector's next pass. */
		assert_int_equal(datapath_collect(lab->dp, &args), 0);
		assert_int_equal(lab_flow_count(lab, family), before);
	}
	/* The one that is left can still be had. */
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, 4001, 53), DROPPED(MAP_FULL)),
		  STEP(FROM_A, P(UDP, A, B, 1000, 9), REDIRECT));
}

/* Another CPU is at the forward entry just now: the answer goes by its own entry all the same. */
static void i4_reply_while_the_forward_entry_is_written(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct tw_flow flow;
	struct tw_tuple t;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	spec_tuple(&up, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, NULL), 0);
	flow.half[0].idle = TW_IDLE_WRITING;
	lab_flow_set(lab, &t, &flow);
	datapath_epoch_bump(lab->dp, 0);
	LAB_STEPS(lab, family,
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT),
		       OUT(UDP, OUTSIDE, A, 53, 4000, .ttl = 63)));
}

static void i6_lost_forward_entry_is_rebuilt(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct tw_tuple t;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	spec_tuple(&up, family, &t);
	assert_int_equal(lab_flow_del(lab, &t), 0);
	/* The other port is free, too, but this is the one that the peer knows. */
	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63), .entries = 1),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT),
		       OUT(UDP, OUTSIDE, A, 53, 4000, .ttl = 63)));
}

/* A tuple that is used again is a new connection: it does not die as young as a closed one. */
static void i11_translated_tuple_is_used_again(struct lab *lab, int family)
{
	const struct spec syn = P(TCP, A, OUTSIDE, 4000, 80, SYN);
	struct tw_collect_args args = {};
	struct tw_settings s;
	struct tw_flow flow;
	struct tw_tuple t;
	unsigned int dir;

	datapath_settings_default(&s);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, syn, OUT(TCP, NODE, OUTSIDE, 0, 80, SYN, .ttl = 63), .entries = 2),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 80, SNAT_PORT, SYN | ACK), REDIRECT),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 80, SNAT_PORT, FIN | ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 4000, 80, FIN | ACK), REDIRECT),
		  /* The same port again: the server would see another connection else. */
		  STEP(FROM_A, syn, OUT(TCP, NODE, OUTSIDE, SNAT_PORT, 80, SYN, .ttl = 63)),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 80, SNAT_PORT, SYN | ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 4000, 80, ACK), REDIRECT));
	spec_tuple(&syn, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, &dir), 0);
	assert_int_equal(flow.half[dir].tcp, SYN);
	args.now = flow.half[dir].seen + s.life_tcp_closed + s.hz;
	assert_int_equal(datapath_collect(lab->dp, &args), 0);
	assert_int_equal(args.marked, 0);
	args.now = flow.half[dir].seen + s.life_tcp_established + s.hz;
	assert_int_equal(datapath_collect(lab->dp, &args), 0);
	assert_int_equal(args.marked, 1);
}

static void i6_lost_reply_entry_is_rebuilt(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct tw_tuple t;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	reply_tuple(UDP, family, 53, lab->snat, &t);
	assert_int_equal(lab_flow_del(lab, &t), 0);
	datapath_epoch_bump(lab->dp, A);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63), .entries = 1),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT),
		       OUT(UDP, OUTSIDE, A, 53, 4000, .ttl = 63)));
}

/* Judged again, a connection keeps the port it has, not the one it would be given now. */
static void i4_redecision_keeps_its_port_when_others_are_free(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct tw_flow other = {};
	struct tw_tuple t;
	uint16_t first_choice;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	first_choice = lab->snat;
	lab_flows_clear(lab, family);
	other.half[0].kind = other.half[1].kind = TW_KIND_STACK;
	reply_tuple(UDP, family, 53, first_choice, &t);
	lab_flow_set(lab, &t, &other);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	assert_int_not_equal(lab->snat, first_choice);
	assert_int_equal(lab_flow_del(lab, &t), 0);
	datapath_epoch_bump(lab->dp, A);
	LAB_STEPS(lab, family, STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63)));
}

/* What found no port is not charged, or refusals alone would use the cap up. */
static void i10_refused_translation_is_not_charged(struct lab *lab, int family)
{
	struct tw_endpoint ep;

	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), REDIRECT, .entries = 2),
		  STEP(FROM_B, P(UDP, B, OUTSIDE, 4000, 53), REDIRECT, .entries = 2));
	lab_endpoint(lab, C, &ep);
	ep.cap = 2;
	assert_int_equal(datapath_endpoint_set(lab->dp, C, &ep), 0);
	for (int i = 0; i < 10; i++)
		LAB_STEPS(lab, family,
			  STEP(FROM_C, P(UDP, C, OUTSIDE, 4000, 53), DROPPED(NO_PORT)));
	LAB_STEPS(lab, family, STEP(FROM_C, P(UDP, C, B, 4000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(UDP, C, B, 4001, 53), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(UDP, C, B, 4002, 53), DROPPED(CAP)));
}

/* ---- I7: SNAT ------------------------------------------------------------------------------------ */

static void i7_live_reply_entry_is_adopted(struct lab *lab, int family)
{
	const struct spec up = P(TCP, A, OUTSIDE, 4000, 443, SYN);
	struct tw_tuple t;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(TCP, NODE, OUTSIDE, 0, 443, SYN, .ttl = 63), .entries = 2));
	spec_tuple(&up, family, &t);
	assert_int_equal(lab_flow_del(lab, &t), 0);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(TCP, NODE, OUTSIDE, SNAT_PORT, 443, SYN, .ttl = 63),
		       .entries = 1));
}

static int host_socket(int family, int type, enum place place, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	union tw_addr addr;
	int fd = socket(family == 4 ? AF_INET : AF_INET6, type, 0);

	assert_true(fd >= 0);
	place_addr(place, family, &addr);
	v4.sin_addr.s_addr = addr.word[3];
	memcpy(&v6.sin6_addr, &addr, sizeof(addr));
	assert_int_equal(family == 4 ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
				     : bind(fd, (struct sockaddr *)&v6, sizeof(v6)),
			 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void i7_ports_of_host_sockets_are_avoided(struct lab *lab, int family)
{
	struct outcome got;
	struct view v;
	int udp = host_socket(family, SOCK_DGRAM, NODE, FIRST);
	int tcp = host_socket(family, SOCK_STREAM, NODE, LAST);

	for (uint16_t port = 4000; port < 4016; port++) {
		const struct spec dns = P(UDP, A, OUTSIDE, port, port);
		const struct spec syn = P(TCP, A, OUTSIDE, port, port, SYN);

		lab_send(lab, family, FROM_A, &dns, &got);
		assert_int_equal(got.verdict, REDIRECTED);
		assert_int_equal(frame_view(&got.out, &v), 0);
		assert_int_equal(ntohs(v.tuple.sport), LAST);
		lab_send(lab, family, FROM_A, &syn, &got);
		assert_int_equal(got.verdict, REDIRECTED);
		assert_int_equal(frame_view(&got.out, &v), 0);
		assert_int_equal(ntohs(v.tuple.sport), FIRST);
	}
	close(udp);
	close(tcp);
}

/* The host would answer a stranger with RST or port unreachable for a port it lent out. */
static void i7_reserved_port_without_flow_is_dropped(struct lab *lab, int family)
{
	int fd;

	LAB_STEPS(lab, family, STEP(UP, P(UDP, OUTSIDE, NODE, 53, FIRST), DROPPED(NAT_NO_FLOW)),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 53, LAST, ACK), DROPPED(NAT_NO_FLOW)),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 53, LAST, SYN), DROPPED(NAT_NO_FLOW)),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, FIRST - 1), TO_STACK),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, LAST + 1), TO_STACK));
	fd = host_socket(family, SOCK_DGRAM, NODE, FIRST);
	LAB_STEPS(lab, family, STEP(UP, P(UDP, OUTSIDE, NODE, 53, FIRST), TO_STACK));
	close(fd);
}

static void i7_echo_identifiers_are_translated(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(ECHO, A, OUTSIDE, 77, .payload = 8),
		       OUT(ECHO, NODE, OUTSIDE, 0, .ttl = 63, .payload = 8), .entries = 2),
		  STEP(UP, P(ECHO_REPLY, OUTSIDE, NODE, SNAT_PORT, .payload = 8),
		       OUT(ECHO_REPLY, OUTSIDE, A, 77, .ttl = 63, .payload = 8)),
		  /* The same identifier of another container is another one outside. */
		  STEP(FROM_B, P(ECHO, B, OUTSIDE, 77), REDIRECT, .entries = 2),
		  STEP(FROM_C, P(ECHO, C, OUTSIDE, 77), DROPPED(NO_PORT)),
		  STEP(UP, P(ECHO_REPLY, OUTSIDE, NODE, 5), TO_STACK));
}

/* No helper knows SCTP's CRC, which covers the ports: so they stay. */
static void i7_sctp_keeps_its_port(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(SCTP, A, OUTSIDE, 4000, 80),
		       OUT(SCTP, NODE, OUTSIDE, 4000, 80, .ttl = 63), .entries = 2),
		  STEP(UP, P(SCTP, OUTSIDE, NODE, 80, 4000),
		       OUT(SCTP, OUTSIDE, A, 80, 4000, .ttl = 63)),
		  STEP(FROM_B, P(SCTP, B, OUTSIDE, 4000, 80), DROPPED(NO_PORT)),
		  STEP(FROM_B, P(SCTP, B, OUTSIDE, 4001, 80), REDIRECT, .entries = 2));
}

static void i7_destinations_without_masquerade(struct lab *lab, int family)
{
	LAB_STEPS(
		lab, family,
		STEP(FROM_A, P(UDP, A, KEPT, 4000, 53), OUT(UDP, A, KEPT, 4000, 53, .ttl = 63),
		     .entries = 1),
		STEP(FROM_A, P(ECHO, A, KEPT, 9), OUT(ECHO, A, KEPT, 9, .ttl = 63), .entries = 1));
}

static void i7_uplink_without_an_address(struct lab *lab, int family)
{
	struct tw_uplink none = { .mtu = LAB_MTU };

	assert_int_equal(datapath_uplink_set(lab->dp, lab->uplink[0], &none), 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), DROPPED(NO_MASQ)),
		  STEP(FROM_A, P(UDP, A, KEPT, 4000, 53), REDIRECT, .entries = 1));
}

static void i7_no_route_or_no_uplink(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, UNROUTED, 4000, 53), DROPPED(NO_ROUTE)));
	assert_int_equal(datapath_uplink_del(lab->dp, lab->uplink[0]), 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), DROPPED(NO_UPLINK)));
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i6_port_is_claimed_by_the_reply_entry),
		LAB_TEST(i6_reply_key_of_another_connection),
		LAB_TEST(i6_failed_second_insert_undoes_the_first),
		LAB_TEST(i4_reply_while_the_forward_entry_is_written),
		LAB_TEST(i6_lost_forward_entry_is_rebuilt),
		LAB_TEST(i6_lost_reply_entry_is_rebuilt),
		LAB_TEST(i11_translated_tuple_is_used_again),
		LAB_TEST(i4_redecision_keeps_its_port_when_others_are_free),
		LAB_TEST(i10_refused_translation_is_not_charged),
		LAB_TEST(i7_live_reply_entry_is_adopted),
		LAB_TEST(i7_ports_of_host_sockets_are_avoided),
		LAB_TEST(i7_reserved_port_without_flow_is_dropped),
		LAB_TEST(i7_echo_identifiers_are_translated),
		LAB_TEST(i7_sctp_keeps_its_port),
		LAB_TEST(i7_destinations_without_masquerade),
		LAB_TEST(i7_uplink_without_an_address),
		LAB_TEST(i7_no_route_or_no_uplink),
	};
	const struct lab_options opts = {
		.max_flows = 64,
		.snat_first = FIRST,
		.snat_last = LAST,
	};

	lab_netns();
	return lab_main("nat", &opts, tests, sizeof(tests) / sizeof(tests[0]));
}
