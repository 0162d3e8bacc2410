/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Changes of limits and SYN cookies. Stored first, then put in force; what cannot be put in force is
 * taken back from the store. Switching the stage on or off loads the program anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/internal.h"
#include "log.h"

/* A task's own: what was, and what is to be. */
struct limits_task {
	struct limits before, next;
	json_t *body;
	bool stored;
};

static int change_begin(struct edge_task *t)
{
	struct limits_task *l = t->limits;
	struct edges *e = t->e;
	struct agent_error err = {};
	int res;

	l->before = l->next = e->limits;
	res = limits_change(&l->next, l->body, &err);
	if (res)
		return edge_task_refuse(t, err.code, res, "%s", err.at.text);
	res = limits_store(e->a->store, &l->before, &l->next);
	if (res)
		return edge_task_refuse(t, AGENT_INTERNAL, res, "%s", store_error(e->a->store));
	l->stored = true;
	e->limits = l->next;
	edges_settings(e, &t->want);
	if (e->edge)
		return 0;
	t->reply = edges_limits_json(e);
	return 1;
}

static void change_work(struct edge_task *t)
{
	struct limits_task *l = t->limits;
	struct edges *e = t->e;

	t->res = limits_apply(e->edge, &l->before, &l->next, t->limits_why, t->err, sizeof(t->err));
	if (!t->res && !edge_settings_equal(e->edge, &t->want))
		t->res = edges_prepare(t);
	if (t->res && !*t->err)
		edge_task_refuse(t, AGENT_INTERNAL, t->res, "limits could not be put in force: %s",
				 strerror(-t->res));
}

static void change_end(struct edge_task *t)
{
	t->res = edges_commit(t);
	if (t->res)
		return;
	snprintf(t->e->limits_why, sizeof(t->e->limits_why), "%s", t->limits_why);
	t->reply = edges_limits_json(t->e);
}

/* What is not in force is not kept either. */
static void change_over(struct edge_task *t)
{
	struct limits_task *l = t->limits;
	struct edges *e = t->e;
	char why[256], err[256] = "";

	if (!t->res || !l->stored)
		return;
	e->limits = l->before;
	if (limits_store(e->a->store, &l->next, &l->before))
		log_error("edge: %s", store_error(e->a->store));
	if (e->edge && limits_apply(e->edge, &l->next, &l->before, why, err, sizeof(err)))
		log_error("edge: limits of before could not be put back: %s", err);
}

void edges_limits_free(struct limits_task *l)
{
	if (l)
		json_decref(l->body);
	free(l);
}

int edges_limits(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err)
{
	struct edge_task *t = edge_task_new(e, done, arg);

	if (t)
		t->limits = calloc(1, sizeof(*t->limits));
	if (t && t->limits)
		t->limits->body = json_deep_copy(body);
	if (!t || !t->limits || !t->limits->body) {
		if (t)
			edge_task_free(t);
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	t->begin = change_begin;
	t->work = change_work;
	t->end = change_end;
	t->over = change_over;
	return edge_task_add(t, err);
}

int edges_limits_attach(struct edge_task *t)
{
	struct edge *edge = t->edge ? t->edge : t->e->edge;
	int res = limits_apply(edge, NULL, &t->e->limits, t->limits_why, t->err, sizeof(t->err));

	if (res && !*t->err)
		edge_task_refuse(t, AGENT_INTERNAL, res, "limits could not be put in force: %s",
				 strerror(-res));
	return res;
}

void edges_limits_attached(struct edge_task *t)
{
	struct edges *e = t->e;

	if (*t->limits_why && strcmp(t->limits_why, e->limits_why))
		log_warn("edge: SYN cookies are off: %s", t->limits_why);
	snprintf(e->limits_why, sizeof(e->limits_why), "%s", t->limits_why);
}

json_t *edges_limits_json(const struct edges *e)
{
	return limits_json(&e->limits, e->edge, e->limits_why);
}
