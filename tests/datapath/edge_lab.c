/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_lab.h"

#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNTERS (TW_EDGE_FIRST_RULE + EDGE_LAB_RULES)

struct edge *edge_lab_open(const struct tw_edge_settings *settings)
{
	struct edge_options opts = { .settings = *settings };
	struct edge *edge = NULL;
	char err[512] = "";

	if (edge_open(&edge, &opts, err, sizeof(err)))
		fail_msg("edge_open: %s", err);
	return edge;
}

static void counts_read(struct edge *edge, struct tw_metric out[COUNTERS])
{
	for (uint32_t i = 0; i < COUNTERS; i++)
		assert_int_equal(edge_count_read(edge, i, &out[i]), 0);
}

void edge_lab_run(struct edge *edge, const struct frame *in, struct edge_outcome *out)
{
	static struct tw_metric before[COUNTERS], after[COUNTERS];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in->data, .data_size_in = (uint32_t)in->len,
		    .data_out = out->out.data, .data_size_out = sizeof(out->out.data), .repeat = 1);
	uint64_t packets = 0, bytes = 0;
	int ret;

	counts_read(edge, before);
	ret = bpf_prog_test_run_opts(edge_prog_fd(edge), &opts);
	if (ret)
		fail_msg("test run of %zu bytes: %s", in->len, strerror(-ret));
	counts_read(edge, after);
	out->action = opts.retval;
	out->out.len = opts.data_size_out;
	for (uint32_t i = 0; i < COUNTERS; i++) {
		if (after[i].packets == before[i].packets)
			continue;
		out->counter = i;
		packets += after[i].packets - before[i].packets;
		bytes += after[i].bytes - before[i].bytes;
	}
	if (packets != 1 || bytes != in->len)
		fail_msg("a frame of %zu bytes was counted as %lu packets, %lu bytes", in->len,
			 (unsigned long)packets, (unsigned long)bytes);
}

void edge_lab_steps(struct edge *edge, const struct edge_step *steps, size_t n)
{
	struct edge_outcome got;
	struct frame frame;

	for (size_t i = 0; i < 2 * n; i++) {
		const struct edge_step *step = &steps[i / 2];
		int family = i % 2 ? 6 : 4;

		frame_build(&frame, family, &step->in);
		edge_lab_run(edge, &frame, &got);
		if (got.action != step->action || got.counter != step->counter)
			fail_msg("step %zu, IPv%d: action %u, counter %u; not %u, %u", i / 2 + 1,
				 family, got.action, got.counter, step->action, step->counter);
	}
}
