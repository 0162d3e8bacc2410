/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "tick.h"

#include <errno.h>
#include <stdlib.h>

#include "agent.h"
#include "api/api.h"
#include "exporter.h"
#include "kernel_drops.h"
#include "log.h"
#include "recorder.h"
#include "pins.h"
#include "edge/balance.h"
#include "edge/edges.h"
#include "programs.h"
#include "rates.h"

#define SECOND_MS 1000
/* Events are polled (I13): fast while there are some, slowly when there are none. */
#define EVENTS_MIN_MS 20
#define EVENTS_MAX_MS 100
/* Seconds between looks for endpoints that ended without a word to us. */
#define SWEEP_SECONDS 10
/* Deletions of one pass at most, so that no pass is long; the next one goes on. */
#define COLLECT_MAX 65536

struct tick {
	struct agent *a;
	uv_timer_t second;
	uv_timer_t events;
	uv_work_t collect;
	struct tw_collect_args args; /* the worker's while `collecting` */
	struct tw_collect_args last;
	int collect_result;
	bool collecting;
	bool release;
	bool closing;
	int open_handles;
	unsigned int seconds;
	unsigned int events_ms;
};

static void release(struct tick *t)
{
	if (t->closing && !t->open_handles && !t->collecting)
		free(t);
}

/* ---- collection ------------------------------------------------------------------------------ */

static void collect_work(uv_work_t *work)
{
	struct tick *t = work->data;

	t->collect_result = datapath_collect(t->a->dp, &t->args);
}

static void collect_done(uv_work_t *work, int status)
{
	struct tick *t = work->data;

	t->collecting = false;
	if (t->collect_result)
		log_warn("the flow tables could not be collected: %s",
			 uv_strerror(t->collect_result));
	else
		t->last = t->args;
	release(t);
}

static void collect_start(struct tick *t)
{
	if (t->collecting)
		return;
	t->args = (struct tw_collect_args){ .max_delete = COLLECT_MAX };
	t->collect.data = t;
	t->collecting = !uv_queue_work(&t->a->loop, &t->collect, collect_work, collect_done);
}

int tick_collect_result(const struct tick *t)
{
	/* Of a pass that is under way the worker writes it. */
	return __atomic_load_n(&t->collect_result, __ATOMIC_RELAXED);
}

void tick_collected(const struct tick *t, struct tw_collect_args *out)
{
	*out = t->last;
}

/* ---- events ---------------------------------------------------------------------------------- */

static int event_take(void *arg, const struct tw_event *ev)
{
	return flow_log_event(arg, ev);
}

static int events_drain(struct tick *t)
{
	struct agent *a = t->a;
	int n = datapath_events(a->dp, event_take, a->flows);

	flow_log_tick(a->flows);
	recorder_write(a->recorder, false);
	exporter_write(a->exporter, false);
	if (a->api)
		api_wake(a->api);
	return n;
}

void tick_events(struct tick *t)
{
	events_drain(t);
}

static void events_timer(uv_timer_t *timer)
{
	struct tick *t = timer->data;

	kernel_drops_sync(t->a->kernel_drops);
	if (events_drain(t) > 0)
		t->events_ms = EVENTS_MIN_MS;
	else if (t->events_ms < EVENTS_MAX_MS)
		t->events_ms += EVENTS_MIN_MS;
	if (t->release)
		memory_release();
	t->release = false;
	uv_timer_start(&t->events, events_timer, t->events_ms, 0);
}

/* ---- every second ------------------------------------------------------------------------------ */

static void second_timer(uv_timer_t *timer)
{
	struct tick *t = timer->data;

	recorder_write(t->a->recorder, true);
	exporter_write(t->a->exporter, true);
	datapath_heartbeat(t->a->dp);
	rates_look(t->a->rates);
	collect_start(t);
	agent_state_keep(t->a);
	pins_tick(t->a->pins);
	programs_look(t->a->programs);
	edges_look(t->a->edges);
	balancer_tick(t->a->balancer);
	if (++t->seconds % SWEEP_SECONDS == 0)
		agent_endpoint_sweep(t->a);
}

void tick_release(struct tick *t)
{
	t->release = true;
}

int tick_new(struct tick **out, struct agent *a)
{
	struct tick *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->a = a;
	t->events_ms = EVENTS_MIN_MS;
	uv_timer_init(&a->loop, &t->second);
	uv_timer_init(&a->loop, &t->events);
	t->second.data = t->events.data = t;
	t->open_handles = 2;
	*out = t;
	return 0;
}

void tick_start(struct tick *t)
{
	datapath_heartbeat(t->a->dp);
	programs_look(t->a->programs);
	collect_start(t); /* until it is through, nobody knows how many flows there are */
	uv_timer_start(&t->second, second_timer, SECOND_MS, SECOND_MS);
	uv_timer_start(&t->events, events_timer, t->events_ms, 0);
}

static void handle_closed(uv_handle_t *handle)
{
	struct tick *t = handle->data;

	t->open_handles--;
	release(t);
}

void tick_free(struct tick *t)
{
	if (!t)
		return;
	t->closing = true;
	uv_close((uv_handle_t *)&t->second, handle_closed);
	uv_close((uv_handle_t *)&t->events, handle_closed);
}
