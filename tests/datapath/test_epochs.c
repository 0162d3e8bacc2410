/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* I3, I4, I5, I11: how a decision is replaced, and how an entry dies. */
#include <bpf/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lab.h"

static struct tw_flow flow_of(struct lab *lab, int family, const struct spec *spec,
			      unsigned int *dir)
{
	struct tw_flow flow;
	struct tw_tuple t;

	spec_tuple(spec, family, &t);
	assert_int_equal(lab_flow_get(lab, &t, &flow, dir), 0);
	return flow;
}

static void send_expect(struct lab *lab, int family, enum via via, const struct spec *spec,
			int verdict, int64_t redecisions)
{
	struct outcome got;

	lab_send(lab, family, via, spec, &got);
	assert_int_equal(got.verdict, verdict);
	assert_int_equal(got.redecisions, redecisions);
}

/* ---- I3: no torn reads ------------------------------------------------------------------------ */

/* An entry whose kind is NONE is being rewritten or deleted: nothing in it is an answer. */
static void i3_entry_in_change_is_no_answer(struct lab *lab, int family)
{
	const struct spec syn = P(TCP, A, B, 4000, 80, SYN), ack = P(TCP, A, B, 4000, 80, ACK);
	struct tw_flow flow;
	struct tw_tuple t;
	unsigned int dir;

	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	send_expect(lab, family, FROM_A, &ack, REDIRECTED, 0);
	flow = flow_of(lab, family, &syn, &dir);
	flow.half[dir].kind = TW_KIND_NONE;
	flow.half[dir].out = lab->port[C]; /* what a foreign element would say */
	spec_tuple(&syn, family, &t);
	lab_flow_set(lab, &t, &flow);
	send_expect(lab, family, FROM_A, &ack, REDIRECTED, 1);
	flow = flow_of(lab, family, &syn, &dir);
	assert_int_equal(flow.half[dir].kind, TW_KIND_LOCAL);
	assert_int_equal(flow.half[dir].out, lab->port[B]);
	send_expect(lab, family, FROM_A, &ack, REDIRECTED, 0);
}

/* Counters and flags seen survive a new decision: the entry is changed, not replaced. */
static void i3_entry_is_changed_in_place(struct lab *lab, int family)
{
	const struct spec syn = P(TCP, A, B, 4000, 80, SYN), ack = P(TCP, A, B, 4000, 80, ACK);
	struct tw_flow flow;
	unsigned int dir;

	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	for (int i = 0; i < 4; i++)
		send_expect(lab, family, FROM_A, &ack, REDIRECTED, 0);
	datapath_epoch_bump(lab->dp, B);
	send_expect(lab, family, FROM_A, &ack, REDIRECTED, 1);
	flow = flow_of(lab, family, &syn, &dir);
	assert_int_equal(flow.half[dir].packets, 6);
	assert_true(flow.half[dir].tcp & SYN);
	assert_true(flow.half[dir].flags & TW_HALF_OPENER);
}

struct reuse {
	struct lab *lab;
	int family;
	atomic_bool stop;
	_Atomic uint64_t collected;
};

static void *reuse_collect(void *arg)
{
	struct reuse *r = arg;

	while (!r->stop) {
		/* Everything is idle at once: marked in one pass, deleted in the next. */
		struct tw_collect_args args = { .now = 1u << 30 };

		if (!datapath_collect(r->lab->dp, &args))
			r->collected += args.deleted;
		sched_yield();
	}
	return NULL;
}

/*
 * Deleted elements come back at once as other flows' entries, under a reader. The table is
 * small and everything in it dies all the time; each packet must still leave by its own flow:
 * B's packets to its own peer port, translated from its own port.
 */
static void i3_reused_elements_are_never_mixed_up(struct lab *lab, int family)
{
	struct reuse r = { .lab = lab, .family = family };
	struct __sk_buff ctx = { .ifindex = lab->port[A], .ingress_ifindex = lab->port[A] };
	int fd = datapath_prog_fd(lab->dp, "tw_from_container");
	static struct frame in, out;
	uint64_t wrong = 0, sent = 0;
	pthread_t collector;

	assert_int_equal(pthread_create(&collector, NULL, reuse_collect, &r), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		const struct spec spec = P(UDP, A, i & 1 ? KEPT : B, (uint16_t)(2000 + i % 37),
					   (uint16_t)(3000 + i % 11), .payload = 4);
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in.data, .data_out = out.data,
			    .data_size_out = FRAME_MAX, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx));
		struct view v;

		frame_build(&in, family, &spec);
		run.data_size_in = (uint32_t)in.len;
		assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
		if ((int)run.retval != REDIRECTED)
			continue;
		sent++;
		out.len = run.data_size_out;
		assert_int_equal(frame_view(&out, &v), 0);
		/* Only what goes out is decremented; only what stays is addressed to B. */
		wrong += v.ttl != (i & 1 ? 63 : 64);
		wrong += (v.dmac[5] == 3) != !(i & 1);
		wrong += !v.checksums_right;
	}
	r.stop = true;
	pthread_join(collector, NULL);
	assert_int_equal(wrong, 0);
	/* Or it proved nothing. */
	assert_true(sent > 1000);
	assert_true(r.collected > 100);
}

/* ---- I4: epochs ---------------------------------------------------------------------------------- */

static void i4_each_epoch_of_a_flow_makes_it_judged_again(struct lab *lab, int family)
{
	const struct spec syn = P(UDP, A, B, 4000, 80), reply = P(UDP, B, A, 80, 4000);
	static const uint32_t slots[] = { 0, A, B };

	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	send_expect(lab, family, FROM_B, &reply, REDIRECTED, 0);
	for (size_t i = 0; i < 3; i++) {
		datapath_epoch_bump(lab->dp, slots[i]);
		/* Once for both directions. */
		send_expect(lab, family, i & 1 ? FROM_B : FROM_A, i & 1 ? &reply : &syn, REDIRECTED,
			    1);
		send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
		send_expect(lab, family, FROM_B, &reply, REDIRECTED, 0);
	}
	/* Somebody else's change is nothing to this flow. */
	datapath_epoch_bump(lab->dp, C);
	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	send_expect(lab, family, FROM_B, &reply, REDIRECTED, 0);
}

/* A new policy without a raised epoch changes nothing live: additions cost no re-decision. */
static void i4_additions_bump_nothing(struct lab *lab, int family)
{
	const struct spec syn = P(UDP, A, B, 4000, 80);
	uint32_t version;

	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	version = lab_version(lab, ISOLATE_INGRESS,
			      (const struct allow[]){ ALLOW(TW_INGRESS, NOWHERE, UDP, 80),
						      ALLOW(TW_INGRESS, NOWHERE, UDP, 81) },
			      2);
	assert_int_equal(datapath_endpoint_policy(lab->dp, B, LAB_IDENTITY + B, version), 0);
	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
}

static void i4_stamp_is_what_was_read_before(struct lab *lab, int family)
{
	const struct spec syn = P(UDP, A, B, 4000, 80);
	struct tw_flow before, after;
	unsigned int dir;

	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 0);
	before = flow_of(lab, family, &syn, &dir);
	datapath_epoch_bump(lab->dp, A);
	datapath_epoch_bump(lab->dp, B);
	datapath_epoch_bump(lab->dp, 0);
	send_expect(lab, family, FROM_A, &syn, REDIRECTED, 1);
	after = flow_of(lab, family, &syn, &dir);
	assert_int_equal(after.half[0].stamp - before.half[0].stamp, 3);
	assert_int_equal(after.half[1].stamp - before.half[1].stamp, 3);
	assert_int_equal(after.half[dir].slot_from, A);
	assert_int_equal(after.half[dir].slot_to, B);
}

struct sender {
	struct lab *lab;
	const struct frame *in;
	atomic_bool stop;
	_Atomic uint64_t runs;
};

static int sender_once(struct lab *lab, const struct frame *in, uint32_t repeat)
{
	struct __sk_buff ctx = { .ifindex = lab->port[A], .ingress_ifindex = lab->port[A] };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in->data, .data_size_in = (uint32_t)in->len,
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = (int)repeat);

	if (bpf_prog_test_run_opts(datapath_prog_fd(lab->dp, "tw_from_container"), &run))
		return -1000;
	return (int)run.retval;
}

static void *sender_run(void *arg)
{
	struct sender *s = arg;

	while (!s->stop) {
		sender_once(s->lab, s->in, 1000);
		s->runs++;
	}
	return NULL;
}

/*
 * A decision that was made while the policy changed must not outlive the change: its epochs were
 * read before it looked at anything. Another CPU judges the flow all the time; once the change
 * is complete, no packet may pass.
 */
static void i4_no_change_is_missed_by_a_racing_decision(struct lab *lab, int family)
{
	const struct spec spec = P(UDP, A, B, 4000, 80);
	static struct frame in;
	struct sender s = { .lab = lab, .in = &in };
	uint32_t open = lab_version(lab, 0, NULL, 0);
	uint32_t shut = lab_version(lab, ISOLATE_INGRESS, NULL, 0);
	uint32_t passed = 0, opened = 0;
	pthread_t thread;

	frame_build(&in, family, &spec);
	assert_int_equal(pthread_create(&thread, NULL, sender_run, &s), 0);
	for (uint32_t round = 0; round < 100000; round++) {
		datapath_endpoint_policy(lab->dp, B, LAB_IDENTITY + B, open);
		datapath_epoch_bump(lab->dp, B);
		/* At another point of the other CPU's decision each time. */
		for (volatile uint32_t spin = 0; spin < round % 700; spin++)
			;
		if (round % 16 == 0)
			opened += sender_once(lab, &in, 1) == REDIRECTED;
		datapath_endpoint_policy(lab->dp, B, LAB_IDENTITY + B, shut);
		datapath_epoch_bump(lab->dp, B);
		passed += sender_once(lab, &in, 1) != DROP;
	}
	s.stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(passed, 0);
	/* Or it proved nothing. */
	assert_true(opened > 100);
	assert_true(s.runs > 100);
}

static void endpoint_budget(struct lab *lab, enum place place, uint32_t rate, uint32_t cap)
{
	struct tw_endpoint ep;

	lab_endpoint(lab, place, &ep);
	ep.rate = rate;
	ep.cap = cap;
	assert_int_equal(datapath_endpoint_set(lab->dp, place, &ep), 0);
}

static void i4_redecision_is_free_of_budgets(struct lab *lab, int family)
{
	endpoint_budget(lab, A, 0, 1);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 80), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, 4001, 80), DROPPED(CAP)));
	datapath_epoch_bump(lab->dp, A);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4000, 80), REDIRECT),
		  STEP(FROM_A, P(UDP, A, B, 4001, 80), DROPPED(CAP)));
}

static void i4_redecision_keeps_port_and_address(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	datapath_epoch_bump(lab->dp, 0);
	LAB_STEPS(lab, family,
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT),
		       OUT(UDP, OUTSIDE, A, 53, 4000, .ttl = 63)),
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63)));
	datapath_epoch_bump(lab->dp, A);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63)),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT),
		       OUT(UDP, OUTSIDE, A, 53, 4000, .ttl = 63)));
}

static void i4_flow_ends_when_its_address_is_gone(struct lab *lab, int family)
{
	struct tw_uplink uplink = { .mtu = LAB_MTU };
	union tw_addr addr;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	place_addr(NODE2, 4, &addr);
	uplink.masq4 = addr.word[3];
	place_addr(NODE2, 6, &uplink.masq6);
	assert_int_equal(datapath_uplink_set(lab->dp, lab->uplink[0], &uplink), 0);
	datapath_epoch_bump(lab->dp, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53), DROPPED(REVOKED)),
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4001, 53),
		       OUT(UDP, NODE2, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
}

/* ---- I5: whole policies ---------------------------------------------------------------------------- */

struct flip {
	struct lab *lab;
	atomic_bool stop;
	uint32_t open, shut;
};

/* A's two lives: known to B but silent, or unknown to B but free to send. Never both. */
static void *flip_run(void *arg)
{
	struct flip *f = arg;

	while (!f->stop) {
		datapath_endpoint_policy(f->lab->dp, A, LAB_IDENTITY + A, f->shut);
		datapath_endpoint_policy(f->lab->dp, A, LAB_IDENTITY + EMPTY, f->open);
	}
	return NULL;
}

/*
 * An endpoint's identity and policy version change together. Of A's two lives neither may reach
 * B, so a single packet that passes has seen half of each.
 */
static void i5_no_packet_sees_half_a_change(struct lab *lab, int family)
{
	struct flip f = { .lab = lab };
	struct __sk_buff ctx = { .ifindex = lab->port[A], .ingress_ifindex = lab->port[A] };
	int fd = datapath_prog_fd(lab->dp, "tw_from_container");
	static struct frame in;
	const struct spec syn = P(TCP, A, B, 4000, 80, SYN);
	uint64_t denied[2];
	pthread_t flipper;

	f.shut = lab_version(lab, ISOLATE_EGRESS, NULL, 0);
	f.open = lab_version(lab, 0, NULL, 0);
	LAB_POLICY(lab, B, ISOLATE_INGRESS, ALLOW(TW_INGRESS, A, TCP, 80));
	denied[0] = lab_drops(lab, TW_REASON_POLICY_EGRESS);
	denied[1] = lab_drops(lab, TW_REASON_POLICY_INGRESS);
	frame_build(&in, family, &syn);
	assert_int_equal(datapath_endpoint_policy(lab->dp, A, LAB_IDENTITY + A, f.shut), 0);
	assert_int_equal(pthread_create(&flipper, NULL, flip_run, &f), 0);
	for (int i = 0; i < 300; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in.data,
			    .data_size_in = (uint32_t)in.len, .ctx_in = &ctx,
			    .ctx_size_in = sizeof(ctx), .repeat = 10000);

		assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
		if (lab_flow_count(lab, family))
			break;
	}
	f.stop = true;
	pthread_join(flipper, NULL);
	assert_int_equal(lab_flow_count(lab, family), 0);
	/* Both lives were met, or it proved nothing. */
	assert_true(lab_drops(lab, TW_REASON_POLICY_EGRESS) - denied[0] > 1000);
	assert_true(lab_drops(lab, TW_REASON_POLICY_INGRESS) - denied[1] > 1000);
}

/* Endpoints with the same rules share a version; one changing leaves the other alone. */
static void i5_versions_are_shared_and_flipped_alone(struct lab *lab, int family)
{
	uint32_t shut = lab_version(lab, ISOLATE_INGRESS, NULL, 0);

	for (enum place p = A; p <= B; p++) {
		assert_int_equal(datapath_endpoint_policy(lab->dp, p, LAB_IDENTITY + p, shut), 0);
		datapath_epoch_bump(lab->dp, p);
	}
	LAB_STEPS(lab, family, STEP(FROM_C, P(UDP, C, A, 1, 2), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_C, P(UDP, C, B, 1, 2), DROPPED(POLICY_INGRESS)));
	lab_policy_none(lab, A);
	LAB_STEPS(lab, family, STEP(FROM_C, P(UDP, C, A, 1, 2), REDIRECT, .entries = 1),
		  STEP(FROM_C, P(UDP, C, B, 1, 2), DROPPED(POLICY_INGRESS)));
}

/* ---- I11: collection -------------------------------------------------------------------------------- */

static struct tw_collect_args collect(struct lab *lab, uint32_t now)
{
	struct tw_collect_args args = { .now = now };

	assert_int_equal(datapath_collect(lab->dp, &args), 0);
	return args;
}

static void i11_marked_first_and_a_packet_unmarks(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, B, 4000, 53), down = P(UDP, B, A, 53, 4000);
	struct tw_collect_args args;
	struct tw_settings s;
	struct tw_flow flow;
	unsigned int dir;
	uint32_t now;

	datapath_settings_default(&s);
	LAB_STEPS(lab, family, STEP(FROM_A, up, REDIRECT, .entries = 1),
		  STEP(FROM_B, down, REDIRECT));
	flow = flow_of(lab, family, &up, &dir);
	now = flow.half[dir].seen + s.life_udp;
	args = collect(lab, now);
	assert_int_equal(args.visited, 1);
	assert_int_equal(args.marked, 0);
	args = collect(lab, now + s.hz);
	assert_int_equal(args.marked, 1);
	assert_int_equal(args.deleted, 0);
	/* A packet, of either direction, brings it back to life. */
	LAB_STEPS(lab, family, STEP(FROM_B, down, REDIRECT));
	args = collect(lab, now);
	assert_int_equal(args.deleted, 0);
	args = collect(lab, now + s.hz);
	assert_int_equal(args.marked, 1);
	args = collect(lab, now + s.hz);
	assert_int_equal(args.deleted, 1);
	assert_int_equal(lab_flow_count(lab, family), 0);
}

static void i11_both_directions_must_be_idle(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, B, 4000, 53), down = P(UDP, B, A, 53, 4000);
	struct tw_settings s;
	struct tw_flow flow;
	struct tw_tuple t;
	unsigned int dir;
	uint32_t now;

	datapath_settings_default(&s);
	LAB_STEPS(lab, family, STEP(FROM_A, up, REDIRECT, .entries = 1),
		  STEP(FROM_B, down, REDIRECT));
	flow = flow_of(lab, family, &up, &dir);
	now = flow.half[0].seen + 10 * s.life_udp;
	for (unsigned int busy = 0; busy < 2; busy++) {
		flow.half[busy].seen = now;
		flow.half[!busy].seen = now - 10 * s.life_udp;
		spec_tuple(&up, family, &t);
		lab_flow_set(lab, &t, &flow);
		assert_int_equal(collect(lab, now + 1).marked, 0);
	}
}

/* How long each kind of flow lives when nothing is heard of it any more. */
static void i11_lifetimes(struct lab *lab, int family)
{
	struct tw_settings s;

	datapath_settings_default(&s);
	const struct {
		enum what what;
		bool replied, opened, closed;
		uint32_t life;
	} rows[] = {
		{ TCP, false, false, false, s.life_tcp_new },
		/* Answered twice, but nobody had sent that SYN. */
		{ TCP, true, false, false, s.life_tcp_new },
		{ TCP, true, true, false, s.life_tcp_established },
		{ TCP, true, true, true, s.life_tcp_closed },
		{ UDP, false, false, false, s.life_udp_new },
		{ UDP, true, false, false, s.life_udp },
		{ ECHO, false, false, false, s.life_icmp },
		{ SCTP, true, false, false, s.life_other },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct spec up = P(rows[i].what, A, B, 4000, 80, SYN);
		const struct spec down = P(rows[i].what, B, A, 80, 4000, SYN | ACK);
		const struct spec ack = P(TCP, A, B, 4000, 80, ACK);
		const struct spec fins[] = { P(TCP, A, B, 4000, 80, FIN | ACK),
					     P(TCP, B, A, 80, 4000, FIN | ACK) };
		struct tw_flow flow;
		unsigned int dir;
		uint32_t seen;

		send_expect(lab, family, FROM_A, &up, REDIRECTED, 0);
		for (int n = 0; rows[i].replied && n < 2; n++)
			send_expect(lab, family, FROM_B, &down, REDIRECTED, 0);
		if (rows[i].opened)
			send_expect(lab, family, FROM_A, &ack, REDIRECTED, 0);
		if (rows[i].closed) {
			send_expect(lab, family, FROM_A, &fins[0], REDIRECTED, 0);
			send_expect(lab, family, FROM_B, &fins[1], REDIRECTED, 0);
		}
		flow = flow_of(lab, family, &up, &dir);
		seen = flow.half[0].seen > flow.half[1].seen ? flow.half[0].seen
							     : flow.half[1].seen;
		assert_int_equal(collect(lab, seen + rows[i].life).marked, 0);
		assert_int_equal(collect(lab, seen + rows[i].life + s.hz).marked, 1);
		assert_int_equal(collect(lab, seen + rows[i].life + s.hz).deleted, 1);
	}
}

/* Anybody who guesses a port can forge a RST; it must not shorten a connection that goes on. */
static void i11_blind_rst_shortens_nothing(struct lab *lab, int family)
{
	const struct spec data = P(TCP, A, B, 4000, 80, ACK, .payload = 5);
	struct tw_settings s;
	struct tw_flow flow;
	unsigned int dir;
	uint32_t seen;

	datapath_settings_default(&s);
	LAB_STEPS(lab, family, STEP(FROM_A, P(TCP, A, B, 4000, 80, SYN), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, SYN | ACK), REDIRECT),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, RST), REDIRECT), STEP(FROM_A, data, REDIRECT),
		  STEP(FROM_B, P(TCP, B, A, 80, 4000, ACK, .payload = 5), REDIRECT));
	flow = flow_of(lab, family, &data, &dir);
	seen = flow.half[dir].seen;
	assert_int_equal(collect(lab, seen + s.life_tcp_closed + s.hz).marked, 0);
	assert_int_equal(collect(lab, seen + s.life_tcp_established).marked, 0);
}

/* Both entries of a translated flow live and die together, and the reply half counts. */
static void i11_translated_flow_dies_whole(struct lab *lab, int family)
{
	const struct spec up = P(UDP, A, OUTSIDE, 4000, 53);
	struct tw_event ev;
	struct tw_settings s;
	struct tw_flow flow;
	unsigned int dir;
	uint32_t now;

	datapath_settings_default(&s);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, up, OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), REDIRECT),
		  STEP(UP, P(UDP, OUTSIDE, NODE, 53, SNAT_PORT), REDIRECT));
	flow = flow_of(lab, family, &up, &dir);
	now = flow.half[dir].seen + s.life_udp;
	assert_int_equal(collect(lab, now - s.hz).marked, 0);
	collect(lab, now + s.hz);
	assert_int_equal(lab_flow_count(lab, family), 2);
	lab_events_drain(lab);
	collect(lab, now + s.hz);
	assert_int_equal(lab_flow_count(lab, family), 0);
	assert_int_equal(lab_event(lab, TW_EVENT_CLOSE, &ev), 0);
	assert_int_equal(ev.packets[0], 1);
	assert_int_equal(ev.packets[1], 2);
}

/* A little at a time: a pass deletes no more than it is told. */
static void i11_collects_a_little_at_a_time(struct lab *lab, int family)
{
	struct tw_collect_args args = { .max_delete = 10 };
	struct tw_settings s;

	datapath_settings_default(&s);
	for (uint16_t port = 4000; port < 4040; port++) {
		const struct spec up = P(UDP, A, B, port, 53);
		struct tw_flow flow;
		unsigned int dir;

		send_expect(lab, family, FROM_A, &up, REDIRECTED, 0);
		flow = flow_of(lab, family, &up, &dir);
		args.now = flow.half[dir].seen + s.life_udp_new + s.hz;
	}
	assert_int_equal(collect(lab, args.now).marked, 40);
	for (uint32_t left = 40; left; left -= 10) {
		assert_int_equal(lab_flow_count(lab, family), left);
		assert_int_equal(datapath_collect(lab->dp, &args), 0);
		assert_int_equal(args.deleted, 10);
	}
	assert_int_equal(lab_flow_count(lab, family), 0);
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i3_entry_in_change_is_no_answer),
		LAB_TEST(i3_entry_is_changed_in_place),
		LAB_TEST(i3_reused_elements_are_never_mixed_up),
		LAB_TEST(i4_each_epoch_of_a_flow_makes_it_judged_again),
		LAB_TEST(i4_additions_bump_nothing),
		LAB_TEST(i4_stamp_is_what_was_read_before),
		LAB_TEST(i4_no_change_is_missed_by_a_racing_decision),
		LAB_TEST(i4_redecision_is_free_of_budgets),
		LAB_TEST(i4_redecision_keeps_port_and_address),
		LAB_TEST(i4_flow_ends_when_its_address_is_gone),
		LAB_TEST(i5_no_packet_sees_half_a_change),
		LAB_TEST(i5_versions_are_shared_and_flipped_alone),
		LAB_TEST(i11_marked_first_and_a_packet_unmarks),
		LAB_TEST(i11_both_directions_must_be_idle),
		LAB_TEST(i11_lifetimes),
		LAB_TEST(i11_blind_rst_shortens_nothing),
		LAB_TEST(i11_translated_flow_dies_whole),
		LAB_TEST(i11_collects_a_little_at_a_time),
	};

	lab_netns();
	return lab_main("epochs", &(struct lab_options){ .max_flows = 256 }, tests,
			sizeof(tests) / sizeof(tests[0]));
}
