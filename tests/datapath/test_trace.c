/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a trace says of a packet is what becomes of it, and the trace itself leaves nothing. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lab.h"
#include "trace.h"

#define PACKETS 2000
#define MAX_FLOWS 112 /* it fills up on the way */
#define SNAT_FIRST 61000
#define SNAT_LAST 61007 /* so few that most tries meet a port that is taken */
#define KEEP_EVERY 16	/* packets between looks at the whole table */

struct table {
	size_t n;
	struct {
		uint8_t key[40];
		struct tw_flow flow;
	} v[MAX_FLOWS];
};

static int key_order(const void *a, const void *b)
{
	return memcmp(a, b, 40);
}

/* Every entry, bytes and all, and what else a packet may change. */
static void table_read(struct lab *lab, int family, struct table *out)
{
	int fd = datapath_map_fd(lab->dp, family == 4 ? "tw_flow4" : "tw_flow6");

	memset(out, 0, sizeof(*out));
	for (void *at = NULL; !bpf_map_get_next_key(fd, at, out->v[out->n].key); out->n++) {
		at = out->v[out->n].key;
		must(!bpf_map_lookup_elem(fd, at, &out->v[out->n].flow));
		if (out->n + 1 == MAX_FLOWS) {
			out->n++;
			break;
		}
	}
	qsort(out->v, out->n, sizeof(out->v[0]), key_order);
}

static uint16_t slot_of(enum place place)
{
	return place >= A && place <= C ? (uint16_t)place : 0;
}

static void trace_make(struct lab *lab, int family, enum via via, const struct spec *spec,
		       const struct frame *frame, struct trace_packet *out)
{
	struct __sk_buff ctx = {};

	*out = (struct trace_packet){ .hook = lab_context(lab, via, &ctx), .len = frame->len };
	out->ifindex = ctx.ifindex;
	out->in = ctx.ingress_ifindex;
	out->slot[0] = slot_of(spec->from);
	out->slot[1] = slot_of(spec->to);
	spec_tuple(spec, family, &out->tuple);
	memcpy(out->frame, frame->data, frame->len);
}

static enum tw_reason drop_reason(const struct trace_result *r)
{
	for (size_t i = 0; i < r->n_events; i++)
		if (r->events[i].type == TW_EVENT_DROP)
			return r->events[i].reason;
	return TW_REASON_OK;
}

/* A packet that has something to do with those before it. */
static enum via packet_choose(struct spec *spec, unsigned int *state)
{
	static const enum place peers[] = {
		A, B, C, OUTSIDE, OUTSIDE2, KEPT, NODE, UNROUTED, EMPTY
	};
	static const uint8_t flags[] = { SYN, SYN, SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST };
	enum place pod = A + (enum place)(rand_r(state) % 3);
	enum place peer = peers[(size_t)rand_r(state) % (sizeof(peers) / sizeof(*peers))];
	bool inwards = rand_r(state) % 2;

	*spec = (struct spec){
		.what = rand_r(state) % 4   ? TCP
			: rand_r(state) % 2 ? UDP
					    : ECHO,
		.from = inwards ? peer : pod,
		.to = inwards ? pod : peer,
		.sport = (uint16_t)(4000 + rand_r(state) % 6),
		.dport = (uint16_t)(80 + rand_r(state) % 2),
		.flags = flags[(size_t)rand_r(state) % sizeof(flags)],
		.ttl = rand_r(state) % 8 || inwards ? 64 : 1,
		.payload = rand_r(state) % 16 || inwards ? 4 : 1600,
		.df = true,
	};
	if (!inwards)
		return FROM_A + (enum via)(pod - A);
	/* An answer: to a port that somebody was translated to, perhaps. */
	if (rand_r(state) % 2) {
		uint16_t port = spec->sport;

		spec->sport = spec->dport;
		spec->dport = rand_r(state) % 2 ? port : (uint16_t)(SNAT_FIRST + rand_r(state) % 8);
		spec->to = spec->dport >= SNAT_FIRST ? NODE : pod;
	}
	if (peer <= C)
		return FROM_A + (enum via)(peer - A);
	if (peer == NODE)
		return pod == B ? TO_B : TO_A;
	return UP;
}

static void policies_change(struct lab *lab, unsigned int *state)
{
	LAB_POLICY(lab, A, ISOLATE_INGRESS, ALLOW(TW_INGRESS, rand_r(state) % 2 ? B : C, TCP, 80),
		   ALLOW(TW_INGRESS, OUTSIDE, TCP, 0));
	LAB_POLICY(lab, B, ISOLATE_EGRESS, ALLOW(TW_EGRESS, NOWHERE, UDP, 0),
		   ALLOW(TW_EGRESS, rand_r(state) % 2 ? A : OUTSIDE, TCP, 80));
}

/* What a trace could touch that no flow is. */
struct rest {
	struct lab_counts counts;
	struct tw_budget budget[C + 1];
	uint32_t events;
};

static int event_count(void *arg, const struct tw_event *ev)
{
	++*(uint32_t *)arg;
	return 0;
}

static void rest_read(struct lab *lab, struct rest *out)
{
	memset(out, 0, sizeof(*out));
	lab_counts_read(lab, &out->counts);
	for (uint32_t slot = 0; slot <= C; slot++)
		must(!bpf_map_lookup_elem(datapath_map_fd(lab->dp, "tw_budget"), &slot,
					  &out->budget[slot]));
	must(datapath_events(lab->dp, event_count, &out->events) >= 0);
}

static void trace_foretells(struct lab *lab, int family)
{
	static struct table before, after;
	static struct trace_packet packet;
	static struct trace_result told;
	struct tw_collect_args collect;
	unsigned int state = 7, carried = 0, dropped = 0, met = 0, made = 0, full = 0, lapsed = 0;
	struct rest was, is;
	struct trace *trace;
	char err[256];

	assert_int_equal(trace_open(&trace, lab->dp, err, sizeof(err)), 0);
	for (int i = 0; i < PACKETS; i++) {
		struct outcome got;
		struct frame frame;
		struct spec spec;
		enum via via;

		if (i % 200 == 0)
			policies_change(lab, &state);
		/* The library knows how full the tables are from the collector's passes. */
		collect = (struct tw_collect_args){};
		datapath_heartbeat(lab->dp);
		must(!datapath_collect(lab->dp, &collect));
		via = packet_choose(&spec, &state);
		frame_build(&frame, family, &spec);
		trace_make(lab, family, via, &spec, &frame, &packet);
		rest_read(lab, &was);
		if (i % KEEP_EVERY == 0)
			table_read(lab, family, &before);
		assert_int_equal(trace_run(trace, &packet, &told), 0);
		if (i % KEEP_EVERY == 0) {
			table_read(lab, family, &after);
			assert_memory_equal(&before, &after, sizeof(before));
		}
		rest_read(lab, &is);
		assert_memory_equal(&was.counts, &is.counts, sizeof(was.counts));
		assert_memory_equal(was.budget, is.budget, sizeof(was.budget));
		assert_int_equal(is.events, 0);

		lab_run(lab, via, &frame, NULL, &got);
		if (told.verdict != got.verdict || drop_reason(&told) != got.reason ||
		    told.len != got.out.len || memcmp(told.frame, got.out.data, told.len))
			fail_msg("packet %d by %d from %d to %d: told %d (%s), %d (%s) it was", i,
				 via, spec.from, spec.to, told.verdict,
				 tw_reason_name(drop_reason(&told)), got.verdict,
				 tw_reason_name(got.reason));
		/* What it would have made is what was made. */
		if (got.verdict == REDIRECTED && !got.reason)
			assert_int_equal(told.made, got.inserts);
		carried += got.verdict == REDIRECTED;
		dropped += got.verdict == DROP;
		met += told.met;
		made += told.made;
		full += got.reason == TW_REASON_MAP_FULL;
		lapsed += got.redecisions > 0;
		if (i % 500 == 499)
			lab_flows_clear(lab, family);
	}
	trace_close(trace);
	print_message("%u carried, %u dropped, %u met an entry, %u made one, %u found none free, "
		      "%u were judged again\n",
		      carried, dropped, met, made, full, lapsed);
	assert_true(carried > 200 && dropped > 200 && met > 100 && made > 200 && full && lapsed);
}

/* Limits are read as they are, and not used up. */
static void budgets_are_left(struct lab *lab, int family)
{
	static struct trace_packet packet;
	static struct trace_result told;
	const struct spec spec = P(UDP, A, B, 4000, 53);
	struct tw_endpoint ep;
	struct frame frame;
	struct trace *trace;
	char err[256];

	must(!datapath_collect(lab->dp, &(struct tw_collect_args){}));
	lab_endpoint(lab, A, &ep);
	ep.cap = 1;
	assert_int_equal(datapath_endpoint_set(lab->dp, A, &ep), 0);
	assert_int_equal(trace_open(&trace, lab->dp, err, sizeof(err)), 0);
	frame_build(&frame, family, &spec);
	trace_make(lab, family, FROM_A, &spec, &frame, &packet);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(trace_run(trace, &packet, &told), 0);
		assert_int_equal(told.verdict, REDIRECTED);
	}
	LAB_STEPS(lab, family, STEP(FROM_A, P(UDP, A, B, 4001, 53), REDIRECT, .entries = 1));
	assert_int_equal(trace_run(trace, &packet, &told), 0);
	assert_int_equal(drop_reason(&told), TW_REASON_CAP);
	trace_close(trace);
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(trace_foretells),
		LAB_TEST(budgets_are_left),
	};
	const struct lab_options opts = { .max_flows = MAX_FLOWS,
					  .snat_first = SNAT_FIRST,
					  .snat_last = SNAT_LAST };

	lab_netns();
	return lab_main("trace", &opts, tests, sizeof(tests) / sizeof(tests[0]));
}
