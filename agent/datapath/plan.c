/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Staging and flipping one plan. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/internal.h"

int maps_new(struct maps **out, struct datapath *dp, uv_loop_t *loop)
{
	struct maps *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->dp = dp;
	m->defer = defer_new(dp, loop);
	if (!m->defer) {
		free(m);
		return -ENOMEM;
	}
	*out = m;
	return 0;
}

void maps_free(struct maps *m)
{
	if (!m)
		return;
	defer_free(m->defer);
	free(m->fresh);
	free(m->turned);
	free(m->words);
	free(m);
}

static int stage_refuse(int res, const char *what, char *err, size_t err_len)
{
	if (res == -ENOSPC || res == -E2BIG)
		snprintf(err, err_len,
			 "the kernel's table of %s is full; remove some policies or pods", what);
	else
		snprintf(err, err_len, "the kernel refused to store %s: %s", what, strerror(-res));
	return res == -E2BIG ? -ENOSPC : res;
}

/*
 * Makes room for prefixes that have no entry yet, by entries that say what the look-up finds
 * there anyway.
 */
static int stage_prefixes(struct maps *m, const struct policy_plan *plan)
{
	bool *fresh = calloc(plan->n_prefixes_set + 1, sizeof(*fresh));

	if (!fresh)
		return -ENOMEM;
	free(m->fresh);
	m->fresh = fresh;
	for (; m->n_fresh < plan->n_prefixes_set; m->n_fresh++) {
		const struct prefix *p = &plan->prefixes_set[m->n_fresh].prefix;
		uint32_t word;
		bool exact;
		int res = datapath_prefix_get(m->dp, &p->addr, p->len, &word, &exact);

		if (!res && !exact) {
			res = datapath_prefix_set(m->dp, &p->addr, p->len, word);
			fresh[m->n_fresh] = !res;
		}
		if (res)
			return res;
	}
	return 0;
}

void maps_make_way(struct maps *m, const struct policy_plan *plan)
{
	defer_make_way(m->defer, plan);
}

/* Sets that change, for the versions of this plan. */
static int stage_turns(struct maps *m, const struct policy_plan *plan)
{
	size_t n = plan->n_peers_join + plan->n_peers_leave;
	int res;

	if (!n)
		return 0;
	free(m->turned);
	m->turned = calloc(n, sizeof(*m->turned));
	if (!m->turned)
		return -ENOMEM;
	res = datapath_generation_begin(m->dp);
	if (!res)
		res = datapath_peers_turn(m->dp, plan->peers_join, plan->n_peers_join, true,
					  m->turned, &m->n_join);
	if (!res)
		res = datapath_peers_turn(m->dp, plan->peers_leave, plan->n_peers_leave, false,
					  m->turned + m->n_join, &m->n_leave);
	return res;
}

static void stage_forget(struct maps *m)
{
	m->n_peers = m->n_join = m->n_leave = m->n_versions = m->n_fresh = 0;
	free(m->turned);
	m->turned = NULL;
}

int maps_stage(struct maps *m, const struct policy_plan *plan, char *err, size_t err_len)
{
	int res = 0;

	stage_forget(m);
	res = datapath_peers_set(m->dp, plan->peers_add, plan->n_peers_add, &m->n_peers);
	if (!res)
		res = stage_turns(m, plan);
	if (res) {
		maps_unstage(m, plan);
		return stage_refuse(res, "policy peers", err, err_len);
	}
	for (; m->n_versions < plan->n_versions_add; m->n_versions++) {
		const struct plan_version *v = &plan->versions_add[m->n_versions];
		const struct tw_class *const classes[2] = { v->classes[0], v->classes[1] };

		res = datapath_version_set(m->dp, v->version, v->isolated, classes, v->n_classes);
		if (res) {
			maps_unstage(m, plan);
			return stage_refuse(res, "policy versions and their ports", err, err_len);
		}
	}
	datapath_versions_end(m->dp);
	res = stage_prefixes(m, plan);
	if (res) {
		maps_unstage(m, plan);
		return stage_refuse(res, "address prefixes", err, err_len);
	}
	return 0;
}

void maps_unstage(struct maps *m, const struct policy_plan *plan)
{
	for (size_t i = 0; i < m->n_fresh; i++) {
		const struct prefix *p = &plan->prefixes_set[i].prefix;

		if (m->fresh[i])
			datapath_prefix_del(m->dp, &p->addr, p->len);
	}
	for (size_t i = 0; i < m->n_versions; i++)
		datapath_version_del(m->dp, plan->versions_add[i].version);
	if (m->n_leave)
		datapath_peers_turn_back(m->dp, plan->peers_leave, m->n_leave,
					 m->turned + m->n_join);
	if (m->n_join)
		datapath_peers_turn_back(m->dp, plan->peers_join, m->n_join, m->turned);
	datapath_peers_del(m->dp, plan->peers_add, m->n_peers);
	stage_forget(m);
}

static void keep_first(int *first, int res)
{
	if (!*first)
		*first = res;
}

int maps_endpoint_write(struct datapath *dp, const struct maps_endpoint *ep,
			const struct plan_endpoint *policy)
{
	struct tw_endpoint value = ep->value;

	if (!policy)
		return -ENOENT;
	value.identity = policy->identity;
	value.identity6 = policy->identity6;
	value.version = policy->version;
	return datapath_endpoint_set(dp, ep->slot, &value);
}

static void write_policies(struct maps *m, const struct plan_endpoint *v, size_t n, int *err)
{
	for (size_t i = 0; i < n; i++) {
		keep_first(err, datapath_endpoint_identity6(m->dp, v[i].slot, v[i].identity6));
		keep_first(err,
			   datapath_endpoint_policy(m->dp, v[i].slot, v[i].identity, v[i].version));
	}
}

static void write_prefixes(struct maps *m, const struct plan_prefix *v, size_t n, int *err)
{
	for (size_t i = 0; i < n; i++)
		keep_first(err, datapath_prefix_set(m->dp, &v[i].prefix.addr, v[i].prefix.len,
						    v[i].word));
}

static void write_added(struct maps *m, const struct maps_change *change, int *err)
{
	const struct policy_plan *plan = change->plan;

	for (size_t i = 0; i < change->n_added; i++) {
		const struct plan_endpoint *policy = NULL;

		/* The last entry of a slot is what stays. */
		for (size_t j = plan->n_endpoints; j && !policy; j--)
			if (plan->endpoints[j - 1].slot == change->added[i].slot)
				policy = &plan->endpoints[j - 1];
		keep_first(err, maps_endpoint_write(m->dp, &change->added[i], policy));
	}
}

static const struct plan_prefix *words_find(const struct plan_prefix *words, size_t n,
					    const struct prefix *prefix)
{
	for (size_t i = 0; i < n; i++)
		if (words[i].prefix.len == prefix->len &&
		    !memcmp(&words[i].prefix.addr, &prefix->addr, sizeof(prefix->addr)))
			return &words[i];
	return NULL;
}

/* A prefix that has become the node's is no longer the plan's to delete. */
static void delete_prefixes(struct maps *m, const struct plan_prefix *v, size_t n, int *err)
{
	for (size_t i = 0; i < n; i++)
		if (!words_find(m->words, m->n_words, &v[i].prefix))
			keep_first(err,
				   datapath_prefix_del(m->dp, &v[i].prefix.addr, v[i].prefix.len));
}

int maps_flip(struct maps *m, const struct maps_change *change, struct maps_cost *cost)
{
	const struct policy_plan *plan = change->plan;
	int err = 0;

	write_policies(m, plan->refine_endpoints, plan->n_refine_endpoints, &err);
	write_prefixes(m, plan->refine_prefixes, plan->n_refine_prefixes, &err);
	write_added(m, change, &err);
	write_policies(m, plan->endpoints, plan->n_endpoints, &err);
	write_prefixes(m, plan->prefixes_set, plan->n_prefixes_set, &err);
	delete_prefixes(m, plan->prefixes_del, plan->n_prefixes_del, &err);
	for (size_t i = 0; i < change->n_removed; i++) {
		keep_first(&err, datapath_endpoint_clear(m->dp, change->removed[i]));
		datapath_epoch_bump(m->dp, change->removed[i]);
	}
	for (size_t i = 0; i < plan->n_endpoints; i++)
		if (plan->endpoints[i].bump)
			datapath_epoch_bump(m->dp, plan->endpoints[i].slot);
	if (plan->bump_node)
		datapath_epoch_bump(m->dp, 0);
	keep_first(&err, defer_delete(m->defer, plan));
	*cost = (struct maps_cost){
		.peers = (uint32_t)(plan->n_peers_add + plan->n_peers_join + plan->n_peers_leave +
				    plan->n_peers_del + plan->n_set_peers_del),
		.versions = (uint32_t)(plan->n_versions_add + plan->n_versions_del),
		.endpoints = (uint32_t)(plan->n_refine_endpoints + plan->n_endpoints),
		.prefixes = (uint32_t)(plan->n_refine_prefixes + plan->n_prefixes_set +
				       plan->n_prefixes_del),
	};
	stage_forget(m);
	return err;
}

int maps_node_words(struct maps *m, const struct plan_prefix *words, size_t n)
{
	struct plan_prefix *kept = reallocarray(NULL, n + 1, sizeof(*kept));
	int err = 0;

	if (!kept)
		return -ENOMEM;
	memcpy(kept, words, n * sizeof(*kept));
	for (size_t i = 0; m->reconciled && i < n; i++) {
		const struct plan_prefix *old = words_find(m->words, m->n_words, &words[i].prefix);

		if (!old || old->word != words[i].word)
			keep_first(&err, datapath_prefix_set(m->dp, &words[i].prefix.addr,
							     words[i].prefix.len, words[i].word));
	}
	for (size_t i = 0; m->reconciled && i < m->n_words; i++) {
		const struct prefix *old = &m->words[i].prefix;

		if (!words_find(words, n, old))
			keep_first(&err, datapath_prefix_del(m->dp, &old->addr, old->len));
	}
	free(m->words);
	m->words = kept;
	m->n_words = n;
	return err;
}
