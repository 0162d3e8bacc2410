/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Whether services can be taken, all together: room, and no frontend twice. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <towpath/edge_balance_abi.h>

#include "edge/balance.h"

struct claim {
	const struct object *obj;
	const struct agent_change *change;
	size_t services, fronts, backends, decaps;
	struct agent_error *err;
};

static bool change_has(const struct object *const *v, size_t n, const struct object *obj)
{
	for (size_t i = 0; i < n; i++)
		if (v[i]->kind == obj->kind && !strcmp(v[i]->ns, obj->ns) &&
		    !strcmp(v[i]->name, obj->name))
			return true;
	return false;
}

/* One frontend is one service's. */
static int fronts_differ(const struct object *a, const struct object *b, struct agent_error *err)
{
	for (size_t i = 0; i < a->service.n_fronts; i++) {
		const struct service_front *f = &a->service.fronts[i];

		for (size_t j = 0; j < b->service.n_fronts; j++) {
			const struct service_front *g = &b->service.fronts[j];
			char prefix[64] = "";

			if (!service_front_same(f, g))
				continue;
			prefix_format(&f->prefix, prefix, sizeof(prefix));
			return agent_refuse(err, AGENT_INVALID,
					    "EdgeService %s/%s has the frontend %s port %u, which "
					    "EdgeService %s/%s has, too",
					    a->ns, a->name, prefix, f->port, b->ns, b->name);
		}
	}
	return 0;
}

static bool claim_gone(const struct claim *c, const struct object *obj)
{
	return change_has(c->change->del, c->change->n_del, obj) ||
	       change_has((const struct object *const *)c->change->put, c->change->n_put, obj);
}

static int claim_decap(void *arg, const struct object *obj)
{
	struct claim *c = arg;

	if (!claim_gone(c, obj))
		c->decaps += obj->decap.n_from;
	return 0;
}

static int claim_add(void *arg, const struct object *obj)
{
	struct claim *c = arg;
	const struct agent_change *change = c->change;

	if (claim_gone(c, obj))
		return 0;
	c->services++;
	c->fronts += obj->service.n_fronts;
	c->backends += obj->service.n_backends;
	for (size_t i = 0; i < change->n_put; i++) {
		int res = change->put[i]->kind == OBJECT_EDGESERVICE
				  ? fronts_differ(change->put[i], obj, c->err)
				  : 0;

		if (res)
			return res;
	}
	return 0;
}

int balancer_check(const struct agent *a, const struct agent_change *change,
		   struct agent_error *err)
{
	struct claim c = { .change = change, .err = err };
	bool any = false;
	int res;

	for (size_t i = 0; i < change->n_put; i++) {
		const struct object *obj = change->put[i];

		any |= obj->kind == OBJECT_EDGESERVICE || obj->kind == OBJECT_EDGEDECAP;
		if (obj->kind == OBJECT_EDGEDECAP)
			c.decaps += obj->decap.n_from;
		if (obj->kind != OBJECT_EDGESERVICE)
			continue;
		c.services++;
		c.fronts += obj->service.n_fronts;
		c.backends += obj->service.n_backends;
		for (size_t j = 0; j < i; j++) {
			res = change->put[j]->kind == OBJECT_EDGESERVICE
				      ? fronts_differ(obj, change->put[j], err)
				      : 0;
			if (res)
				return res;
		}
	}
	if (!any)
		return 0;
	res = store_object_each(a->store, OBJECT_EDGESERVICE, NULL, claim_add, &c);
	if (!res)
		res = store_object_each(a->store, OBJECT_EDGEDECAP, NULL, claim_decap, &c);
	if (res)
		return res;
	if (c.decaps > TW_EDGE_DECAP_SOURCES)
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "packets may be taken from %u addresses or prefixes, in all "
				    "EdgeDecap objects together",
				    TW_EDGE_DECAP_SOURCES);
	if (c.services >= TW_EDGE_SERVICES)
		return agent_refuse(err, AGENT_EXHAUSTED, "there may be %u edge services",
				    TW_EDGE_SERVICES - 1);
	if (c.fronts >= TW_EDGE_FRONTS / 2)
		return agent_refuse(err, AGENT_EXHAUSTED, "there may be %u frontends",
				    TW_EDGE_FRONTS / 2 - 1);
	/* Half: what is replaced stays for its connections. */
	if (c.backends >= TW_EDGE_BACKENDS / 2)
		return agent_refuse(err, AGENT_EXHAUSTED, "there may be %u backends",
				    TW_EDGE_BACKENDS / 2 - 1);
	return 0;
}
