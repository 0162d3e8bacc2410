/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Who asks, one after another, and what is kept between two looks. */
#include "top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "tick.h"
#include "top_walk.h"

#define POLICY_FLOWS 128u /* the busiest, whose policies are asked for: up to 1 ms each */
/* Without a question in this time, what was kept for the next answer's rates goes. */
#define KEEP_MS 15000u
/* Rates over less are noise; a second asker meanwhile does not begin a new period. */
#define PERIOD_NS_MIN 500000000u
#define WAITING_MAX 16u

struct asked {
	struct top_query query;
	top_fn done;
	void *arg;
	struct asked *prev, *next;
};

struct top {
	struct agent *a;
	uv_work_t work;
	uv_timer_t forget;
	struct asked *waiting; /* the first one's walk is under way */
	unsigned int n_waiting;
	bool walking, closing, timer_closed;
	struct walk walk; /* the worker's while `walking` */
	uint8_t *only;
	int result;
	struct tally *before; /* the look that rates are since */
	uint64_t before_time;
	struct top_drops *drops; /* since then */
};

static void forget(struct top *t)
{
	tally_free(t->before);
	t->before = NULL;
	top_drops_free(t->drops);
	t->drops = NULL;
}

static void on_forget(uv_timer_t *timer)
{
	struct top *t = timer->data;

	if (t->walking)
		return;
	forget(t);
	memory_release();
}

static void asked_end(struct top *t, json_t *reply, int res, const struct agent_error *err)
{
	struct asked *asked = t->waiting;

	DL_DELETE(t->waiting, asked);
	t->n_waiting--;
	asked->done(asked->arg, reply, res, err);
	free(asked);
}

static void asked_fail(struct top *t, const char *why)
{
	struct agent_error err = {};
	int res = agent_refuse(&err, AGENT_NOT_READY, "%s", why);

	asked_end(t, NULL, res, &err);
}

static void next_start(struct top *t);

static void release(struct top *t)
{
	if (t->closing && t->timer_closed && !t->walking)
		free(t);
}

static void answer(struct top *t)
{
	uint64_t now = uv_hrtime();
	double seconds = (double)(now - t->before_time) / 1e9;
	json_t *reply;

	if (t->drops)
		top_drops_read(t->drops);
	reply = top_answer(t->a, &t->waiting->query, &t->walk, t->drops, seconds);
	if (!t->before || now - t->before_time >= PERIOD_NS_MIN) {
		tally_free(t->before);
		t->before = t->walk.now;
		t->walk.now = NULL;
		t->before_time = now;
		if (t->drops)
			top_drops_clear(t->drops);
	}
	if (reply)
		asked_end(t, reply, 0, &(struct agent_error){});
	else
		asked_fail(t, "out of memory");
}

static void walk_done(uv_work_t *work, int status)
{
	struct top *t = work->data;

	t->walking = false;
	if (t->closing) {
		walk_clear(&t->walk);
		free(t->only);
		forget(t);
		release(t);
		return;
	}
	if (t->result)
		asked_fail(t, "the flow tables cannot be read now; try again");
	else
		answer(t);
	walk_clear(&t->walk);
	free(t->only);
	t->only = NULL;
	uv_timer_start(&t->forget, on_forget, KEEP_MS, 0);
	next_start(t);
}

static void walk_work(uv_work_t *work)
{
	struct top *t = work->data;

	t->result = walk_run(&t->walk);
}

/* The slots of a namespace. NULL: out of memory. */
static uint8_t *slots_of(struct agent *a, const char *ns)
{
	uint8_t *set = calloc(UINT16_MAX / 8 + 1, 1);
	const struct endpoint *ep;

	for (uint32_t slot = 1; set && (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (!strcmp(ep->ns, ns))
			set[ep->slot / 8] |= (uint8_t)(1 << ep->slot % 8);
	return set;
}

static int walk_start(struct top *t)
{
	const struct top_query *q = &t->waiting->query;
	struct tw_collect_args collected;

	tick_events(t->a->tick);
	if (!t->drops && top_drops_new(&t->drops, t->a->flows))
		return -ENOMEM;
	if (*q->ns) {
		t->only = slots_of(t->a, q->ns);
		if (!t->only)
			return -ENOMEM;
	}
	tick_collected(t->a->tick, &collected);
	t->walk = (struct walk){
		.dp = t->a->dp,
		.before = t->before,
		.only = t->only,
		.expected = collected.live + collected.live / 2,
		.by_bytes = q->sort == TOP_BYTES,
		.n = q->what == TOP_ENDPOINTS  ? 0
		     : q->what == TOP_POLICIES ? POLICY_FLOWS
					       : q->n,
	};
	t->work.data = t;
	int res = uv_queue_work(&t->a->loop, &t->work, walk_work, walk_done);
	t->walking = !res;
	return res;
}

static void next_start(struct top *t)
{
	while (t->waiting && !t->walking && walk_start(t)) {
		free(t->only);
		t->only = NULL;
		asked_fail(t, "out of memory");
	}
}

int top_ask(struct top *t, const struct top_query *query, top_fn done, void *arg)
{
	struct asked *asked = t->n_waiting < WAITING_MAX ? calloc(1, sizeof(*asked)) : NULL;

	if (!asked)
		return -ENOMEM;
	*asked = (struct asked){ .query = *query, .done = done, .arg = arg };
	DL_APPEND(t->waiting, asked);
	t->n_waiting++;
	next_start(t);
	return 0;
}

int top_new(struct top **out, struct agent *a)
{
	struct top *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->a = a;
	uv_timer_init(&a->loop, &t->forget);
	t->forget.data = t;
	*out = t;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	struct top *t = handle->data;

	t->timer_closed = true;
	release(t);
}

void top_free(struct top *t)
{
	if (!t)
		return;
	t->closing = true;
	while (t->waiting)
		asked_fail(t, "the agent stops");
	if (!t->walking)
		forget(t);
	uv_close((uv_handle_t *)&t->forget, timer_closed);
}
