/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "recorder.h"

#include <errno.h>
#include <stdlib.h>

#include "agent.h"
#include "api/api.h"
#include "flow/history.h"
#include "log.h"

/* Records of a batch: a transaction of so many takes some 20 ms of a worker's time. */
#define BATCH_MAX 2048u
/* So many are worth a batch before the second is over; of a small ring, a quarter. */
#define BATCH_MUCH 1024u

struct recorder {
	struct agent *a;
	uv_work_t work;
	struct flow_batch *batch; /* the worker's */
	uint64_t next;		  /* record to write */
	uint32_t much;
};

int recorder_new(struct recorder **out, struct agent *a)
{
	const struct flow_history_options options = {
		.dir = a->opts->state_dir,
		.records = a->opts->flow_history,
		.bytes = (uint64_t)a->opts->flow_history_mb << 20,
	};
	struct recorder *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	if (flow_history_open(&a->history, &options)) {
		free(r);
		return -ENOMEM;
	}
	r->a = a;
	r->work.data = r;
	r->much = a->opts->flow_log / 4 < BATCH_MUCH ? a->opts->flow_log / 4 : BATCH_MUCH;
	r->next = flow_history_first(a->history);
	flow_log_number_from(a->flows, r->next);
	*out = r;
	return 0;
}

static void notice_say(struct agent *a)
{
	char text[512];

	if (flow_history_notice(a->history, text, sizeof(text)))
		log_warn("%s", text);
}

static void work_run(uv_work_t *work)
{
	struct recorder *r = work->data;

	flow_history_write(r->a->history, r->batch);
}

static void work_done(uv_work_t *work, int status)
{
	struct recorder *r = work->data;

	flow_log_batch_end(r->a->flows, r->batch);
	r->batch = NULL;
	notice_say(r->a);
	recorder_write(r, false);
}

void recorder_write(struct recorder *r, bool every)
{
	if (!r || r->batch)
		return;
	uint64_t waiting = flow_log_waiting(r->a->flows, r->next);

	if (!waiting || (!every && waiting < r->much))
		return;
	r->batch = flow_log_batch(r->a->flows, &r->next, BATCH_MAX);
	if (r->batch && uv_queue_work(&r->a->loop, &r->work, work_run, work_done)) {
		flow_log_batch_end(r->a->flows, r->batch);
		r->batch = NULL;
	}
}

void recorder_free(struct recorder *r)
{
	struct flow_batch *batch;

	if (!r)
		return;
	while ((batch = flow_log_batch(r->a->flows, &r->next, BATCH_MAX))) {
		flow_history_write(r->a->history, batch);
		flow_log_batch_end(r->a->flows, batch);
	}
	notice_say(r->a);
	flow_history_close(r->a->history);
	free(r);
}
