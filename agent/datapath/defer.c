/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Deletions after an RCU grace period (I5: no number is reused while a program may hold it). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/internal.h"

/* Changes that come in a burst share one grace period. */
#define DEFER_MS 100

struct batch {
	uint32_t *versions;
	size_t n_versions;
	struct tw_peer_key *peers;
	size_t n_peers;
};

struct defer {
	struct datapath *dp;
	uv_loop_t *loop;
	uv_timer_t timer;
	uv_work_t work;
	bool working; /* a worker waits for the grace period of `ripe` */
	bool closing;
	struct batch waiting;
	struct batch ripe;
};

int peer_order(const void *a, const void *b)
{
	const struct tw_peer_key *x = a, *y = b;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	return x->identity == y->identity ? 0 : x->identity < y->identity ? -1 : 1;
}

int number_order(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x == *y ? 0 : *x < *y ? -1 : 1;
}

static void batch_clear(struct batch *b)
{
	free(b->versions);
	free(b->peers);
	*b = (struct batch){};
}

static void batch_delete(struct defer *d, struct batch *b)
{
	for (size_t i = 0; i < b->n_versions; i++)
		datapath_version_del(d->dp, b->versions[i]);
	for (size_t i = 0; i < b->n_peers; i++)
		datapath_peer_del(d->dp, b->peers[i].set, b->peers[i].identity);
	batch_clear(b);
}

static void defer_timer(uv_timer_t *timer);

static void defer_start(struct defer *d)
{
	if (!d->working && (d->waiting.n_versions || d->waiting.n_peers))
		uv_timer_start(&d->timer, defer_timer, DEFER_MS, 0);
}

static void defer_work(uv_work_t *work)
{
	const struct defer *d = work->data;

	datapath_grace(d->dp);
}

static void defer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void defer_done(uv_work_t *work, int status)
{
	struct defer *d = work->data;

	d->working = false;
	if (d->closing) {
		batch_clear(&d->ripe);
		uv_close((uv_handle_t *)&d->timer, defer_closed);
		return;
	}
	batch_delete(d, &d->ripe);
	defer_start(d);
}

static void defer_timer(uv_timer_t *timer)
{
	struct defer *d = timer->data;

	d->ripe = d->waiting;
	d->waiting = (struct batch){};
	d->work.data = d;
	d->working = !uv_queue_work(d->loop, &d->work, defer_work, defer_done);
}

struct defer *defer_new(struct datapath *dp, uv_loop_t *loop)
{
	struct defer *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->dp = dp;
	d->loop = loop;
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	uv_unref((uv_handle_t *)&d->timer);
	return d;
}

void defer_free(struct defer *d)
{
	batch_clear(&d->waiting);
	d->closing = true;
	if (d->working)
		return; /* defer_done() goes on */
	batch_clear(&d->ripe);
	uv_close((uv_handle_t *)&d->timer, defer_closed);
}

int defer_delete(struct defer *d, const struct policy_plan *plan)
{
	struct batch *b = &d->waiting;

	if (plan->n_versions_del) {
		uint32_t *v =
			reallocarray(b->versions, b->n_versions + plan->n_versions_del, sizeof(*v));

		if (!v)
			return -ENOMEM;
		memcpy(v + b->n_versions, plan->versions_del, plan->n_versions_del * sizeof(*v));
		b->versions = v;
		b->n_versions += plan->n_versions_del;
	}
	if (plan->n_peers_del) {
		struct tw_peer_key *v =
			reallocarray(b->peers, b->n_peers + plan->n_peers_del, sizeof(*v));

		if (!v)
			return -ENOMEM;
		b->peers = v;
		for (size_t i = 0; i < plan->n_peers_del; i++)
			v[b->n_peers++] = plan->peers_del[i].key;
	}
	if (!uv_is_active((uv_handle_t *)&d->timer))
		defer_start(d);
	return 0;
}

static bool batch_in_way(struct batch *b, const struct policy_plan *plan)
{
	if (b->n_versions && plan->n_versions_add) {
		qsort(b->versions, b->n_versions, sizeof(*b->versions), number_order);
		for (size_t i = 0; i < plan->n_versions_add; i++)
			if (bsearch(&plan->versions_add[i].version, b->versions, b->n_versions,
				    sizeof(*b->versions), number_order))
				return true;
	}
	if (b->n_peers && plan->n_peers_add) {
		qsort(b->peers, b->n_peers, sizeof(*b->peers), peer_order);
		for (size_t i = 0; i < plan->n_peers_add; i++)
			if (bsearch(&plan->peers_add[i].key, b->peers, b->n_peers,
				    sizeof(*b->peers), peer_order))
				return true;
	}
	return false;
}

void defer_make_way(struct defer *d, const struct policy_plan *plan)
{
	if (!batch_in_way(&d->ripe, plan) && !batch_in_way(&d->waiting, plan))
		return;
	datapath_grace(d->dp);
	batch_delete(d, &d->ripe);
	batch_delete(d, &d->waiting);
	uv_timer_stop(&d->timer);
}
