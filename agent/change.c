/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* One change at a time: compile → stage → store → flip (docs/design/agent.md). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "coverage.h"
#include "edge/balance.h"
#include "edge/edges.h"
#include "effects.h"
#include "log.h"
#include "tick.h"

int agent_refuse(struct agent_error *err, enum agent_code code, const char *format, ...)
{
	static const int numbers[] = {
		[AGENT_INVALID] = -EINVAL,   [AGENT_NOT_FOUND] = -ENOENT, [AGENT_EXISTS] = -EEXIST,
		[AGENT_EXHAUSTED] = -ENOSPC, [AGENT_NOT_READY] = -EAGAIN, [AGENT_INTERNAL] = -EIO,
	};
	struct agent_error e = { .code = code };
	va_list args;

	/* The arguments may be pieces of err itself. */
	va_start(args, format);
	vsnprintf(e.at.text, sizeof(e.at.text), format, args);
	va_end(args);
	*err = e;
	return numbers[code];
}

int agent_refuse_errno(struct agent_error *err, int res, const char *text)
{
	enum agent_code code;

	switch (res) {
	case -EINVAL:
	case -ENOENT: /* of a path or interface that the request names */
	case -ENODEV:
		code = AGENT_INVALID;
		break;
	case -EEXIST:
	case -EADDRINUSE:
		code = AGENT_EXISTS;
		break;
	case -ENOSPC:
	case -E2BIG:
	case -EDQUOT:
		code = AGENT_EXHAUSTED;
		break;
	case -EAGAIN:
		code = AGENT_NOT_READY;
		break;
	default:
		code = AGENT_INTERNAL;
	}
	return agent_refuse(err, code, "%s", *text ? text : strerror(-res));
}

static uint64_t micros_since(uint64_t *mark)
{
	uint64_t now = uv_hrtime(), us = (now - *mark) / 1000;

	*mark = now;
	return us;
}

static int compile(struct agent *a, const struct agent_change *c, struct policy_plan *plan,
		   struct agent_error *err)
{
	const struct policy_change change = {
		.upsert = (const struct object *const *)c->put,
		.n_upsert = c->n_put,
		.remove = c->del,
		.n_remove = c->n_del,
		.ep_upsert = c->ep_put,
		.n_ep_upsert = c->n_ep_put,
		.ep_remove = c->removed,
		.n_ep_remove = c->n_removed,
	};
	int res = policy_prepare(a->policy, &change, plan);

	switch (res) {
	case 0:
		return 0;
	case -ENOSPC:
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "there are no numbers left for identities or policy versions; "
				    "remove some policies or pods");
	case -E2BIG:
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "one pod's policies name too many different ports; use fewer "
				    "or wider ranges");
	default:
		return agent_refuse(err, AGENT_INTERNAL, "cannot compile the policies: %s",
				    strerror(-res));
	}
}

static int store(struct agent *a, const struct agent_change *c, struct agent_error *err)
{
	__attribute__((cleanup(policy_id_change_clear))) struct policy_id_change ids = {};
	int res = policy_changed_ids(a->policy, &ids);

	if (res)
		return agent_refuse_errno(err, res, "");
	const struct store_change change = {
		.put = c->put,
		.n_put = c->n_put,
		.del = c->del,
		.n_del = c->n_del,
		.endpoints = c->records,
		.n_endpoints = c->n_records,
		.releases = c->releases,
		.n_releases = c->n_releases,
		.releases_before = c->releases_before,
		.some_ids = &ids,
	};
	res = store_write(a->store, &change);
	return res ? agent_refuse_errno(err, res, store_error(a->store)) : 0;
}

static void note_endpoints(struct agent *a, const struct plan_endpoint *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct endpoint *ep = slots_get(a->slots, v[i].slot);

		if (ep) {
			ep->identity = v[i].identity;
			ep->version = v[i].version;
		}
	}
}

/*
 * The change is stored, so it happened, whatever the maps say: what they did not take is put
 * right from the whole state.
 */
static void heal(struct agent *a, int res)
{
	char why[256];

	log_error("the kernel did not take a change: %s; writing the whole state anew",
		  strerror(-res));
	if (agent_reconcile(a, why, sizeof(why)))
		log_error("%s; restart towpathd", why);
}

/* What the log closed on the change was counted; from here on policies that changed count anew. */
static void coverage_changed(struct agent *a, const struct agent_change *c)
{
	for (size_t i = 0; i < c->n_put; i++) {
		c->put[i]->since = (uint32_t)agent_wall_seconds(a);
		coverage_forget(a->coverage, c->put[i]);
	}
	for (size_t i = 0; i < c->n_del; i++)
		coverage_forget(a->coverage, c->del[i]);
}

static void flip(struct agent *a, const struct agent_change *c, const struct policy_plan *plan,
		 struct agent_cost *cost)
{
	const struct maps_change change = {
		.plan = plan,
		.added = c->added,
		.n_added = c->n_added,
		.removed = c->removed,
		.n_removed = c->n_removed,
	};
	int res = maps_flip(a->maps, &change, &cost->kernel);

	policy_commit(a->policy);
	flow_log_policy_changed(a->flows);
	coverage_changed(a, c);
	store_sweep(a->store);
	/* In the order in which they were written: an endpoint may be in both. */
	note_endpoints(a, plan->refine_endpoints, plan->n_refine_endpoints);
	note_endpoints(a, plan->endpoints, plan->n_endpoints);
	if (res)
		heal(a, res);
}

static bool changes_kind(const struct agent_change *c, enum object_kind kind)
{
	for (size_t i = 0; i < c->n_put; i++)
		if (c->put[i]->kind == kind)
			return true;
	for (size_t i = 0; i < c->n_del; i++)
		if (c->del[i]->kind == kind)
			return true;
	return false;
}

int agent_change(struct agent *a, const struct agent_change *c, struct agent_cost *cost,
		 struct agent_error *err)
{
	__attribute__((cleanup(policy_plan_clear))) struct policy_plan plan = {};
	uint64_t mark = uv_hrtime();
	char why[256];

	*cost = (struct agent_cost){};
	int res = balancer_check(a, c, err);
	if (!res)
		res = compile(a, c, &plan, err);
	if (res)
		return res;
	cost->compile_us = micros_since(&mark);
	/* Events under way are named by the rules that made them. */
	tick_events(a->tick);
	mark = uv_hrtime();
	maps_make_way(a->maps, &plan);
	cost->wait_us = micros_since(&mark);
	res = maps_stage(a->maps, &plan, why, sizeof(why));
	cost->kernel_us = micros_since(&mark);
	if (res) {
		policy_abort(a->policy);
		return agent_refuse_errno(err, res, why);
	}
	if (!c->dry_run) {
		res = store(a, c, err);
	} else if (c->effects) {
		res = effects_json(a, c->dry_run, c->effects);
		if (res)
			res = agent_refuse(err, AGENT_INTERNAL, "out of memory");
		micros_since(&mark); /* the store has no part in it */
	}
	cost->store_us = micros_since(&mark);
	if (res || c->dry_run) {
		maps_unstage(a->maps, &plan);
		policy_abort(a->policy);
		return res;
	}
	/* Deleted objects are gone behind the flip. */
	const bool edge = changes_kind(c, OBJECT_EDGESERVICE) || changes_kind(c, OBJECT_EDGEDECAP);

	flip(a, c, &plan, cost);
	if (edge) {
		balancer_changed(a->balancer);
		edges_look(a->edges);
	}
	cost->kernel_us += micros_since(&mark);
	return 0;
}
