/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* I10 and I13: a flood starves nobody, and nothing that is logged is in a packet's way. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "lab.h"

#define MAX_FLOWS 512

static void budget_set(struct lab *lab, enum place place, uint32_t rate, uint32_t cap)
{
	struct tw_endpoint ep;

	lab_endpoint(lab, place, &ep);
	ep.rate = rate;
	ep.cap = cap;
	assert_int_equal(datapath_endpoint_set(lab->dp, place, &ep), 0);
}

/* How many of n new flows from A to B were made; the reasons of the others are checked. */
static uint32_t open_many(struct lab *lab, int family, uint32_t n, enum tw_reason refused)
{
	uint32_t made = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct spec spec = P(UDP, A, B, (uint16_t)(1000 + i), 53);
		struct outcome got;

		lab_send(lab, family, FROM_A, &spec, &got);
		if (got.verdict == REDIRECTED)
			made++;
		else
			assert_int_equal(got.reason, refused);
	}
	return made;
}

/* ---- I10: budgets ---------------------------------------------------------------------------------- */

static void i10_rate_of_new_flows(struct lab *lab, int family)
{
	budget_set(lab, A, 20, 0);
	/* 20 at once, and as many a second as are filled up while this runs. */
	assert_in_range(open_many(lab, family, 100, TW_REASON_RATE), 20, 60);
	/* The neighbour is not starved, nor is what is established. */
	LAB_STEPS(lab, family, STEP(FROM_B, P(UDP, B, A, 5000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, 1000, 53), REDIRECT));
}

static void i10_cap_of_entries(struct lab *lab, int family)
{
	budget_set(lab, A, 0, 10);
	assert_int_equal(open_many(lab, family, 30, TW_REASON_CAP), 10);
	LAB_STEPS(lab, family, STEP(FROM_B, P(UDP, B, A, 5000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(UDP, C, B, 5000, 53), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, 1000, 53), REDIRECT));
}

/* What the network opens may fill half of the table; the node's own containers have the rest. */
static void i10_uplinks_fill_half_at_most(struct lab *lab, int family)
{
	uint32_t made = 0;

	for (uint16_t i = 0; i < MAX_FLOWS; i++) {
		const struct spec in = P(UDP, OUTSIDE, C, (uint16_t)(1000 + i), 53);
		struct outcome got;

		lab_send(lab, family, UP, &in, &got);
		made += got.verdict == REDIRECTED;
		if (got.verdict != REDIRECTED)
			assert_int_equal(got.reason, TW_REASON_CAP);
	}
	assert_int_equal(made, MAX_FLOWS / 2);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 5000, 53), REDIRECT, .entries = 1),
		  STEP(UP, P(UDP, OUTSIDE, C, 1000, 53), REDIRECT));
}

/* What is collected may be opened anew. */
static void i10_cap_is_given_back(struct lab *lab, int family)
{
	struct tw_collect_args args = { .now = 1u << 30 };

	budget_set(lab, A, 0, 10);
	assert_int_equal(open_many(lab, family, 10, TW_REASON_CAP), 10);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 5000, 53), DROPPED(CAP)));
	for (int i = 0; i < 2; i++)
		assert_int_equal(datapath_collect(lab->dp, &args), 0);
	assert_int_equal(args.deleted, 10);
	assert_int_equal(open_many(lab, family, 30, TW_REASON_CAP), 10);
}

/* A refused insert charges nothing, or refusals alone would use the cap up. */
static void i10_what_is_refused_is_not_charged(struct lab *lab, int family)
{
	budget_set(lab, A, 0, 10);
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	assert_int_equal(open_many(lab, family, 50, TW_REASON_POLICY_INGRESS), 0);
	assert_int_equal(lab_flow_count(lab, family), 0);
	lab_policy_none(lab, B);
	assert_int_equal(open_many(lab, family, 30, TW_REASON_CAP), 10);
}

/* Who opens again where another's flow was takes the charge over; a lost count stays harmless. */
static void i10_reopened_flow_changes_its_charge(struct lab *lab, int family)
{
	int fd = datapath_map_fd(lab->dp, "tw_budget");
	struct tw_budget budget;
	uint32_t slot = A;

	for (int lost = 0; lost < 2; lost++) {
		const uint16_t port = (uint16_t)(4000 + lost);

		LAB_STEPS(lab, family,
			  STEP(FROM_A, P(TCP, A, B, port, 80, SYN), REDIRECT, .entries = 1),
			  STEP(FROM_B, P(TCP, B, A, 80, port, RST | ACK), REDIRECT));
		slot = A;
		assert_int_equal(bpf_map_lookup_elem(fd, &slot, &budget), 0);
		assert_int_equal(budget.flows, 1);
		budget.flows -= (uint32_t)lost;
		assert_int_equal(bpf_map_update_elem(fd, &slot, &budget, BPF_ANY), 0);
		LAB_STEPS(lab, family, STEP(FROM_B, P(TCP, B, A, 80, port, SYN), REDIRECT));
		assert_int_equal(bpf_map_lookup_elem(fd, &slot, &budget), 0);
		assert_int_equal(budget.flows, 0);
		slot = B;
		assert_int_equal(bpf_map_lookup_elem(fd, &slot, &budget), 0);
		assert_int_equal(budget.flows, 1 + lost);
	}
}

static void i10_full_table_refuses_new_and_keeps_old(struct lab *lab, int family)
{
	assert_int_equal(open_many(lab, family, MAX_FLOWS + 40, TW_REASON_MAP_FULL), MAX_FLOWS);
	for (uint32_t i = 0; i < MAX_FLOWS; i++) {
		const struct spec old = P(UDP, A, B, (uint16_t)(1000 + i), 53);
		struct outcome got;

		lab_send(lab, family, FROM_A, &old, &got);
		assert_int_equal(got.verdict, REDIRECTED);
	}
	assert_int_equal(lab_flow_count(lab, family), MAX_FLOWS);
}

static void heartbeat_set(struct lab *lab, uint32_t heartbeat)
{
	int fd = datapath_map_fd(lab->dp, "tw_config");
	struct tw_config config;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &config), 0);
	config.heartbeat = heartbeat;
	config.swept = heartbeat;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &config, BPF_ANY), 0);
}

/* Makes every entry but the first look as if nothing had come for an hour. */
static void flows_age(struct lab *lab, int family, uint32_t n, uint32_t jiffies)
{
	for (uint32_t i = 1; i < n; i++) {
		const struct spec old = P(UDP, A, B, (uint16_t)(1000 + i), 53);
		struct tw_flow flow;
		struct tw_tuple t;

		spec_tuple(&old, family, &t);
		assert_int_equal(lab_flow_get(lab, &t, &flow, NULL), 0);
		flow.half[0].seen -= jiffies;
		flow.half[1].seen -= jiffies;
		lab_flow_set(lab, &t, &flow);
	}
}

/*
 * With the agent dead nobody collects. A full table then frees what has been idle for its
 * lifetime, in two sweeps a second apart; what lives stays.
 */
static void i11_dead_agent_and_a_full_table(struct lab *lab, int family)
{
	uint64_t sweeps = lab_counter(lab, TW_COUNTER_GUARD_SWEEPS);
	const struct spec live = P(UDP, A, B, 1000, 53), more = P(UDP, A, B, 999, 53);
	struct tw_settings s;
	struct tw_flow flow;
	struct outcome got;
	struct tw_tuple t;

	datapath_settings_default(&s);
	assert_int_equal(open_many(lab, family, MAX_FLOWS, TW_REASON_MAP_FULL), MAX_FLOWS);
	flows_age(lab, family, MAX_FLOWS, 3600 * s.hz);
	/* While the agent lives, that is its business. */
	LAB_STEPS(lab, family, STEP(FROM_A, more, DROPPED(MAP_FULL)));
	assert_int_equal(lab_counter(lab, TW_COUNTER_GUARD_SWEEPS), sweeps);
	spec_tuple(&live, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, NULL), 0);
	heartbeat_set(lab, flow.half[0].seen - 2 * s.agent_dead);
	LAB_STEPS(lab, family, STEP(FROM_A, more, DROPPED(MAP_FULL)),
		  STEP(FROM_A, more, DROPPED(MAP_FULL)));
	assert_int_equal(lab_counter(lab, TW_COUNTER_GUARD_SWEEPS), sweeps + 1);
	usleep(1100 * 1000);
	lab_send(lab, family, FROM_A, &more, &got);
	assert_int_equal(lab_counter(lab, TW_COUNTER_GUARD_SWEEPS), sweeps + 2);
	LAB_STEPS(lab, family, STEP(FROM_A, more, REDIRECT, .entries = 1),
		  STEP(FROM_A, live, REDIRECT));
}

static void i10_denied_makes_no_entry(struct lab *lab, int family)
{
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, P(TCP, A, B, 4000, 80, ACK), DROPPED(POLICY_INGRESS)),
		  STEP(UP, P(TCP, OUTSIDE, B, 4000, 80, SYN), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, P(UDP, C, B, 4000, 80), DROPPED(SPOOFED)));
}

/* ---- I13: an event is never in the way ----------------------------------------------------------------- */

static void drop_events_limit(struct lab *lab, uint32_t limit)
{
	int fd = datapath_map_fd(lab->dp, "tw_config");
	struct tw_config config;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &config), 0);
	config.drop_events = limit;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &config, BPF_ANY), 0);
}

static uint32_t drop_events_limit_get(struct lab *lab)
{
	int fd = datapath_map_fd(lab->dp, "tw_config");
	struct tw_config config;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &config), 0);
	return config.drop_events;
}

/* Sends n packets that policy denies in one test-run; all must be dropped. */
static void deny_many(struct lab *lab, int family, uint32_t n)
{
	const struct run_options opts = { .repeat = n };
	const struct spec spec = P(UDP, A, B, 4000, 53);
	struct outcome got;
	struct frame in;

	frame_build(&in, family, &spec);
	lab_run(lab, FROM_A, &in, &opts, &got);
	assert_int_equal(got.verdict, DROP);
	assert_int_equal(got.drops, n);
}

/* The same to n ports: drops that have nothing to do with each other. */
static void deny_each(struct lab *lab, int family, uint32_t n)
{
	struct outcome got;

	for (uint32_t i = 0; i < n; i++) {
		const struct spec spec = P(UDP, A, B, 4000, (uint16_t)(10000 + i));

		lab_send(lab, family, FROM_A, &spec, &got);
		assert_int_equal(got.verdict, DROP);
	}
}

static void i13_full_ring_loses_events_not_packets(struct lab *lab, int family)
{
	uint64_t lost = lab_counter(lab, TW_COUNTER_EVENTS_LOST);
	uint64_t sent = lab_counter(lab, TW_COUNTER_EVENTS_SENT);
	uint32_t limit = drop_events_limit_get(lab);

	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	drop_events_limit(lab, UINT32_MAX);
	/* The limit is read once a second and CPU. */
	usleep(1100 * 1000);
	deny_each(lab, family, 6000);
	lost = lab_counter(lab, TW_COUNTER_EVENTS_LOST) - lost;
	sent = lab_counter(lab, TW_COUNTER_EVENTS_SENT) - sent;
	assert_true(lost > 0);
	assert_int_equal(lost + sent, 6000);
	/* New flows go on although nobody reads. */
	LAB_STEPS(lab, family, STEP(FROM_B, P(UDP, B, C, 4000, 53), REDIRECT, .entries = 1));
	drop_events_limit(lab, limit);
	usleep(1100 * 1000);
}

static void i13_drop_events_are_limited(struct lab *lab, int family)
{
	uint64_t sent = lab_counter(lab, TW_COUNTER_EVENTS_SENT);
	uint64_t suppressed = lab_counter(lab, TW_COUNTER_EVENTS_SUPPRESSED);
	uint32_t limit = drop_events_limit_get(lab);

	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	drop_events_limit(lab, 25);
	usleep(1100 * 1000);
	deny_each(lab, family, 2000);
	sent = lab_counter(lab, TW_COUNTER_EVENTS_SENT) - sent;
	suppressed = lab_counter(lab, TW_COUNTER_EVENTS_SUPPRESSED) - suppressed;
	/* Two seconds and two CPUs at the most. */
	assert_in_range(sent, 1, 100);
	/* Of each kind and CPU one may wait to be told with the next. */
	assert_in_range(sent + suppressed, 2000 - 64, 2000);
	drop_events_limit(lab, limit);
	usleep(1100 * 1000);
}

struct told {
	uint64_t packets, bytes, length;
};

static int told_add(void *arg, const struct tw_event *ev)
{
	struct told *told = arg;

	assert_int_equal(ev->type, TW_EVENT_DROP);
	told->packets += ev->packets[0];
	told->bytes += ev->bytes[0];
	told->length = ev->length;
	return 0;
}

/* A flood is a few events that stand for all of it, and takes nobody else's. */
static void i13_flood_is_told_with_its_number(struct lab *lab, int family)
{
	uint64_t sent = lab_counter(lab, TW_COUNTER_EVENTS_SENT);
	struct tw_event ev;
	struct told told = { 0 };

	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	usleep(1100 * 1000);
	lab_events_drain(lab);
	deny_many(lab, family, 200000);
	/* Two seconds and two CPUs at the most. */
	assert_in_range(lab_counter(lab, TW_COUNTER_EVENTS_SENT) - sent, 16, 4 * 16 + 200);
	assert_true(datapath_events(lab->dp, told_add, &told) > 0);
	assert_in_range(told.packets, 200000 - 2 * 1024, 200000);
	assert_int_equal(told.bytes, told.packets * told.length);
	deny_each(lab, family, 1);
	assert_int_equal(lab_event(lab, TW_EVENT_DROP, &ev), 0);
	assert_int_equal(ev.packets[0], 1);
	assert_int_equal(ev.tuple.dport, htons(10000));
}

/* Waking a reader costs the packet microseconds: the reader polls instead. */
static void i13_no_event_wakes_the_reader(struct lab *lab, int family)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int fd = datapath_map_fd(lab->dp, "tw_events"), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct tw_event got;

	lab_events_drain(lab);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev), 0);
	assert_int_equal(epoll_wait(epoll, &ev, 1, 0), 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 53), REDIRECT, .entries = 1));
	lab_policy(lab, C, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, C, 4000, 53), DROPPED(POLICY_INGRESS)));
	/* A wake-up is delivered from an interrupt work item a little later. */
	assert_int_equal(epoll_wait(epoll, &ev, 1, 50), 0);
	assert_int_equal(lab_event(lab, TW_EVENT_DROP, &got), 0);
	close(epoll);
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i10_rate_of_new_flows),
		LAB_TEST(i10_cap_of_entries),
		LAB_TEST(i10_uplinks_fill_half_at_most),
		LAB_TEST(i10_cap_is_given_back),
		LAB_TEST(i10_what_is_refused_is_not_charged),
		LAB_TEST(i10_reopened_flow_changes_its_charge),
		LAB_TEST(i10_full_table_refuses_new_and_keeps_old),
		LAB_TEST(i11_dead_agent_and_a_full_table),
		LAB_TEST(i10_denied_makes_no_entry),
		LAB_TEST(i13_full_ring_loses_events_not_packets),
		LAB_TEST(i13_drop_events_are_limited),
		LAB_TEST(i13_flood_is_told_with_its_number),
		LAB_TEST(i13_no_event_wakes_the_reader),
	};

	lab_netns();
	return lab_main("budget", &(struct lab_options){ .max_flows = MAX_FLOWS }, tests,
			sizeof(tests) / sizeof(tests[0]));
}
