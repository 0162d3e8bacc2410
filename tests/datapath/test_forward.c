/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What becomes of ordinary packets: between containers, the node and the outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "lab.h"

static void local_tcp(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), OUT(TCP, A, B, 4000, 80, SYN),
		       .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK),
		       OUT(TCP, B, A, 80, 4000, SYN | ACK)),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK, .payload = 100),
		       OUT(TCP, A, B, 4000, 80, ACK, .payload = 100)),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, FIN | ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, FIN | ACK), REDIRECT),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, ACK), REDIRECT),
		  /* The same ports again, by a new opener: the same entry. */
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT));
}

static void local_others(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, B, 4000, 53, .payload = 9),
		       OUT(UDP, A, B, 4000, 53, .payload = 9), .entries = 1),
		  STEP(FROM_B, P(UDP, B, A, 53, 4000), REDIRECT),
		  STEP(FROM_A, P(SCTP, A, B, 4000, 53), OUT(SCTP, A, B, 4000, 53), .entries = 1),
		  STEP(FROM_B, P(SCTP, B, A, 53, 4000), REDIRECT),
		  STEP(FROM_A, P(ECHO, A, B, 77), OUT(ECHO, A, B, 77), .entries = 1),
		  STEP(FROM_B, P(ECHO_REPLY, B, A, 77), OUT(ECHO_REPLY, B, A, 77)));
}

/* A redirect goes into the container's own interface, so the frame must carry its MAC. */
static void local_macs(struct lab *lab, int family)
{
	static const uint8_t gateway[6] = { 2, 0x54, 0x57, 0, 0, 1 };
	const struct spec syn = { TCP, A, B, 4000, 80, SYN };
	struct tw_endpoint b;
	struct outcome got;
	struct view v;

	lab_endpoint(lab, B, &b);
	for (int i = 0; i < 2; i++) { /* by the slow path, then by the fast one */
		lab_send(lab, family, FROM_A, &syn, &got);
		assert_int_equal(got.verdict, REDIRECTED);
		assert_int_equal(frame_view(&got.out, &v), 0);
		assert_memory_equal(v.dmac, b.mac, 6);
		assert_memory_equal(v.smac, gateway, 6);
	}
}

static void entry_counts(struct lab *lab, int family)
{
	const struct spec up = { UDP, A, B, 4000, 53, .payload = 100 };
	const struct spec down = { UDP, B, A, 53, 4000, .payload = 20 };
	size_t ip = family == 4 ? 20 : 40;
	struct outcome got;
	struct tw_flow flow;
	struct tw_tuple t;
	unsigned int dir;

	for (int i = 0; i < 5; i++)
		lab_send(lab, family, FROM_A, &up, &got);
	for (int i = 0; i < 3; i++)
		lab_send(lab, family, FROM_B, &down, &got);
	spec_tuple(&up, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, &dir), 0);
	assert_true(flow.half[dir].flags & TW_HALF_OPENER);
	assert_false(flow.half[!dir].flags & TW_HALF_OPENER);
	assert_int_equal(flow.half[dir].packets, 5);
	assert_int_equal(flow.half[dir].bytes, 5 * (ip + 8 + 100));
	assert_int_equal(flow.half[!dir].packets, 3);
	assert_int_equal(flow.half[!dir].bytes, 3 * (ip + 8 + 20));
	assert_int_equal(flow.half[dir].out, lab->port[B]);
	assert_int_equal(flow.half[dir].in, lab->port[A]);
	assert_int_equal(flow.half[!dir].out, lab->port[A]);
	assert_int_equal(flow.half[!dir].in, lab->port[B]);
}

static void node_and_container(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  /* The node opens, and is answered through its own stack. */
		  STEP(TO_A, P(TCP, NODE, A, 4000, 80, SYN), TO_STACK,
		       .out = &P(TCP, NODE, A, 4000, 80, SYN), .entries = 1),
		  STEP(FROM_A, P(TCP, A, NODE, 80, 4000, SYN | ACK), TO_STACK,
		       .out = &P(TCP, A, NODE, 80, 4000, SYN | ACK)),
		  STEP(TO_A, P(TCP, NODE, A, 4000, 80, ACK), TO_STACK),
		  /* The container opens. */
		  STEP(FROM_A, P(UDP, A, NODE, 5000, 53), TO_STACK,
		       .out = &P(UDP, A, NODE, 5000, 53), .entries = 1),
		  STEP(TO_A, P(UDP, NODE, A, 53, 5000), TO_STACK),
		  STEP(TO_A, P(ECHO, NODE, A, 9), TO_STACK, .entries = 1),
		  STEP(FROM_A, P(ECHO_REPLY, A, NODE, 9), TO_STACK));
}

/* Whatever policies say: the API keeps a pod and its own node connected. */
static void node_is_always_allowed(struct lab *lab, int family)
{
	lab_policy(lab, A, ISOLATE_INGRESS | ISOLATE_EGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(TO_A, P(TCP, NODE, A, 4000, 80, SYN), TO_STACK, .entries = 1),
		  STEP(FROM_A, P(TCP, A, NODE, 5000, 80, SYN), TO_STACK, .entries = 1),
		  STEP(FROM_A, P(TCP, A, B, 5000, 80, SYN), DROPPED(POLICY_EGRESS)));
}

static void outside_translated(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 4000, 443, SYN),
		       OUT(TCP, NODE, OUTSIDE, 0, 443, SYN, .ttl = 63), .entries = 2),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 443, SNAT_PORT, SYN | ACK),
		       OUT(TCP, OUTSIDE, A, 443, 4000, SYN | ACK, .ttl = 63)),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 4000, 443, ACK, .payload = 33),
		       OUT(TCP, NODE, OUTSIDE, SNAT_PORT, 443, ACK, .ttl = 63, .payload = 33)),
		  STEP(UP, P(TCP, OUTSIDE, NODE, 443, SNAT_PORT, ACK, .payload = 7),
		       OUT(TCP, OUTSIDE, A, 443, 4000, ACK, .ttl = 63, .payload = 7)));
}

static void outside_translated_udp(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_B, P(UDP, B, OUTSIDE2, 5353, 53, .payload = 3),
		       OUT(UDP, NODE, OUTSIDE2, 0, 53, .ttl = 63, .payload = 3), .entries = 2),
		  STEP(UP, P(UDP, OUTSIDE2, NODE, 53, SNAT_PORT, .payload = 5),
		       OUT(UDP, OUTSIDE2, B, 53, 5353, .ttl = 63, .payload = 5)),
		  STEP(FROM_B, P(UDP, B, OUTSIDE2, 5353, 53),
		       OUT(UDP, NODE, OUTSIDE2, SNAT_PORT, 53, .ttl = 63)));
}

static void outside_not_masqueraded(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(TCP, A, KEPT, 4000, 443, SYN),
		       OUT(TCP, A, KEPT, 4000, 443, SYN, .ttl = 63), .entries = 1),
		  STEP(UP, P(TCP, KEPT, A, 443, 4000, SYN | ACK),
		       OUT(TCP, KEPT, A, 443, 4000, SYN | ACK, .ttl = 63)));
}

/* The outside opens a connection to a container's own address. */
static void outside_opens(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(UP, P(TCP, OUTSIDE, A, 4000, 80, SYN),
		       OUT(TCP, OUTSIDE, A, 4000, 80, SYN, .ttl = 63), .entries = 1),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 80, 4000, SYN | ACK),
		       OUT(TCP, A, OUTSIDE, 80, 4000, SYN | ACK, .ttl = 63)),
		  STEP(UP, P(UDP, OUTSIDE, EMPTY, 4000, 80), DROPPED(NO_ENDPOINT)));
}

/* What is for the node itself is none of our business. */
static void uplink_for_the_node(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(UP, P(TCP, OUTSIDE, NODE, 4000, 22, SYN), TO_STACK,
		       .out = &P(TCP, OUTSIDE, NODE, 4000, 22, SYN)),
		  STEP(UP, P(ECHO, OUTSIDE, NODE, 4000), TO_STACK),
		  STEP(UP, P(UDP, ROUTER, GROUP, 5353, 5353), TO_STACK), STEP(UP, P(ARP), TO_STACK),
		  STEP(UP, P(ESP, OUTSIDE, NODE), TO_STACK));
}

static void no_way(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, EMPTY, 4000, 80, SYN), DROPPED(NO_ENDPOINT)),
		  STEP(FROM_A, P(UDP, A, GROUP, 5353, 5353), DROPPED(MULTICAST)));
}

static void policy_both_directions(struct lab *lab, int family)
{
	LAB_POLICY(lab, B, ISOLATE_INGRESS, ALLOW(TW_INGRESS, A, TCP, 80));
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, B, 4000, 81, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, P(UDP, A, B, 4000, 80), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_C, P(TCP, C, B, 4000, 80, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_B, P(TCP, B, C, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(UP, P(TCP, OUTSIDE, B, 4000, 80, SYN), DROPPED(POLICY_INGRESS)));
	LAB_POLICY(lab, C, ISOLATE_EGRESS, ALLOW(TW_EGRESS, OUTSIDE, TCP, 443),
		   ALLOW(TW_EGRESS, NOWHERE, UDP, 53));
	LAB_STEPS(lab, family,
		  STEP(FROM_C, P(TCP, C, OUTSIDE, 4000, 443, SYN), REDIRECT, .entries = 2),
		  STEP(FROM_C, P(TCP, C, OUTSIDE2, 4000, 443, SYN), DROPPED(POLICY_EGRESS)),
		  STEP(FROM_C, P(UDP, C, OUTSIDE2, 4000, 53), REDIRECT, .entries = 2),
		  STEP(FROM_C, P(UDP, C, A, 4000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(UDP, C, A, 4000, 54), DROPPED(POLICY_EGRESS)),
		  STEP(FROM_A, P(UDP, A, C, 4000, 54), REDIRECT, .entries = 1));
}

/* A drop is logged with both ends and the versions that decided. */
static void denied_event(struct lab *lab, int family)
{
	const struct spec syn = { TCP, A, B, 4000, 81, SYN };
	struct tw_event ev;
	struct tw_tuple t;
	struct outcome got;

	LAB_POLICY(lab, B, ISOLATE_INGRESS, ALLOW(TW_INGRESS, A, TCP, 80));
	lab_events_drain(lab);
	lab_send(lab, family, FROM_A, &syn, &got);
	assert_int_equal(got.verdict, DROP);
	assert_int_equal(lab_event(lab, TW_EVENT_DROP, &ev), 0);
	spec_tuple(&syn, family, &t);
	assert_memory_equal(&ev.tuple, &t, sizeof(t));
	assert_int_equal(ev.reason, TW_REASON_POLICY_INGRESS);
	assert_int_equal(ev.verdict, TW_VERDICT_DENY);
	assert_int_equal(ev.hook, TW_HOOK_FROM_CONTAINER);
	assert_int_equal(ev.tcp, SYN);
	assert_int_equal(ev.slot_from, A);
	assert_int_equal(ev.slot_to, B);
	assert_int_equal(ev.identity_from, LAB_IDENTITY + A);
	assert_int_equal(ev.identity_to, LAB_IDENTITY + B);
	assert_int_equal(ev.version_from, 0);
	assert_int_equal(ev.version_to, lab->next_version);
	assert_int_equal(ev.ifindex, lab->port[A]);
}

static void new_event(struct lab *lab, int family)
{
	const struct spec syn = { TCP, A, OUTSIDE, 4000, 443, SYN };
	struct tw_event ev;
	struct tw_tuple t;
	struct outcome got;
	struct view v;

	lab_send(lab, family, FROM_A, &syn, &got);
	assert_int_equal(lab_event(lab, TW_EVENT_NEW, &ev), 0);
	spec_tuple(&syn, family, &t);
	assert_memory_equal(&ev.tuple, &t, sizeof(t));
	assert_int_equal(ev.verdict, TW_VERDICT_ALLOW);
	assert_int_equal(ev.slot_from, A);
	assert_int_equal(ev.slot_to, 0);
	assert_int_equal(ev.identity_to, LAB_IDENTITY + OUTSIDE);
	assert_int_equal(frame_view(&got.out, &v), 0);
	assert_memory_equal(&ev.nat_addr, &v.tuple.saddr, sizeof(ev.nat_addr));
	assert_int_equal(ev.nat_port, v.tuple.sport);
}

static void fragments_local(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, B, 4000, 53, .payload = 16, .more = true, .frag_id = 7),
		       REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, .payload = 32, .frag_off = 24, .frag_id = 7),
		       OUT(UDP, A, B, .payload = 32, .frag_off = 24, .frag_id = 7)),
		  STEP(FROM_A, P(UDP, A, B, .payload = 32, .frag_off = 24, .frag_id = 8),
		       DROPPED(FRAG_NO_FIRST)),
		  /* Another container's first fragment is not this one's. */
		  STEP(FROM_C, P(UDP, C, B, .payload = 32, .frag_off = 24, .frag_id = 7),
		       DROPPED(FRAG_NO_FIRST)));
}

static void fragments_translated(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A,
		       P(UDP, A, OUTSIDE, 4000, 53, .payload = 16, .more = true, .frag_id = 7),
		       REDIRECT, .entries = 2),
		  STEP(FROM_A, P(UDP, A, OUTSIDE, .payload = 32, .frag_off = 24, .frag_id = 7),
		       OUT(UDP, NODE, OUTSIDE, .payload = 32, .frag_off = 24, .frag_id = 7,
			   .sport = SNAT_PORT, .ttl = 63)));
}

static void options_and_extension_headers(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN, .headers = 2),
		       OUT(TCP, A, B, 4000, 80, SYN, .headers = 2), .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK, .headers = 3),
		       OUT(TCP, B, A, 80, 4000, SYN | ACK, .headers = 3)),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 4000, 80, SYN, .headers = 1), REDIRECT,
		       .entries = 2));
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(local_tcp),
		LAB_TEST(local_others),
		LAB_TEST(local_macs),
		LAB_TEST(entry_counts),
		LAB_TEST(node_and_container),
		LAB_TEST(node_is_always_allowed),
		LAB_TEST(outside_translated),
		LAB_TEST(outside_translated_udp),
		LAB_TEST(outside_not_masqueraded),
		LAB_TEST(outside_opens),
		LAB_TEST(uplink_for_the_node),
		LAB_TEST(no_way),
		LAB_TEST(policy_both_directions),
		LAB_TEST(denied_event),
		LAB_TEST(new_event),
		LAB_TEST(fragments_local),
		LAB_TEST(fragments_translated),
		LAB_TEST(options_and_extension_headers),
	};

	lab_netns();
	return lab_main("forward", &(struct lab_options){}, tests,
			sizeof(tests) / sizeof(tests[0]));
}
