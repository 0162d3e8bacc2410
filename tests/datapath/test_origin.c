/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* I1, I2, I8: who opened a flow, where its packets come from, which way they go back. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "lab.h"

/* ---- I1: no flow without an opener ---------------------------------------------------------- */

static void i1_middle_of_a_connection_needs_both_ways(struct lab *lab, int family)
{
	/* Nobody is isolated: both ways may, so a connection may be picked up in the middle. */
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK), REDIRECT, .entries = 1));
	/* A may open to B, but B not to A: an ACK proves nothing about who opened. */
	LAB_POLICY(lab, A, ISOLATE_INGRESS, ALLOW(TW_INGRESS, C, TCP, 80));
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4001, 80, ACK), DROPPED(NO_FLOW)),
		  STEP(FROM_A, P(TCP, A, B, 4001, 80, SYN | ACK), DROPPED(NO_FLOW)),
		  STEP(FROM_A, P(TCP, A, B, 4001, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(TCP, A, B, 4001, 80, ACK), REDIRECT));
	/* And the answer to nothing, the other way round, is none either. */
	LAB_STEPS(lab, family,
		  STEP(FROM_B, P(TCP, B, A, 80, 4002, SYN | ACK), DROPPED(POLICY_INGRESS)));
}

static void i1_rst_and_reply_open_nothing(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, RST), DROPPED(NO_FLOW)),
		  STEP(FROM_A, P(ECHO_REPLY, A, B, 7), DROPPED(NO_FLOW)));
}

static void i1_revoked_flow_is_kept_as_tombstone(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, B, 4000, 53);
	struct tw_flow flow;
	struct tw_tuple t;
	unsigned int dir;

	LAB_STEPS(lab, family, STEP(FROM_A, up, REDIRECT, .entries = 1),
		  STEP(FROM_B, P(UDP, B, A, 53, 4000), REDIRECT));
	/* B stops accepting. B itself may still open to A, with any port. */
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, up, DROPPED(REVOKED)),
		  STEP(FROM_B, P(UDP, B, A, 53, 4000), DROPPED(REVOKED)),
		  STEP(FROM_A, up, DROPPED(REVOKED)),
		  /* That is not because nothing of B's passes any more. */
		  STEP(FROM_B, P(UDP, B, A, 53, 4001), REDIRECT, .entries = 1));
	spec_tuple(&up, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, &dir), 0);
	assert_int_equal(flow.half[0].kind, TW_KIND_DENY);
	assert_int_equal(flow.half[1].kind, TW_KIND_DENY);
}

/* The reply that comes first after the change revokes just as well. */
static void i1_reply_cannot_reopen_what_is_revoked(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK), REDIRECT));
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_B, P(TCP, B, A, 80, 4000, ACK), DROPPED(REVOKED)),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK), DROPPED(REVOKED)),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK), DROPPED(REVOKED)));
}

static void i1_revoked_to_the_outside(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), REDIRECT));
	lab_policy(lab, A, ISOLATE_EGRESS, NULL, 0);
	/* Both entries, whichever packet comes first. */
	LAB_STEPS(lab, family, STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), DROPPED(REVOKED)),
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), DROPPED(REVOKED)),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), DROPPED(REVOKED)));
}

static void i1_redecision_judges_the_stored_opener(struct lab *lab, int family)
{
	/* Only A may open to B. After a change that keeps this so, B's data comes first. */
	LAB_POLICY(lab, B, ISOLATE_INGRESS, ALLOW(TW_INGRESS, A, TCP, 80));
	lab_policy(lab, A, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK), REDIRECT));
	datapath_epoch_bump(lab->dp, B);
	LAB_STEPS(lab, family, STEP(FROM_B, P(TCP, B, A, 80, 4000, ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK), REDIRECT));
}

/* ---- I2: bound to its origin ------------------------------------------------------------------- */

static void i2_entry_answers_only_its_ingress(struct lab *lab, int family)
{
	/* C sends what A sends: neither by the entry, nor by one of its own. */
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(TCP, A, B, 4000, 80, ACK), DROPPED(WRONG_INGRESS)),
		  STEP(FROM_C, P(TCP, A, B, 4000, 80, SYN), DROPPED(WRONG_INGRESS)),
		  STEP(UP, P(TCP, A, B, 4000, 80, ACK), DROPPED(WRONG_INGRESS)),
		  STEP(FROM_C, P(TCP, B, A, 80, 4000, ACK), DROPPED(WRONG_INGRESS)),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK), REDIRECT));
}

static void i2_reply_only_by_its_uplink(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2),
		  STEP(UP2, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), DROPPED(WRONG_INGRESS)),
		  STEP(FROM_B, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), DROPPED(WRONG_INGRESS)),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), REDIRECT));
}

/*
 * Decisions lapse, routes do not change: the next packet of somebody's tuple comes in by the other
 * uplink. It moves nothing, and the flow goes on where it was.
 */
static void i2_forged_packet_does_not_move_a_flow(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(UP, P(TCP, OUTSIDE, A, 4000, 80, SYN), REDIRECT, .entries = 1));
	datapath_epoch_bump(lab->dp, 0);
	LAB_STEPS(lab, family, STEP(UP2, P(TCP, OUTSIDE, A, 4000, 80, ACK), DROPPED(WRONG_INGRESS)),
		  STEP(UP, P(TCP, OUTSIDE, A, 4000, 80, ACK), REDIRECT),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 80, 4000, ACK), REDIRECT),
		  STEP(UP2, P(TCP, OUTSIDE, A, 4000, 80, ACK), DROPPED(WRONG_INGRESS)));
}

static void i2_container_has_only_its_own_source(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, C, B, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(TCP, NODE, B, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(TCP, OUTSIDE, B, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(UDP, EMPTY, OUTSIDE, 4000, 80), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(UDP, NOWHERE, B, 4000, 80), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(ECHO, C, B, 4), DROPPED(SPOOFED)));
}

static void i2_uplink_brings_no_local_source(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(UP, P(TCP, A, B, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(UP, P(TCP, A, NODE, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(UP, P(TCP, NODE, A, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(UP, P(TCP, NODE2, A, 4000, 80, SYN), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, NODE, NODE, 4000, 80), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, EMPTY, A, 4000, 80), DROPPED(SPOOFED)));
	/* Nor shorter than its own header says: who sent it is read first. */
	LAB_STEPS(lab, family,
		  STEP(UP, P(UDP, A, NODE, 1, 2, .payload = 40, .cut = 80), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 1, 2, .payload = 40, .cut = 80), TO_STACK));
	/* Nor what is left to the node, because its headers are not followed. */
	LAB_STEPS(
		lab, family,
		STEP(UP, P(UDP, OUTSIDE, NODE, 4000, 80, .frag_off = 8, .frag_id = 5), TO_STACK),
		STEP(UP, P(UDP, A, NODE, 4000, 80, .frag_off = 8, .frag_id = 5), DROPPED(SPOOFED)));
	if (family == 6)
		LAB_STEPS(lab, family,
			  STEP(UP, P(UDP, OUTSIDE, NODE, 4000, 80, .headers = 12), TO_STACK),
			  STEP(UP, P(UDP, A, NODE, 4000, 80, .headers = 12), DROPPED(SPOOFED)),
			  STEP(UP, P(ICMP_OTHER, NODE, A), TO_STACK));
}

/* Redirects come before the stack's own checks of addresses that no router forwards. */
static void i2_martians_are_not_forwarded(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(UP, P(UDP, NOWHERE, A, 4000, 80), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, LOOPBACK, A, 4000, 80), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, GROUP, A, 4000, 80), DROPPED(SPOOFED)),
		  STEP(UP_TO_A, P(UDP, LOOPBACK, A, 4000, 80), DROPPED(SPOOFED)),
		  STEP(FROM_A, P(UDP, A, NOWHERE, 4000, 80), DROPPED(NO_ROUTE)),
		  STEP(FROM_A, P(UDP, A, LOOPBACK, 4000, 80), DROPPED(NO_ROUTE)));
}

/* On the uplink's wire there is also what is for others. */
static void i2_frames_for_another_mac(struct lab *lab, int family)
{
	const struct spec spec = P(UDP, OUTSIDE, A, 4000, 80);
	const uint8_t first[] = { 0x02, 0x06, 0x00 };

	for (size_t i = 0; i < sizeof(first); i++) {
		struct outcome got;
		struct frame in;

		frame_build(&in, family, &spec);
		in.data[0] = first[i];
		lab_run(lab, UP, &in, NULL, &got);
		assert_int_equal(got.verdict, i ? PASS : REDIRECTED);
	}
}

/* Nobody out there complains with one of our addresses, about whatever. */
static void i2_icmp_error_with_a_local_source(struct lab *lab, int family)
{
	const struct spec sent = P(UDP, A, KEPT, 4000, 53);

	LAB_STEPS(lab, family, STEP(FROM_A, sent, REDIRECT, .entries = 1),
		  STEP(UP, P(UNREACHABLE, ROUTER, A, .about = &sent), REDIRECT),
		  STEP(UP, P(UNREACHABLE, NODE, A, .about = &sent), DROPPED(SPOOFED)),
		  STEP(UP, P(UNREACHABLE, B, A, .about = &sent), DROPPED(SPOOFED)));
}

/* The node is known by the hook that a packet meets, and not by its address. */
static void i2_host_is_where_it_comes_from(struct lab *lab, int family)
{
	lab_policy(lab, A, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(TO_A, P(TCP, NODE, A, 4000, 80, SYN), TO_STACK, .entries = 1),
		  /* Another address of the node's own, one that the ipcache does not know. */
		  STEP(TO_A, P(TCP, ROUTER, A, 4000, 80, SYN), TO_STACK, .entries = 1),
		  STEP(UP_TO_A, P(TCP, OUTSIDE, A, 4000, 80, SYN), DROPPED(POLICY_INGRESS)),
		  /* Masqueraded by the node for a stranger: that is not the node. */
		  STEP(UP_TO_A, P(TCP, NODE, A, 4001, 80, SYN), DROPPED(POLICY_INGRESS)));
}

/*
 * The tag of a real frame is in the skb by the time tc sees it, which no test-run can set: the
 * system tests send those. Here it is still in the frame, as an inner tag would be.
 */
static void i2_vlan_tagged_frames(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN, .vlan = true), DROPPED(NOT_IP)),
		  STEP(UP, P(TCP, OUTSIDE, A, 4000, 80, SYN, .vlan = true), TO_STACK));
}

/* An address that moves to another container takes no connection along. */
static void i2_address_reused_by_another_container(struct lab *lab, int family)
{
	const uint32_t new_slot = C + 1;
	union tw_addr addr;
	struct tw_endpoint ep;

	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 53), REDIRECT, .entries = 1));
	/* A is removed; its address comes back behind C's port in another slot. */
	assert_int_equal(datapath_endpoint_clear(lab->dp, A), 0);
	datapath_epoch_bump(lab->dp, A);
	LAB_STEPS(lab, family, STEP(FROM_B, P(UDP, B, A, 53, 4000), DROPPED(REVOKED)));
	lab_endpoint(lab, A, &ep);
	ep.ifindex = lab->port[C];
	place_addr(A, family, &addr);
	assert_int_equal(datapath_endpoint_set(lab->dp, new_slot, &ep), 0);
	assert_int_equal(datapath_prefix_set(lab->dp, &addr, 128, TW_WORD_ENDPOINT | new_slot), 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 53), DROPPED(REVOKED)),
		  STEP(FROM_C, P(UDP, A, B, 4000, 53), REDIRECT),
		  STEP(FROM_B, P(UDP, B, A, 53, 4000), REDIRECT));
	assert_int_equal(datapath_prefix_set(lab->dp, &addr, 128, TW_WORD_ENDPOINT | A), 0);
	assert_int_equal(datapath_endpoint_clear(lab->dp, new_slot), 0);
}

/*
 * While a decision has lapsed, or after a RST that anybody may have forged, a packet may open
 * anew. One that may not must leave the connection that is there alone.
 */
static void i2_refused_opener_revokes_nothing(struct lab *lab, int family)
{
	struct tw_flow flow;
	struct tw_tuple t;

	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 53), REDIRECT, .entries = 1));
	datapath_epoch_bump(lab->dp, B);
	LAB_STEPS(lab, family, STEP(FROM_C, P(UDP, A, B, 4000, 53), DROPPED(SPOOFED)),
		  STEP(UP, P(UDP, A, B, 4000, 53), DROPPED(SPOOFED)));
	spec_tuple(&P(UDP, A, B, 4000, 53), family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, NULL), 0);
	assert_int_equal(flow.half[0].kind, TW_KIND_LOCAL);
	assert_int_equal(flow.half[1].kind, TW_KIND_LOCAL);
	/* From outside nobody may open to A; A's own connection outlives a forged RST and SYN. */
	lab_policy(lab, A, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, KEPT, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(UP, P(TCP, KEPT, A, 80, 4000, SYN | ACK), REDIRECT),
		  STEP(UP, P(TCP, KEPT, A, 80, 4000, RST), REDIRECT),
		  STEP(UP, P(TCP, KEPT, A, 80, 4000, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, P(TCP, A, KEPT, 4000, 80, ACK), REDIRECT),
		  STEP(UP, P(TCP, KEPT, A, 80, 4000, ACK), REDIRECT));
}

/* Who is pinged may not ping back because the identifier is the same. */
static void i1_echo_request_is_no_reply(struct lab *lab, int family)
{
	lab_policy(lab, A, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(ECHO, A, B, 7), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(ECHO_REPLY, B, A, 7), REDIRECT),
		  STEP(FROM_B, P(ECHO, B, A, 7), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_B, P(ECHO_REPLY, B, A, 7), REDIRECT),
		  STEP(FROM_A, P(ECHO, A, OUTSIDE, 7), OUT(ECHO, NODE, OUTSIDE, 0, 0, .ttl = 63),
		       .entries = 2),
		  STEP(UP, P(ECHO_REPLY, OUTSIDE, NODE, SNAT_PORT), REDIRECT),
		  /* That is the node's to answer. */
		  STEP(UP, P(ECHO, OUTSIDE, NODE, SNAT_PORT), TO_STACK),
		  STEP(FROM_B, P(ECHO, OUTSIDE, NODE, SNAT_PORT), DROPPED(WRONG_INGRESS)));
	/* Both may: then they share the entry. */
	lab_policy_none(lab, A);
	LAB_STEPS(lab, family, STEP(FROM_B, P(ECHO, B, A, 7), REDIRECT),
		  STEP(FROM_A, P(ECHO_REPLY, A, B, 7), REDIRECT),
		  STEP(FROM_A, P(ECHO, A, B, 7), REDIRECT));
}

/* ---- I8: back the way it came -------------------------------------------------------------------- */

static void i8_through_the_stack_is_answered_through_it(struct lab *lab, int family)
{
	struct tw_flow flow;
	struct tw_tuple t;
	const struct spec in = P(TCP, OUTSIDE, A, 4000, 80, SYN);

	/* Someone else's DNAT: in by the uplink, routed, out by the port. */
	LAB_STEPS(lab, family, STEP(UP_TO_A, in, TO_STACK, .out = &in, .entries = 1),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 80, 4000, SYN | ACK), TO_STACK,
		       .out = &P(TCP, A, OUTSIDE, 80, 4000, SYN | ACK)),
		  STEP(UP_TO_A, P(TCP, OUTSIDE, A, 4000, 80, ACK), TO_STACK),
		  STEP(FROM_A, P(TCP, A, OUTSIDE, 80, 4000, ACK), TO_STACK,
		       .out = &P(TCP, A, OUTSIDE, 80, 4000, ACK)));
	spec_tuple(&in, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, NULL), 0);
	assert_int_equal(flow.half[0].flags & TW_HALF_REWRITE, 0);
	assert_int_equal(flow.half[1].flags & TW_HALF_REWRITE, 0);
}

static void i8_stack_to_container_obeys_policy(struct lab *lab, int family)
{
	LAB_POLICY(lab, A, ISOLATE_INGRESS, ALLOW(TW_INGRESS, OUTSIDE, TCP, 80));
	LAB_STEPS(lab, family,
		  STEP(UP_TO_A, P(TCP, OUTSIDE, A, 4000, 80, SYN), TO_STACK, .entries = 1),
		  STEP(UP_TO_A, P(TCP, OUTSIDE2, A, 4000, 80, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(B_TO_A, P(TCP, B, A, 4000, 80, SYN), DROPPED(POLICY_INGRESS)));
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i1_middle_of_a_connection_needs_both_ways),
		LAB_TEST(i1_rst_and_reply_open_nothing),
		LAB_TEST(i1_revoked_flow_is_kept_as_tombstone),
		LAB_TEST(i1_reply_cannot_reopen_what_is_revoked),
		LAB_TEST(i1_revoked_to_the_outside),
		LAB_TEST(i1_redecision_judges_the_stored_opener),
		LAB_TEST(i1_echo_request_is_no_reply),
		LAB_TEST(i2_entry_answers_only_its_ingress),
		LAB_TEST(i2_reply_only_by_its_uplink),
		LAB_TEST(i2_forged_packet_does_not_move_a_flow),
		LAB_TEST(i2_container_has_only_its_own_source),
		LAB_TEST(i2_uplink_brings_no_local_source),
		LAB_TEST(i2_martians_are_not_forwarded),
		LAB_TEST(i2_frames_for_another_mac),
		LAB_TEST(i2_icmp_error_with_a_local_source),
		LAB_TEST(i2_host_is_where_it_comes_from),
		LAB_TEST(i2_vlan_tagged_frames),
		LAB_TEST(i2_address_reused_by_another_container),
		LAB_TEST(i2_refused_opener_revokes_nothing),
		LAB_TEST(i8_through_the_stack_is_answered_through_it),
		LAB_TEST(i8_stack_to_container_obeys_policy),
	};

	lab_netns();
	return lab_main("origin", &(struct lab_options){}, tests, sizeof(tests) / sizeof(tests[0]));
}
