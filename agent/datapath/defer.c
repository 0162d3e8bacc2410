/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Deletions after an RCU grace period (I5: no number is reused while a program may hold it). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/internal.h"

/* Changes that come in a burst share one grace period. */
#define DEFER_MS 100

/* Pairs of a set and an identity. */
struct pairs {
	struct tw_peer_key *v;
	size_t n;
};

struct batch {
	uint32_t *versions;
	size_t n_versions;
	struct pairs peers;	/* whose identity has ended */
	struct pairs set_peers; /* whose set has ended */
	struct pairs turned;	/* that joined or left a set */
	uint16_t generation;	/* in which the last of them did */
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

static bool batch_is_empty(const struct batch *b)
{
	return !b->n_versions && !b->peers.n && !b->set_peers.n && !b->turned.n;
}

static void batch_clear(struct batch *b)
{
	free(b->versions);
	free(b->peers.v);
	free(b->set_peers.v);
	free(b->turned.v);
	*b = (struct batch){};
}

/* A grace period has passed since the batch's last plan was in force. */
static void batch_delete(struct defer *d, struct batch *b)
{
	if (b->turned.n)
		datapath_generation_over(d->dp, b->generation);
	for (size_t i = 0; i < b->n_versions; i++)
		datapath_version_del(d->dp, b->versions[i]);
	datapath_peers_del(d->dp, b->peers.v, b->peers.n);
	datapath_peers_del(d->dp, b->set_peers.v, b->set_peers.n);
	datapath_peers_settle(d->dp, b->turned.v, b->turned.n);
	batch_clear(b);
}

static void defer_timer(uv_timer_t *timer);

static void defer_start(struct defer *d)
{
	if (!d->working && !batch_is_empty(&d->waiting))
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

static int pairs_add(struct pairs *p, const struct tw_peer_key *more, size_t n)
{
	struct tw_peer_key *v = n ? reallocarray(p->v, p->n + n, sizeof(*v)) : p->v;

	if (n && !v)
		return -ENOMEM;
	p->v = v;
	if (n)
		memcpy(v + p->n, more, n * sizeof(*v));
	p->n += n;
	return 0;
}

/* Pairs that are not settled would turn again when generations have gone round. */
static int turned_add(struct defer *d, const struct tw_peer_key *v, size_t n)
{
	int res = pairs_add(&d->waiting.turned, v, n);

	d->waiting.generation = datapath_generation(d->dp);
	if (res) {
		datapath_grace(d->dp);
		datapath_generation_over(d->dp, d->waiting.generation);
		res = datapath_peers_settle(d->dp, v, n);
	}
	return res;
}

int defer_delete(struct defer *d, const struct policy_plan *plan)
{
	struct batch *b = &d->waiting;
	int turned = turned_add(d, plan->peers_join, plan->n_peers_join);

	if (!turned)
		turned = turned_add(d, plan->peers_leave, plan->n_peers_leave);
	if (plan->n_versions_del) {
		uint32_t *v =
			reallocarray(b->versions, b->n_versions + plan->n_versions_del, sizeof(*v));

		if (!v)
			return -ENOMEM;
		memcpy(v + b->n_versions, plan->versions_del, plan->n_versions_del * sizeof(*v));
		b->versions = v;
		b->n_versions += plan->n_versions_del;
	}
	int res = pairs_add(&b->peers, plan->peers_del, plan->n_peers_del);
	if (!res)
		res = pairs_add(&b->set_peers, plan->set_peers_del, plan->n_set_peers_del);
	if (res || turned)
		return res ? res : turned;
	if (!uv_is_active((uv_handle_t *)&d->timer))
		defer_start(d);
	return 0;
}

/* Sorted numbers. */
struct numbers {
	uint32_t *v;
	size_t n;
};

static bool numbers_have(const struct numbers *n, uint32_t id)
{
	return n->n && bsearch(&id, n->v, n->n, sizeof(id), number_order);
}

static bool sets_in_way(const struct numbers *sets, const struct plan_version *version)
{
	for (int d = 0; d < 2; d++)
		for (uint32_t i = 0; i < version->n_classes[d]; i++)
			if (numbers_have(sets, version->classes[d][i].set))
				return true;
	return false;
}

static bool endpoints_in_way(const struct numbers *ids, const struct plan_endpoint *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (numbers_have(ids, v[i].identity) || numbers_have(ids, v[i].identity6))
			return true;
	return false;
}

static bool prefixes_in_way(const struct numbers *ids, const struct plan_prefix *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((v[i].word & TW_WORD_KIND) == TW_WORD_IDENTITY && numbers_have(ids, v[i].word))
			return true;
	return false;
}

static bool plan_in_way(const struct numbers *versions, const struct numbers *sets,
			const struct numbers *ids, const struct policy_plan *plan)
{
	for (size_t i = 0; i < plan->n_versions_add; i++)
		if (numbers_have(versions, plan->versions_add[i].version) ||
		    sets_in_way(sets, &plan->versions_add[i]))
			return true;
	for (size_t i = 0; i < plan->n_peers_add; i++)
		if (numbers_have(sets, plan->peers_add[i].set) ||
		    numbers_have(ids, plan->peers_add[i].identity))
			return true;
	return endpoints_in_way(ids, plan->refine_endpoints, plan->n_refine_endpoints) ||
	       endpoints_in_way(ids, plan->endpoints, plan->n_endpoints) ||
	       prefixes_in_way(ids, plan->refine_prefixes, plan->n_refine_prefixes) ||
	       prefixes_in_way(ids, plan->prefixes_set, plan->n_prefixes_set);
}

/* Distinct numbers, sorted. `of` reads one of a pair. */
static int numbers_of(const struct pairs *p, uint32_t (*of)(const struct tw_peer_key *key),
		      struct numbers *out)
{
	out->v = calloc(p->n + 1, sizeof(*out->v));
	if (!out->v)
		return -ENOMEM;
	/* Pairs of one set, or of one identity, stand together. */
	for (size_t i = 0; i < p->n; i++)
		if (!out->n || out->v[out->n - 1] != of(&p->v[i]))
			out->v[out->n++] = of(&p->v[i]);
	qsort(out->v, out->n, sizeof(*out->v), number_order);
	return 0;
}

static uint32_t set_of(const struct tw_peer_key *key)
{
	return key->set;
}

static uint32_t identity_of(const struct tw_peer_key *key)
{
	return key->identity;
}

/*
 * The compiler may give a number out again as soon as it is free. A set or an identity that is
 * used again while pairs of the one before are waiting would let the old peers in.
 */
static bool batch_in_way(struct batch *b, const struct policy_plan *plan)
{
	struct numbers versions = { b->versions, b->n_versions };
	struct numbers sets = {}, ids = {};
	bool in_way = true;

	if (batch_is_empty(b))
		return false;
	if (!numbers_of(&b->set_peers, set_of, &sets) &&
	    !numbers_of(&b->peers, identity_of, &ids)) {
		if (versions.n)
			qsort(versions.v, versions.n, sizeof(*versions.v), number_order);
		in_way = plan_in_way(&versions, &sets, &ids, plan);
	}
	free(sets.v);
	free(ids.v);
	return in_way;
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
