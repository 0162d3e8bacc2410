/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The cases under BPF_PROG_TEST_RUN: one program, one packet at a time, no stack around it. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "wrap.skel.h"

#define REPEAT 100000u
/* Between runs: what else the machine does comes and goes by the second. */
#define PAUSE_US 20000u
#define DENIED_BATCHES 5u

void run_once(struct bench *b, struct run *run)
{
	struct __sk_buff ctx = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = run->in->data,
		    .data_size_in = (uint32_t)run->in->len, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = (int)run->repeat);
	int ret;

	lab_context(&b->lab, run->via, &ctx);
	ret = bpf_prog_test_run_opts(run->prog_fd, &opts);
	if (ret) {
		fprintf(stderr, "bench: test-run: %s\n", strerror(-ret));
		exit(1);
	}
	run->verdict = (int)opts.retval;
	run->ns = opts.duration;
}

void wrap_set(struct bench *b, int family, const struct spec *head, const struct vary *vary,
	      int target_fd)
{
	static const struct vary one = { .multiplier = 1 };
	uint32_t zero = 0;
	struct frame frame;

	frame_build(&frame, family, head);
	vary = vary ?: &one;
	b->wrap->bss->bench.head_len = family == 4 ? 54 : 74;
	memcpy(b->wrap->bss->bench.head, frame.data, family == 4 ? 54 : 74);
	b->wrap->bss->bench.next = 0;
	b->wrap->bss->bench.flows = vary->flows;
	b->wrap->bss->bench.ports = vary->ports;
	b->wrap->bss->bench.multiplier = vary->multiplier ?: 1;
	b->wrap->bss->bench.spread = vary->spread;
	must(!bpf_map_update_elem(bpf_map__fd(b->wrap->maps.bench_target), &zero, &target_fd,
				  BPF_ANY));
}

static int prog_fd(struct bench *b, enum via via)
{
	struct __sk_buff ctx;

	return datapath_prog_fd(b->lab.dp, lab_programs[lab_context(&b->lab, via, &ctx)]);
}

/* ---- what a case is ----------------------------------------------------------------------- */

struct test {
	const char *name;
	int family;
	enum via via;
	struct spec packet;
	const struct vary *vary; /* with or without: by the wrapper, when the packet is changed */
	bool wrapped;
	int verdict;
	double goal_ns;
	double goal_ratio;
	uint32_t repeat;
	unsigned int runs; /* 0: as asked for */
	/* May be NULL. */
	void (*before)(struct bench *b, const struct test *t);
	/* Whether the counters of all runs say what the name says; n packets. */
	void (*check)(struct bench *b, const struct test *t, const struct lab_counts *before,
		      const struct lab_counts *after, uint64_t n);
	const char *note;
};

static double min(double a, double b)
{
	return a < b ? a : b;
}

/*
 * The floor, the wrapper before an empty program, and the case itself, one after the other in
 * each run; the best of each counts. What the wrapper costs is taken off again.
 */
static void test_run(struct bench *b, const struct test *t)
{
	struct result r = { .name = t->name,
			    .ns = 1e9,
			    .floor_ns = 1e9,
			    .goal_ns = t->goal_ns,
			    .goal_ratio = t->goal_ratio,
			    .note = t->note };
	struct run floor = { bpf_program__fd(b->wrap->progs.bench_empty), t->via, NULL, REPEAT };
	struct run run = { prog_fd(b, t->via), t->via, NULL, t->repeat ?: REPEAT };
	int wrap_fd = bpf_program__fd(b->wrap->progs.bench_wrap), shipped = run.prog_fd;
	struct lab_counts before, after;
	double wrap_ns = t->wrapped ? 1e9 : 0;
	struct frame frame;

	if (!bench_wanted(b, t->name))
		return;
	frame_build(&frame, t->family, &t->packet);
	floor.in = run.in = &frame;
	if (t->wrapped)
		run.prog_fd = wrap_fd;
	for (unsigned int i = 0; i < (t->runs ?: b->runs); i++) {
		if (i % 8 == 0)
			usleep(PAUSE_US);
		if (t->before)
			t->before(b, t);
		run_once(b, &floor);
		r.floor_ns = min(r.floor_ns, floor.ns);
		if (t->wrapped) {
			struct run empty = { wrap_fd, t->via, &frame, run.repeat };

			wrap_set(b, t->family, &t->packet, t->vary, floor.prog_fd);
			run_once(b, &empty);
			wrap_ns = min(wrap_ns, empty.ns);
		}
		if (t->wrapped)
			wrap_set(b, t->family, &t->packet, t->vary, shipped);
		lab_counts_read(&b->lab, &before);
		run_once(b, &run);
		lab_counts_read(&b->lab, &after);
		if (run.verdict != t->verdict)
			bench_wrong(b, t->name, "verdict %d, not %d", run.verdict, t->verdict);
		t->check(b, t, &before, &after, run.repeat);
		r.ns = min(r.ns, run.ns);
		r.packets += run.repeat;
	}
	if (t->wrapped)
		r.ns += r.floor_ns - wrap_ns;
	result_print(b, &r);
}

/* ---- checks --------------------------------------------------------------------------------- */

static uint64_t drops_of(const struct lab_counts *before, const struct lab_counts *after)
{
	uint64_t n = 0;

	for (enum tw_reason r = TW_REASON_OK + 1; r < TW_REASON_COUNT; r++)
		n += after->drops[r] - before->drops[r];
	return n;
}

static uint64_t grown(const struct lab_counts *before, const struct lab_counts *after,
		      enum tw_counter counter)
{
	return after->counter[counter] - before->counter[counter];
}

/* Packets that the entry of the case's own tuple has counted. */
static uint64_t entry_packets(struct bench *b, const struct test *t)
{
	struct tw_flow flow;
	struct tw_tuple tuple;
	unsigned int dir;

	spec_tuple(&t->packet, t->family, &tuple);
	if (lab_flow_get(&b->lab, &tuple, &flow, &dir))
		return 0;
	return (uint64_t)flow.half[dir].packets_hi << 32 | flow.half[dir].packets;
}

static uint64_t packets_before;

static void remember_packets(struct bench *b, const struct test *t)
{
	packets_before = entry_packets(b, t);
}

/* Every packet was counted by the entry, and none went the slow way. */
static void check_established(struct bench *b, const struct test *t,
			      const struct lab_counts *before, const struct lab_counts *after,
			      uint64_t n)
{
	uint64_t carried = entry_packets(b, t) - packets_before;

	if (carried != n)
		bench_wrong(b, t->name, "%lu of %lu packets by the entry", carried, n);
	if (grown(before, after, TW_COUNTER_INSERTS) || drops_of(before, after) ||
	    grown(before, after, TW_COUNTER_REDECISIONS))
		bench_wrong(b, t->name, "some packets took the slow path");
}

static void check_churned(struct bench *b, const struct test *t, const struct lab_counts *before,
			  const struct lab_counts *after, uint64_t n)
{
	uint64_t carried = entry_packets(b, t) - packets_before;

	if (carried != n || drops_of(before, after))
		bench_wrong(b, t->name, "%lu of %lu packets carried", carried, n);
}

/* As many flows as packets: the table held none of them before. */
static void check_new(struct bench *b, const struct test *t, const struct lab_counts *before,
		      const struct lab_counts *after, uint64_t n)
{
	uint32_t entries = lab_flow_count(&b->lab, t->family);
	uint64_t want = t->packet.to == OUTSIDE ? 2 * n : n;

	if (entries != want || drops_of(before, after))
		bench_wrong(b, t->name, "%u entries for %lu packets, %lu drops", entries, n,
			    drops_of(before, after));
}

static void check_denied(struct bench *b, const struct test *t, const struct lab_counts *before,
			 const struct lab_counts *after, uint64_t n)
{
	uint64_t drops =
		after->drops[TW_REASON_POLICY_INGRESS] - before->drops[TW_REASON_POLICY_INGRESS];
	uint64_t sent = grown(before, after, TW_COUNTER_EVENTS_SENT);

	/* Of one kind again and again, few are told; of another kind each time, all. */
	if (drops != n || (t->vary ? sent != n : sent > n / 100))
		bench_wrong(b, t->name, "%lu denied and %lu events of %lu", drops, sent, n);
}

/* Everything that is not new: carried by some entry, inserting nothing. */
static void check_no_insert(struct bench *b, const struct test *t, const struct lab_counts *before,
			    const struct lab_counts *after, uint64_t n)
{
	if (grown(before, after, TW_COUNTER_INSERTS) || drops_of(before, after) ||
	    grown(before, after, TW_COUNTER_REDECISIONS))
		bench_wrong(b, t->name, "of %lu packets some took the slow path", n);
}

/* ---- preparations ------------------------------------------------------------------------------- */

static void flows_clear(struct bench *b, const struct test *t)
{
	lab_flows_clear(&b->lab, t->family);
	lab_events_drain(&b->lab);
}

static const struct vary new_local = { .flows = BENCH_FLOWS,
				       .ports = BENCH_PORTS,
				       .multiplier = 1 };
/* A hundred connections to each of a thousand servers. */
static const struct vary new_outside = {
	.flows = BENCH_FLOWS, .ports = 100, .multiplier = 1, .spread = true
};

/* Drops that are not alike. */
static const struct vary other_port = { .flows = 32768, .ports = 1, .multiplier = 1 };

/* As many flows as the goal names, by the shipped program; `--flows` wants a power of two. */
static void flows_fill(struct bench *b, int family, uint32_t flows)
{
	const struct spec syn = P(TCP, A, B, 10000, 1000, SYN);
	struct vary vary = new_local;
	struct frame frame;
	struct run run = { bpf_program__fd(b->wrap->progs.bench_wrap), FROM_A, &frame, flows };

	vary.flows = flows;
	frame_build(&frame, family, &syn);
	wrap_set(b, family, &syn, &vary, prog_fd(b, FROM_A));
	run_once(b, &run);
	lab_events_drain(&b->lab);
}

/* The hot flow of the established cases, opened and answered. */
static void flow_open(struct bench *b, int family, enum via there, enum via back,
		      const struct spec *syn, const struct spec *answer)
{
	struct outcome got;

	lab_send(&b->lab, family, there, syn, &got);
	if (got.verdict != REDIRECTED) {
		fprintf(stderr, "bench: the hot flow is not carried: verdict %d, %s\n", got.verdict,
			tw_reason_name(got.reason));
		exit(1);
	}
	lab_send(&b->lab, family, back, answer, &got);
	lab_events_drain(&b->lab);
}

#define HOT P(TCP, A, B, 9000, 1000, ACK, .payload = 6)

static void hot_open(struct bench *b, int family)
{
	flow_open(b, family, FROM_A, FROM_B, &P(TCP, A, B, 9000, 1000, SYN),
		  &P(TCP, B, A, 1000, 9000, SYN | ACK));
}

/* ---- readers and writers beside the packets -------------------------------------------------------- */

static struct {
	struct bench *b;
	atomic_bool stop;
	_Atomic uint64_t seen;
	uint64_t before; /* events sent before it began */
} reader;

static int reader_count(void *arg, const struct tw_event *ev)
{
	(void)arg;
	(void)ev;
	reader.seen++;
	return 0;
}

static void *reader_run(void *arg)
{
	(void)arg;
	cpu_unpin();
	while (!reader.stop)
		if (!datapath_events(reader.b->lab.dp, reader_count, NULL))
			usleep(100);
	datapath_events(reader.b->lab.dp, reader_count, NULL);
	return NULL;
}

static void drop_events_unlimited(struct bench *b)
{
	int fd = datapath_map_fd(b->lab.dp, "tw_config");
	struct tw_config config;
	uint32_t zero = 0;

	must(!bpf_map_lookup_elem(fd, &zero, &config));
	config.drop_events = UINT32_MAX;
	must(!bpf_map_update_elem(fd, &zero, &config, BPF_ANY));
	/* Read by each CPU once a second. */
	usleep(1100 * 1000);
}

/* The reader has caught up: the ring is empty for the next batch. */
static void reader_wait(struct bench *b, const struct test *t)
{
	(void)t;
	for (int i = 0; i < 10000; i++) {
		if (reader.before + reader.seen >= lab_counter(&b->lab, TW_COUNTER_EVENTS_SENT))
			return;
		usleep(500);
	}
}

/* A batch whose events fit the ring: one CPU drops faster than another can read. */
static uint32_t ring_batch(struct bench *b)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	must(!bpf_map_get_info_by_fd(datapath_map_fd(b->lab.dp, "tw_events"), &info, &len));
	return info.max_entries / (uint32_t)(sizeof(struct tw_event) + BPF_RINGBUF_HDR_SZ) * 9 / 10;
}

static void denied(struct bench *b, const char *name, const struct vary *vary, double goal_ns,
		   const char *note)
{
	const struct test t = {
		.name = name,
		.family = 4,
		.via = FROM_C,
		.packet = P(TCP, C, B, 10000, 1000, SYN),
		.vary = vary,
		.wrapped = true,
		.verdict = DROP,
		.goal_ns = goal_ns,
		.repeat = ring_batch(b),
		.runs = DENIED_BATCHES * b->runs,
		.before = reader_wait,
		.check = check_denied,
		.note = note,
	};
	uint64_t sent;
	pthread_t thread;

	if (!bench_wanted(b, t.name))
		return;
	drop_events_unlimited(b);
	lab_events_drain(&b->lab);
	sent = lab_counter(&b->lab, TW_COUNTER_EVENTS_SENT);
	reader.b = b;
	reader.before = sent;
	reader.seen = 0;
	reader.stop = false;
	must(!pthread_create(&thread, NULL, reader_run, NULL));
	test_run(b, &t);
	sent = lab_counter(&b->lab, TW_COUNTER_EVENTS_SENT) - sent;
	reader.stop = true;
	pthread_join(thread, NULL);
	if (reader.seen != sent)
		bench_wrong(b, t.name, "%lu events read of %lu", (uint64_t)reader.seen, sent);
}

#define CHURNED 100u

static struct {
	struct bench *b;
	atomic_bool stop;
	_Atomic uint64_t rounds;
} churn;

/* 100 endpoints, B among them, get a new version 20 times a second. */
static void *churn_run(void *arg)
{
	struct bench *b = arg;

	cpu_unpin();
	while (!churn.stop) {
		fill_own_policies(b);
		for (uint32_t i = 1; i < CHURNED; i++) {
			struct tw_endpoint ep;

			must(!datapath_endpoint_get(b->lab.dp, 16 + i, &ep));
			must(!datapath_endpoint_policy(b->lab.dp, 16 + i, ep.identity,
						       4000 + (uint32_t)churn.rounds % 1000));
			datapath_epoch_bump(b->lab.dp, 16 + i);
		}
		churn.rounds++;
		usleep(1000000 / 20);
	}
	return NULL;
}

static void established_churn(struct bench *b)
{
	const struct test t = {
		"established_churn",
		4,
		FROM_A,
		HOT,
		.verdict = REDIRECTED,
		.repeat = 2 * REPEAT,
		.before = remember_packets,
		.check = check_churned,
		.note = "100 endpoints' policies changing 20 times a second",
	};
	uint64_t again = lab_counter(&b->lab, TW_COUNTER_REDECISIONS);
	pthread_t thread;

	if (!bench_wanted(b, t.name))
		return;
	must(!pthread_create(&thread, NULL, churn_run, b));
	test_run(b, &t);
	churn.stop = true;
	pthread_join(thread, NULL);
	if (lab_counter(&b->lab, TW_COUNTER_REDECISIONS) - again < churn.rounds / 2)
		bench_wrong(b, t.name, "the changes did not reach the flow");
}

/* ---- the cases ------------------------------------------------------------------------------------------ */

static void established(struct bench *b, const char *name, int family, double goal,
			double goal_ratio, const char *note)
{
	const struct test t = { name,
				family,
				FROM_A,
				HOT,
				.verdict = REDIRECTED,
				.goal_ns = goal,
				.goal_ratio = goal_ratio,
				.before = remember_packets,
				.check = check_established,
				.note = note };

	if (!bench_wanted(b, name))
		return;
	hot_open(b, family);
	test_run(b, &t);
}

static void new_flow(struct bench *b, const char *name, int family, enum place to,
		     const struct vary *vary, double goal_ns, const char *note)
{
	const struct test t = {
		.name = name,
		.family = family,
		.via = FROM_A,
		.packet = P(TCP, A, to, 10000, 1000, SYN),
		.vary = vary,
		.wrapped = true,
		.verdict = REDIRECTED,
		.goal_ns = goal_ns,
		.repeat = BENCH_FLOWS,
		.runs = b->runs / 6 ?: 1,
		.before = flows_clear,
		.check = check_new,
		.note = note,
	};

	test_run(b, &t);
	flows_clear(b, &t);
}

static void new_flows(struct bench *b)
{
	static const char each[] = "each packet another flow";
	static const char snat[] = "each packet another flow, translated";

	new_flow(b, "new_flow", 4, B, &new_local, 500, each);
	new_flow(b, "new_flow_ipv6", 6, B, &new_local, 0, each);
	new_flow(b, "new_flow_outside", 4, OUTSIDE, &new_outside, 750, snat);
	new_flow(b, "new_flow_outside_ipv6", 6, OUTSIDE, &new_outside, 0, snat);
}

/* A translated connection, both ways: the packet is written anew for each repeat. */
static void outside_established(struct bench *b)
{
	const struct spec syn = P(TCP, A, OUTSIDE, 9000, 1000, SYN);
	struct test to = { "to_outside_established",
			   4,
			   FROM_A,
			   P(TCP, A, OUTSIDE, 9000, 1000, ACK, .payload = 6),
			   .wrapped = true,
			   .verdict = REDIRECTED,
			   .before = remember_packets,
			   .check = check_established,
			   .note = "translated, to the next hop" };
	struct test from = to;
	struct outcome got;
	struct view v;

	if (!bench_wanted(b, to.name) && !bench_wanted(b, "from_outside_established"))
		return;
	lab_send(&b->lab, 4, FROM_A, &syn, &got);
	must(got.verdict == REDIRECTED);
	must(!frame_view(&got.out, &v));
	from.name = "from_outside_established";
	from.via = UP;
	from.packet = P(TCP, OUTSIDE, NODE, 1000, (uint16_t)__builtin_bswap16(v.tuple.sport), ACK,
			.payload = 6);
	from.note = "translated back, into the container";
	lab_send(&b->lab, 4, UP, &from.packet, &got);
	must(got.verdict == REDIRECTED);
	test_run(b, &to);
	test_run(b, &from);
}

/* N flows, each packet one of them at random: what caches make of the table. */
static void established_random(struct bench *b)
{
	/* An odd multiplier permutes a power of two; this one leaves no neighbours together. */
	const struct vary vary = { .flows = b->flows,
				   .ports = BENCH_PORTS,
				   .multiplier = 0x9e3779b1 };
	const struct test t = { "established_flows",
				4,
				FROM_A,
				P(TCP, A, B, 10000, 1000, ACK, .payload = 6),
				&vary,
				true,
				REDIRECTED,
				.repeat = 4 * REPEAT,
				.check = check_no_insert,
				.note = "--flows in random order" };

	if (!b->flows || !bench_wanted(b, t.name))
		return;
	flows_clear(b, &t);
	flows_fill(b, 4, b->flows);
	test_run(b, &t);
}

static int floor_fd;

static void floor_case(struct bench *b)
{
	struct result r = { .name = "floor", .ns = 1e9, .note = "an empty program" };
	const struct spec hot = HOT;
	struct frame frame;
	struct run run = { floor_fd, FROM_A, &frame, REPEAT };

	if (!bench_wanted(b, r.name))
		return;
	frame_build(&frame, 4, &hot);
	for (unsigned int i = 0; i < b->runs; i++) {
		run_once(b, &run);
		r.ns = min(r.ns, run.ns);
		r.packets += run.repeat;
	}
	r.floor_ns = r.ns;
	result_print(b, &r);
}

void runs_all(struct bench *b)
{
	floor_fd = bpf_program__fd(b->wrap->progs.bench_empty);
	fill_own_policies(b);
	floor_case(b);
	established(b, "established_empty", 4, 0, 0, "tables nearly empty");
	fill_endpoints(b);
	fill_policies(b);
	new_flows(b);
	flows_fill(b, 4, BENCH_FLOWS);
	flows_fill(b, 6, BENCH_FLOWS);
	established(b, "established", 4, 75, 3.0, "one hot flow, tables full");
	established(b, "established_ipv6", 6, 80, 0, "one hot flow, tables full");
	established_churn(b);
	outside_established(b);
	denied(b, "denied", &other_port, 130,
	       "each packet to another port: an event each, that is read");
	denied(b, "denied_flood", NULL, 0, "the same packet again and again: an event for many");
	established_random(b);
}
