/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "remover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* How often the loop looks whether interfaces are off the lists. */
#define LOOK_MS 1
/*
 * When DELs have queued up behind a request, more may be on their way: it is worth waiting for
 * a pause between them, as what comes later waits for the whole request of the others.
 */
#define PAUSE_MS 40
#define PAUSE_MAX_MS 400
/* Interfaces of one request: the kernel holds the lock of all interfaces for all of them. */
#define BATCH_MAX 64u

struct waiter {
	uint32_t slot;
	remover_fn done;
	void *arg;
	struct waiter *prev, *next;
};

struct port {
	uint32_t slot; /* 0: told already */
	uint32_t ifindex;
	char name[IFNAMSIZ];
};

/* Interfaces that a worker removes. It reads the names and writes result and why. */
struct batch {
	uv_work_t work;
	struct remover *r;
	size_t n;
	struct port ports[BATCH_MAX];
	char names[BATCH_MAX][IFNAMSIZ];
	int result;
	char why[256];
};

struct remover {
	struct agent *a;
	uv_timer_t timer;
	struct batch *batch; /* at work */
	struct port *queue;  /* behind it */
	size_t n_queue, room;
	uint64_t first, last; /* when the queue's came, uv_now() */
	struct waiter *waiters;
	bool closing, closed;
};

static void release(struct remover *r)
{
	if (!r->closed || r->batch)
		return;
	free(r->queue);
	free(r);
}

/* ---- telling ---------------------------------------------------------------------------------- */

static void tell(struct remover *r, uint32_t slot, int res, const struct agent_error *err)
{
	struct waiter *w, *next;

	DL_FOREACH_SAFE(r->waiters, w, next) {
		if (w->slot != slot)
			continue;
		DL_DELETE(r->waiters, w);
		w->done(w->arg, res, err);
		free(w);
	}
}

static void port_gone(struct remover *r, struct port *port)
{
	struct endpoint *ep = slots_get(r->a->slots, port->slot);
	struct agent_error err = {};
	int res = agent_endpoint_forget(r->a, ep, &err);

	/* The interface is gone, the record is not: DEL is tried again, or the sweep does it. */
	if (res)
		ep->ending = false;
	tell(r, port->slot, res, &err);
	port->slot = 0;
}

static void port_failed(struct remover *r, struct port *port, int res, const char *why)
{
	struct agent_error err = {};

	slots_get(r->a->slots, port->slot)->ending = false;
	res = agent_refuse_errno(&err, res, why);
	tell(r, port->slot, res, &err);
	port->slot = 0;
}

/* How many are still there. */
static size_t batch_look(struct batch *b)
{
	size_t left = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct port *port = &b->ports[i];

		if (!port->slot)
			continue;
		if (endpoint_link_listed(port->name, port->ifindex))
			left++;
		else
			port_gone(b->r, port);
	}
	return left;
}

/* ---- the worker --------------------------------------------------------------------------------- */

static void look(uv_timer_t *timer);

static void batch_work(uv_work_t *work)
{
	struct batch *b = work->data;

	b->result = endpoint_links_delete(b->names, b->n, b->why, sizeof(b->why));
}

static void batch_done(uv_work_t *work, int status)
{
	struct batch *b = work->data;
	struct remover *r = b->r;

	if (!r->closing && batch_look(b)) {
		for (size_t i = 0; i < b->n; i++)
			if (b->ports[i].slot)
				port_failed(r, &b->ports[i], b->result ?: -EBUSY, b->why);
	}
	r->batch = NULL;
	free(b);
	if (r->closing)
		release(r);
	else
		uv_timer_start(&r->timer, look, 0, 0);
}

static int batch_start(struct remover *r)
{
	struct batch *b = calloc(1, sizeof(*b));
	int res;

	if (!b)
		return -ENOMEM;
	b->r = r;
	b->work.data = b;
	b->n = r->n_queue < BATCH_MAX ? r->n_queue : BATCH_MAX;
	memcpy(b->ports, r->queue, b->n * sizeof(*b->ports));
	for (size_t i = 0; i < b->n; i++)
		memcpy(b->names[i], b->ports[i].name, IFNAMSIZ);
	res = uv_queue_work(&r->a->loop, &b->work, batch_work, batch_done);
	if (res) {
		free(b);
		return res;
	}
	r->n_queue -= b->n;
	memmove(r->queue, r->queue + b->n, r->n_queue * sizeof(*r->queue));
	r->batch = b;
	return 0;
}

static bool queue_ripe(const struct remover *r)
{
	uint64_t now = uv_now(&r->a->loop);

	return r->n_queue == 1 || now - r->last >= PAUSE_MS || now - r->first >= PAUSE_MAX_MS;
}

static void look(uv_timer_t *timer)
{
	struct remover *r = timer->data;
	bool waiting = r->n_queue > 0;

	if (r->batch)
		waiting = batch_look(r->batch) > 0;
	else if (waiting && queue_ripe(r))
		batch_start(r); /* when that fails the next look tries again */
	if (waiting)
		uv_timer_start(timer, look, LOOK_MS, 0);
}

/* ---- the agent's side ---------------------------------------------------------------------------- */

int remover_add(struct remover *r, struct endpoint *ep, remover_fn done, void *arg)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (!ep->ending && r->n_queue == r->room) {
		size_t room = r->room ? 2 * r->room : 16;
		struct port *queue = reallocarray(r->queue, room, sizeof(*queue));

		if (!queue) {
			free(w);
			return -ENOMEM;
		}
		r->queue = queue;
		r->room = room;
	}
	*w = (struct waiter){ .slot = ep->slot, .done = done, .arg = arg };
	DL_APPEND(r->waiters, w);
	if (ep->ending)
		return 0;
	ep->ending = true;
	struct port *port = &r->queue[r->n_queue++];
	*port = (struct port){ .slot = ep->slot, .ifindex = ep->port_ifindex };
	memcpy(port->name, ep->port, sizeof(port->name));
	r->last = uv_now(&r->a->loop);
	if (r->n_queue == 1)
		r->first = r->last;
	if (!r->batch)
		uv_timer_start(&r->timer, look, 0, 0);
	return 0;
}

int remover_new(struct remover **out, struct agent *a)
{
	struct remover *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->a = a;
	uv_timer_init(&a->loop, &r->timer);
	r->timer.data = r;
	*out = r;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	struct remover *r = handle->data;

	r->closed = true;
	release(r);
}

void remover_free(struct remover *r)
{
	struct agent_error err = {};
	int res;

	if (!r)
		return;
	r->closing = true;
	res = agent_refuse(&err, AGENT_NOT_READY, "the agent is stopping; try again once it runs");
	while (r->waiters)
		tell(r, r->waiters->slot, res, &err);
	uv_close((uv_handle_t *)&r->timer, timer_closed);
}
