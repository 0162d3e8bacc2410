/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A million frames by chance, most of them broken on purpose, through every hook. None may be
 * left undecided (I12): it is dropped and counted, or delivered; none may pass that the model
 * denies; the kernel has nothing to say about any. TW_SEED and TW_FRAMES choose others than the
 * usual; a failure prints the seed, the frame and how it came.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "frame_chance.h"

#define FRAMES 1000000u
#define ROUND 25000u /* frames under one set of policies */
#define BATCH 500u   /* frames between two looks at the counters */

static const char *const via_names[VIAS] = {
	"from A",
	"from B",
	"from C",
	"from the node to A",
	"from the node to B",
	"uplink, by the stack, to A",
	"from B, by the stack, to A",
	"uplink",
	"second uplink",
};

struct run {
	struct lab lab;
	struct frame_model *model;
	struct chance chance;
	uint64_t seed;
	int progs[TW_HOOK_COUNT];
	uint32_t frames, refused, delivered, dropped, answered, passed;
	struct chance_frame at;
};

/* ---- failing ------------------------------------------------------------------------------------ */

static void frame_print(const char *what, const struct frame *f)
{
	fprintf(stderr, "%s, %zu bytes: ", what, f->len);
	for (size_t i = 0; i < f->len; i++)
		fprintf(stderr, "%02x", f->data[i]);
	fputc('\n', stderr);
}

static void run_fail(const struct run *r, int verdict, const struct frame *out, const char *why)
{
	fprintf(stderr, "seed %llu, frame %u, %s, gso_size %u: verdict %d\n",
		(unsigned long long)r->seed, r->frames, via_names[r->at.via], r->at.gso_size,
		verdict);
	frame_print("in", &r->at.frame);
	if (verdict == REDIRECTED)
		frame_print("out", out);
	fail_msg("%s", why);
}

/* ---- the kernel's own complaints ------------------------------------------------------------------ */

static int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Lines since kmsg_open() that a kernel only writes when something is wrong with it. */
static int kmsg_warnings(int fd)
{
	static const char *const words[] = { "WARNING:",	  "BUG:",	 "Oops",
					     "bad checksum",	  "bad_offload", "refcount_t",
					     "general protection" };
	char line[8192];
	int found = 0;
	ssize_t n;

	while ((n = read(fd, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue; /* overtaken: goes on with the oldest that is there */
		line[n] = '\0';
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			if (!strstr(line, words[i]))
				continue;
			fprintf(stderr, "kernel: %s", line);
			found++;
			break;
		}
	}
	return found;
}

/* ---- frames through programs ------------------------------------------------------------------------ */

/* -EINVAL: test-run itself takes no frame that is shorter than the IP header it speaks of. */
static int frame_run(struct run *r, enum via via, const struct frame *in, int *verdict,
		     struct frame *out)
{
	struct __sk_buff ctx = { .gso_size = r->at.gso_size, .gso_segs = r->at.gso_size ? 2 : 0 };
	enum tw_hook hook = lab_context(&r->lab, via, &ctx);
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in->data, .data_size_in = (uint32_t)in->len,
		    .data_out = out->data, .data_size_out = FRAME_MAX, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	int ret = bpf_prog_test_run_opts(r->progs[hook], &run);

	if (ret)
		return ret;
	*verdict = (int)run.retval;
	out->len = run.data_size_out;
	return 0;
}

static uint32_t drops_counted(struct run *r)
{
	uint64_t sum = 0;

	for (enum tw_reason reason = TW_REASON_OK + 1; reason < TW_REASON_COUNT; reason++)
		sum += lab_drops(&r->lab, reason);
	return (uint32_t)sum;
}

static void frame_judge(struct run *r, enum via via, const struct frame *in)
{
	bool must = !r->at.changed && frame_model_must_pass(r->model, via, in);
	const char *wrong;
	struct frame out;
	int verdict = 0, ret = frame_run(r, via, in, &verdict, &out);

	if (ret == -EINVAL && in->len < 54) {
		r->refused++;
		return;
	}
	if (ret)
		run_fail(r, ret, &out, "test-run takes no such frame");
	if (verdict == DROP)
		r->dropped++;
	else if (verdict == REDIRECTED && frame_is_answer(in, &out))
		r->answered++;
	else if (verdict == PASS)
		r->passed++;
	else
		r->delivered++;
	wrong = frame_model_check(r->model, via, in, verdict, &out);
	if (wrong)
		run_fail(r, verdict, &out, wrong);
	if (must && verdict == DROP)
		run_fail(r, verdict, &out, "dropped, and the model demands that it passes");
	/* What the host's stack gets from an uplink it may forward: then a port's hook decides. */
	if (verdict == PASS && via == UP)
		frame_judge(r, UP_TO_A, in);
}

static void batch_run(struct run *r, uint32_t n)
{
	uint32_t counted = drops_counted(r), said = r->dropped + r->answered;

	for (uint32_t i = 0; i < n; i++, r->frames++) {
		chance_frame(&r->chance, &r->at);
		frame_judge(r, r->at.via, &r->at.frame);
	}
	counted = drops_counted(r) - counted;
	said = r->dropped + r->answered - said;
	if (counted != said)
		fail_msg("seed %llu, frames %u to %u: %u drops counted, and %u frames dropped",
			 (unsigned long long)r->seed, r->frames - n, r->frames, counted, said);
	datapath_heartbeat(r->lab.dp);
	lab_events_drain(&r->lab);
}

static void round_begin(struct run *r)
{
	struct model_rules rules[C + 1] = {};

	lab_reset(&r->lab);
	for (enum place p = A; p <= C; p++) {
		chance_rules(&r->chance, &rules[p]);
		lab_policy(&r->lab, p, rules[p].isolate, rules[p].allow, rules[p].n);
	}
	frame_model_reset(r->model, rules);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void i12_a_million_hostile_frames(void **state)
{
	struct run *r = *state;
	uint32_t frames = (uint32_t)env_number("TW_FRAMES", FRAMES);
	int kmsg = kmsg_open();

	while (r->frames < frames) {
		if (r->frames % ROUND < BATCH)
			round_begin(r);
		batch_run(r, BATCH);
	}
	print_message("# %u frames: %u delivered, %u up the stack, %u dropped, %u answered, "
		      "%u not taken by test-run\n",
		      r->frames, r->delivered, r->passed, r->dropped, r->answered, r->refused);
	/* Chance must have reached all outcomes, or it tests nothing. */
	assert_in_range(r->delivered, frames / 50, frames);
	assert_in_range(r->dropped, frames / 10, frames);
	assert_in_range(r->answered, frames / 20000, frames);
	assert_true(r->refused < frames / 10);
	assert_int_equal(kmsg < 0 ? 0 : kmsg_warnings(kmsg), 0);
	if (kmsg >= 0)
		close(kmsg);
}

static int setup(void **state)
{
	static struct run r;

	lab_open(&r.lab, &(struct lab_options){ .max_flows = 65536 });
	for (enum tw_hook hook = 0; hook < TW_HOOK_COUNT; hook++)
		r.progs[hook] = datapath_prog_fd(r.lab.dp, lab_programs[hook]);
	r.model = frame_model_new();
	r.seed = env_number("TW_SEED", 1);
	r.chance.state = r.seed * 0x9e3779b97f4a7c15 | 1;
	*state = &r;
	return 0;
}

static int teardown(void **state)
{
	struct run *r = *state;

	frame_model_free(r->model);
	lab_close(&r->lab);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(i12_a_million_hostile_frames, setup, teardown),
	};

	lab_netns();
	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
