/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "past.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "flow/history.h"

struct past {
	struct past *prev, *next;
	struct agent *a;
	uv_work_t work;
	past_fn done; /* NULL: nobody waits any more */
	void *arg;
	uint64_t below; /* the record with which the log in memory begins */
	struct flow_past *v;
	size_t n;
	int res;
};

static void past_read(uv_work_t *work)
{
	struct past *p = work->data;

	p->res = flow_history_past(p->a->history, p->below, &p->v, &p->n);
}

static void past_done(uv_work_t *work, int status)
{
	struct past *p = work->data;

	if (p->done) {
		DL_DELETE(p->a->pasts, p);
		p->done(p->arg, p->res, p->v, p->n);
	}
	free(p->v);
	free(p);
}

int past_ask(struct agent *a, past_fn done, void *arg)
{
	struct past *p;

	if (!a->history) {
		done(arg, 0, NULL, 0);
		return 0;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct past){
		.a = a,
		.work = { .data = p },
		.done = done,
		.arg = arg,
		.below = flow_log_oldest(a->flows),
	};
	if (uv_queue_work(&a->loop, &p->work, past_read, past_done)) {
		free(p);
		return -ENOMEM;
	}
	DL_APPEND(a->pasts, p);
	return 0;
}

void past_stop(struct agent *a)
{
	struct past *p, *next;

	DL_FOREACH_SAFE(a->pasts, p, next) {
		DL_DELETE(a->pasts, p);
		p->done(p->arg, -EAGAIN, NULL, 0);
		p->done = NULL; /* its memory is the worker's until that ends */
	}
}
