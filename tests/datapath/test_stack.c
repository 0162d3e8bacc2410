/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* `outside = stack` (I8): what leaves the node goes through the host's stack, and its answers too. */
#include "lab.h"

#define ASK(flags) P(TCP, A, OUTSIDE, 4000, 80, flags)
#define ANSWER(flags) P(TCP, OUTSIDE, A, 80, 4000, flags)

static void i8_outside_by_the_stack(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, ASK(SYN), TO_STACK, .out = &ASK(SYN), .entries = 1),
		  STEP(UP_TO_A, ANSWER(SYN | ACK), TO_STACK, .out = &ANSWER(SYN | ACK)),
		  STEP(FROM_A, ASK(ACK), TO_STACK, .out = &ASK(ACK)),
		  STEP(UP_TO_A, ANSWER(ACK), TO_STACK));
}

/* A service's address: the stack sends it on to another container, and the answer back. */
static void i8_answer_from_another_container(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, ASK(SYN), TO_STACK, .entries = 1),
		  STEP(B_TO_A, ANSWER(SYN | ACK), TO_STACK, .out = &ANSWER(SYN | ACK)),
		  STEP(FROM_A, ASK(ACK), TO_STACK), STEP(B_TO_A, ANSWER(ACK), TO_STACK));
}

static void i8_answer_to_what_nobody_asked(struct lab *lab, int family)
{
	LAB_POLICY(lab, A, ISOLATE_INGRESS | ISOLATE_EGRESS, ALLOW(TW_EGRESS, OUTSIDE, TCP, 80));
	/* Not from the container itself, which has no such address, and only what was asked for. */
	LAB_STEPS(lab, family, STEP(B_TO_A, ANSWER(SYN | ACK), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, ASK(SYN), TO_STACK, .entries = 1),
		  STEP(FROM_B, ANSWER(SYN | ACK), DROPPED(WRONG_INGRESS)),
		  STEP(B_TO_A, P(TCP, OUTSIDE, A, 81, 4000, SYN | ACK), DROPPED(POLICY_INGRESS)),
		  STEP(B_TO_A, ANSWER(SYN | ACK), TO_STACK));
	/* A change of policy judges the opener, whoever answers. */
	LAB_POLICY(lab, A, ISOLATE_INGRESS | ISOLATE_EGRESS, ALLOW(TW_EGRESS, OUTSIDE, TCP, 443));
	LAB_STEPS(lab, family, STEP(B_TO_A, ANSWER(ACK), DROPPED(REVOKED)));
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i8_outside_by_the_stack),
		LAB_TEST(i8_answer_from_another_container),
		LAB_TEST(i8_answer_to_what_nobody_asked),
	};

	lab_netns();
	return lab_main("stack", &(struct lab_options){ .outside_stack = true }, tests,
			sizeof(tests) / sizeof(tests[0]));
}
