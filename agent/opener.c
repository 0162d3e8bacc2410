/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "opener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/*
 * ADDs that are on their way come first, as each grace period here would hold them up: a port
 * is opened after so long a pause between them, or when one has been closed for too long.
 */
#define PAUSE_MS 5
#define CLOSED_MAX_MS 1000

/* One port at the worker, which reads all but `result` and why, and posts `ended`. */
struct job {
	uv_work_t work;
	struct opener *o;
	uint32_t ifindex;
	struct endpoint_address parts[ENDPOINT_PARTS_MAX];
	size_t n_parts;
	uv_sem_t ended;
	bool told; /* its end was waited for */
	int result;
	char why[256];
};

struct opener {
	struct agent *a;
	uv_timer_t timer;
	struct job *job;
	uint64_t first; /* when the first of the closed ones came, ms */
	bool closing, closed;
};

static void release(struct opener *o)
{
	if (o->closed && !o->job)
		free(o);
}

static struct endpoint *closed_next(const struct opener *o)
{
	struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(o->a->slots, slot)); slot = ep->slot + 1)
		if (ep->closed && !ep->part && !ep->ending)
			return ep;
	return NULL;
}

/* ---- the worker --------------------------------------------------------------------------------- */

static void job_run(struct job *job)
{
	job->result = datapath_attach_port_end(job->o->a->dp, job->ifindex);
	if (!job->result)
		job->result =
			endpoint_link_open(job->parts, job->n_parts, job->why, sizeof(job->why));
}

static void job_work(uv_work_t *work)
{
	struct job *job = work->data;

	job_run(job);
	uv_sem_post(&job->ended);
}

static void job_fill(struct job *job, struct opener *o, const struct endpoint *ep)
{
	const struct endpoint *of = ep, *part = NULL;

	*job = (struct job){ .o = o, .ifindex = ep->port_ifindex };
	job->work.data = job;
	for (; of && job->n_parts < ENDPOINT_PARTS_MAX;
	     of = part = slots_part(o->a->slots, ep, part)) {
		struct endpoint_address *to = &job->parts[job->n_parts++];

		*to = (struct endpoint_address){ .port_ifindex = of->port_ifindex,
						 .addr4 = of->addr4,
						 .addr6 = of->addr6 };
		memcpy(to->mac, of->mac, sizeof(to->mac));
	}
}

/* Its parts share the port. What could not be opened is met again among ports without programs. */
static void job_tell(struct job *job)
{
	struct agent *a = job->o->a;
	struct endpoint *ep;
	bool there = false, ending = false;

	job->told = true;
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		if (ep->port_ifindex != job->ifindex)
			continue;
		ep->closed = false;
		there = true;
		ending = ep->ending;
	}
	/* A DEL was faster: the pin of a link that the interface took along. */
	if (!there)
		datapath_detach(a->dp, job->ifindex);
	else if (job->result && !ending)
		log_error("port %u: cannot have the node's packets judged, so none reaches the "
			  "container: %s",
			  job->ifindex, *job->why ? job->why : strerror(-job->result));
}

static void next_start(struct opener *o);

static void job_done(uv_work_t *work, int status)
{
	struct job *job = work->data;
	struct opener *o = job->o;

	if (!job->told)
		job_tell(job);
	uv_sem_destroy(&job->ended);
	free(job);
	o->job = NULL;
	if (o->closing)
		release(o);
	else
		next_start(o);
}

/* ---- when ----------------------------------------------------------------------------------------- */

static void look(uv_timer_t *timer)
{
	struct opener *o = timer->data;
	struct endpoint *ep = closed_next(o);
	struct job *job = ep && !o->job ? malloc(sizeof(*job)) : NULL;

	if (!ep || o->job)
		return;
	if (job) {
		job_fill(job, o, ep);
		if (!uv_sem_init(&job->ended, 0)) {
			o->job = job;
			if (!uv_queue_work(&o->a->loop, &job->work, job_work, job_done))
				return;
			o->job = NULL;
			uv_sem_destroy(&job->ended);
		}
		free(job);
	}
	opener_finish(o, ep); /* no memory for a worker's job */
	next_start(o);
}

/* Requests that have come meanwhile are looked at before a timer that is due later. */
static void next_start(struct opener *o)
{
	uint64_t now;

	if (!closed_next(o))
		return;
	uv_update_time(&o->a->loop);
	now = uv_now(&o->a->loop);
	uv_timer_start(&o->timer, look, now - o->first > CLOSED_MAX_MS ? 0 : PAUSE_MS, 0);
}

/* ---- the agent's side ---------------------------------------------------------------------------- */

void opener_add(struct opener *o, struct endpoint *ep)
{
	if (!ep->closed)
		return;
	if (!o->job && !uv_is_active((uv_handle_t *)&o->timer)) {
		uv_update_time(&o->a->loop);
		o->first = uv_now(&o->a->loop);
	}
	if (!o->job)
		next_start(o);
}

void opener_finish(struct opener *o, const struct endpoint *ep)
{
	struct job now;

	if (!ep->closed)
		return;
	if (o->job && o->job->ifindex == ep->port_ifindex) {
		uv_sem_wait(&o->job->ended);
		job_tell(o->job);
		return;
	}
	job_fill(&now, o, ep);
	job_run(&now);
	job_tell(&now);
}

int opener_new(struct opener **out, struct agent *a)
{
	struct opener *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->a = a;
	uv_timer_init(&a->loop, &o->timer);
	o->timer.data = o;
	*out = o;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	struct opener *o = handle->data;

	o->closed = true;
	release(o);
}

void opener_free(struct opener *o)
{
	struct endpoint *ep;

	if (!o)
		return;
	o->closing = true;
	while ((ep = closed_next(o)))
		opener_finish(o, ep);
	uv_close((uv_handle_t *)&o->timer, timer_closed);
}
