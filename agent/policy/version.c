/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules of an endpoint → its version: for each direction the (protocol, port) space cut into
 * classes, by a sweep over the ends of all spans, and for each class the set of peers that pass.
 * Sets and versions are shared by content.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define PORTS_END 0x1000000u
#define CLASSES_MAX (1u << 17) /* what TW_CLASS_STEPS can search */
#define UNION_MAX (64u << 20)  /* atoms that all sets of one version may come to */

struct set set_any;

struct end { /* of a span */
	uint32_t at;
	uint32_t span;
	bool begins;
};

struct alias {
	struct hkey key;
	struct set *set;
};

/* One direction of one version being made. */
struct sweep {
	struct policy *p;
	struct span *spans; /* names resolved */
	uint32_t n_spans, cap_spans;
	struct end *ends;
	uint32_t *prev, *next; /* list of active spans; [n_spans] is its head */
	struct hkey sum;       /* of the active groups */
	uint32_t active;
	uint32_t any; /* active spans that everybody passes */
	uint64_t united;
	struct vec scratch;
	struct interval *classes;
	uint32_t n_classes, cap_classes;
};

static void sweep_clear(struct sweep *s)
{
	free(s->spans);
	free(s->ends);
	free(s->prev);
	free(s->next);
	free(s->classes);
	vec_clear(&s->scratch);
}

#define _cleanup_sweep_ __attribute__((cleanup(sweep_clear)))

/* ---- sets ----------------------------------------------------------------------------------- */

static int set_fill(struct set *set, const struct vec *atoms)
{
	set->atoms = malloc(atoms->n * sizeof(struct atom *));
	if (!set->atoms)
		return -ENOMEM;
	for (; set->n_atoms < atoms->n; set->n_atoms++) {
		struct atom *a = atoms->v[set->n_atoms];

		if (vec_push(&a->sets, set))
			return -ENOMEM;
		set->atoms[set->n_atoms] = a;
	}
	return 0;
}

static int set_get(struct policy *p, const struct vec *atoms, const struct hkey *sum,
		   struct set **out)
{
	struct hash h = hash_begin(&p->secret, HASH_SET);
	struct hkey key;
	struct set *set;
	int err;

	hash_key(&h, sum);
	key = hash_end(&h);
	set = table_get(&p->sets, &key);
	if (set) {
		*out = set;
		return 0;
	}
	if (vec_reserve(&p->txn.sets, 1))
		return -ENOMEM;
	set = calloc(1, sizeof(*set));
	if (!set)
		return -ENOMEM;
	set->key = key;
	err = number_take(&p->numbers[POLICY_ID_SET], &key, &set->id);
	if (err) {
		free(set);
		return err;
	}
	err = table_put(&p->sets, set);
	if (err) {
		number_give(&p->numbers[POLICY_ID_SET], &key, set->id);
		free(set);
		return err;
	}
	txn_touch(p, sets, set); /* settling frees it unless a version takes it */
	*out = set;
	return set_fill(set, atoms);
}

/* The union of all active groups. */
static int sweep_union(struct sweep *s, struct set **out)
{
	struct policy *p = s->p;
	struct hkey sum = {};
	int err;

	p->serial++;
	s->scratch.n = 0;
	for (uint32_t i = s->next[s->n_spans]; i != s->n_spans; i = s->next[i]) {
		const struct group *g = s->spans[i].group;

		for (uint32_t j = 0; j < g->n; j++) {
			struct atom *a = g->atoms[j];

			if (a->mark == p->serial)
				continue;
			a->mark = p->serial;
			hkey_add(&sum, &a->key);
			err = vec_push(&s->scratch, a);
			if (err)
				return err;
		}
		s->united += g->n;
	}
	if (s->united > UNION_MAX)
		return -E2BIG;
	return set_get(p, &s->scratch, &sum, out);
}

/* Intervals with the same active groups are common; their union is made once. */
static int sweep_set(struct sweep *s, struct set **out)
{
	struct alias *known;
	struct set *set = NULL;
	int err;

	if (s->any || !s->active) {
		*out = s->any ? &set_any : NULL;
		return 0;
	}
	known = table_get(&s->p->txn.memo, &s->sum);
	if (known) {
		*out = known->set;
		return 0;
	}
	err = sweep_union(s, &set);
	if (err)
		return err;
	known = arena_alloc(&s->p->txn.mem, sizeof(*known));
	if (!known)
		return -ENOMEM;
	known->key = s->sum;
	known->set = set;
	*out = set;
	return table_put(&s->p->txn.memo, known);
}

/* ---- the sweep ------------------------------------------------------------------------------ */

static int sweep_add(struct sweep *s, const struct span *span)
{
	if (s->n_spans == s->cap_spans) {
		uint32_t cap = s->cap_spans ? s->cap_spans * 2 : 16;
		struct span *v = realloc(s->spans, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->spans = v;
		s->cap_spans = cap;
	}
	s->spans[s->n_spans++] = *span;
	return 0;
}

static int end_order(const void *a, const void *b)
{
	const struct end *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

static int sweep_prepare(struct sweep *s)
{
	uint32_t n = s->n_spans;

	s->ends = malloc((2 * (size_t)n + 1) * sizeof(*s->ends));
	s->prev = malloc((n + 1) * sizeof(*s->prev));
	s->next = malloc((n + 1) * sizeof(*s->next));
	if (!s->ends || !s->prev || !s->next)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		s->ends[2 * i] = (struct end){ s->spans[i].first, i, true };
		s->ends[2 * i + 1] = (struct end){ s->spans[i].last + 1, i, false };
	}
	qsort(s->ends, 2 * (size_t)n, sizeof(*s->ends), end_order);
	s->prev[n] = s->next[n] = n;
	return 0;
}

static void sweep_turn(struct sweep *s, const struct end *end)
{
	const struct group *g = s->spans[end->span].group;
	uint32_t i = end->span, head = s->n_spans;

	if (!g) {
		s->any += end->begins ? 1u : -1u;
		return;
	}
	if (end->begins) {
		s->next[i] = s->next[head];
		s->prev[i] = head;
		s->prev[s->next[i]] = i;
		s->next[head] = i;
		hkey_add(&s->sum, &g->key);
		s->active++;
	} else {
		s->next[s->prev[i]] = s->next[i];
		s->prev[s->next[i]] = s->prev[i];
		hkey_sub(&s->sum, &g->key);
		s->active--;
	}
}

static int sweep_class(struct sweep *s, uint32_t start)
{
	struct set *set;
	int err = sweep_set(s, &set);

	if (err || (s->n_classes && s->classes[s->n_classes - 1].set == set))
		return err;
	if (s->n_classes == CLASSES_MAX)
		return -E2BIG;
	if (s->n_classes == s->cap_classes) {
		uint32_t cap = s->cap_classes ? s->cap_classes * 2 : 4;
		struct interval *v = realloc(s->classes, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->classes = v;
		s->cap_classes = cap;
	}
	s->classes[s->n_classes++] = (struct interval){ start, set };
	return 0;
}

static int sweep_run(struct sweep *s)
{
	uint32_t n = 2 * s->n_spans, i = 0;
	int err = sweep_prepare(s);

	if (!err && (!n || s->ends[0].at))
		err = sweep_class(s, 0);
	while (i < n && !err) {
		uint32_t at = s->ends[i].at;

		for (; i < n && s->ends[i].at == at; i++)
			sweep_turn(s, &s->ends[i]);
		if (at < PORTS_END)
			err = sweep_class(s, at);
	}
	return err;
}

/* ---- versions ------------------------------------------------------------------------------- */

/* The rules of all policies that select an endpoint. */
static int ep_rules(const struct ep *ep, struct vec *out)
{
	const struct atoms *selects = &ep->subject[NEXT]->select[NEXT];
	int err = 0;

	for (uint32_t i = 0; i < selects->n; i++) {
		const struct atom *a = selects->v[i];

		for (uint32_t j = 0; j < a->policies.n && !err; j++) {
			const struct pol *pol = a->policies.v[j];

			if (pol->select[NEXT] == a && pol->rules[NEXT])
				err = vec_push(out, pol->rules[NEXT]);
		}
	}
	return err;
}

static int rules_order(const void *a, const void *b)
{
	const struct rules *const *x = a, *const *y = b;

	return (*x)->serial<(*y)->serial ? -1 : (*x)->serial>(*y)->serial;
}

/* What determines a version: endpoints with the same rules are compiled once. */
static struct hkey ruleset_key(const struct policy *p, const struct vec *rules,
			       const struct view *view)
{
	struct hash h = hash_begin(&p->secret, HASH_RULESET);
	bool own_names = false;

	for (uint32_t i = 0; i < rules->n; i++) {
		const struct rules *r = rules->v[i];

		hash_word(&h, r->serial);
		own_names |= r->own_names;
	}
	for (size_t i = 0; own_names && i < view->n_ports; i++) {
		if (!view->ports[i].name)
			continue;
		hash_text(&h, view->ports[i].name);
		hash_word(&h, (uint64_t)view->ports[i].proto << 16 | view->ports[i].port);
	}
	return hash_end(&h);
}

/* One direction of a version: classes, if some policy isolates the endpoint for it. */
static int compile_direction(struct policy *p, const struct vec *rules, const struct view *view,
			     enum tw_direction dir, struct version *v)
{
	_cleanup_sweep_ struct sweep s = { .p = p };
	int err = 0;

	for (uint32_t i = 0; i < rules->n; i++) {
		const struct rules *r = rules->v[i];

		v->isolated[dir] |= r->enabled[dir];
		for (uint32_t j = 0; j < r->n_spans[dir] && !err; j++) {
			struct span span = r->spans[dir][j];

			if (span.name) {
				uint8_t proto = (uint8_t)(span.first >> 16);
				uint16_t port = port_resolve(view, proto, span.name);

				if (!port)
					continue;
				span.first = span.last = (uint32_t)proto << 16 | port;
			}
			err = sweep_add(&s, &span);
		}
	}
	if (err || !v->isolated[dir])
		return err;
	err = sweep_run(&s);
	if (err)
		return err;
	v->classes[dir] = s.classes;
	v->n_classes[dir] = s.n_classes;
	s.classes = NULL;
	return 0;
}

static struct hkey version_key(const struct policy *p, const struct version *v)
{
	struct hash h = hash_begin(&p->secret, HASH_VERSION);

	for (unsigned int dir = 0; dir < 2; dir++) {
		hash_word(&h, v->isolated[dir]);
		for (uint32_t i = 0; i < v->n_classes[dir]; i++) {
			const struct interval *c = &v->classes[dir][i];

			hash_word(&h, c->start);
			hash_word(&h, !c->set ? 0 : c->set == &set_any ? 1 : 2);
			if (c->set && c->set != &set_any)
				hash_key(&h, &c->set->key);
		}
	}
	return hash_end(&h);
}

static void version_discard(struct version *v)
{
	free(v->classes[0]);
	free(v->classes[1]);
	free(v);
}

/* Takes its place among the versions, and references to its sets. */
static int version_adopt(struct policy *p, struct version *v)
{
	int err = vec_reserve(&p->txn.versions, 1);

	if (!err)
		err = number_take(&p->numbers[POLICY_ID_VERSION], &v->key, &v->id);
	if (err)
		return err;
	err = table_put(&p->versions, v);
	if (err) {
		number_give(&p->numbers[POLICY_ID_VERSION], &v->key, v->id);
		return err;
	}
	txn_touch(p, versions, v);
	return 0;
}

static int version_make(struct policy *p, const struct vec *rules, const struct view *view,
			struct version **out)
{
	struct version *v = calloc(1, sizeof(*v)), *same;
	int err = 0;

	if (!v)
		return -ENOMEM;
	for (unsigned int dir = 0; dir < 2 && !err; dir++)
		err = compile_direction(p, rules, view, (enum tw_direction)dir, v);
	v->key = version_key(p, v);
	same = err ? NULL : table_get(&p->versions, &v->key);
	if (!err && !same)
		err = version_adopt(p, v);
	if (err || same)
		version_discard(v);
	if (!err)
		*out = same ? same : v;
	return err;
}

struct memo {
	struct hkey key;
	struct version *version;
};

/* The version of an endpoint; NULL is version 0, which allows everything. */
static int ep_compile(struct policy *p, const struct ep *ep, struct table *memos,
		      struct version **out)
{
	const struct view *view = &ep->subject[NEXT]->view[NEXT];
	struct vec rules = {};
	struct version *v = NULL;
	struct memo *memo = NULL;
	int err = ep_rules(ep, &rules);

	if (!err && rules.n) {
		qsort(rules.v, rules.n, sizeof(*rules.v), rules_order);
		struct hkey key = ruleset_key(p, &rules, view);

		memo = table_get(memos, &key);
		if (memo) {
			v = memo->version;
		} else {
			err = version_make(p, &rules, view, &v);
			memo = err ? NULL : arena_alloc(&p->txn.mem, sizeof(*memo));
			if (memo) {
				*memo = (struct memo){ key, v };
				err = table_put(memos, memo);
			} else if (!err) {
				err = -ENOMEM;
			}
		}
	}
	vec_clear(&rules);
	if (!err)
		*out = v;
	return err;
}

static int version_count(struct policy *p, struct version *v, bool taken)
{
	if (!v)
		return 0;
	if (txn_touch(p, versions, v))
		return -ENOMEM;
	v->refs.next += taken ? 1u : -1u;
	return 0;
}

/* Sets follow the versions: a new one takes its sets, a dying one gives them back. */
static int sets_count(struct policy *p, const struct version *v)
{
	bool was = v->refs.cur, is = v->refs.next;

	for (unsigned int dir = 0; dir < 2 && was != is; dir++) {
		for (uint32_t i = 0; i < v->n_classes[dir]; i++) {
			struct set *set = v->classes[dir][i].set;

			if (!set || set == &set_any)
				continue;
			if (txn_touch(p, sets, set))
				return -ENOMEM;
			set->refs.next += is ? 1u : -1u;
		}
	}
	return 0;
}

static int eps_compile(struct policy *p, struct table *memos)
{
	for (uint32_t i = 0; i < p->txn.eps.n; i++) {
		struct ep *ep = p->txn.eps.v[i];
		struct version *v = NULL;
		int err = 0;

		if (ep->subject[NEXT] && !ep->dirty)
			continue;
		if (ep->subject[NEXT])
			err = ep_compile(p, ep, memos, &v);
		if (!err)
			err = version_count(p, v, true);
		if (!err)
			err = version_count(p, ep->version[CUR], false);
		if (err)
			return err;
		ep->version[NEXT] = v;
		if (ep->subject[CUR] && ep->subject[NEXT] && ep->version[CUR] != v)
			p->txn.flips = true;
	}
	return 0;
}

int versions_compile(struct policy *p)
{
	struct table memos = {};
	int err = eps_compile(p, &memos);

	for (uint32_t i = 0; i < p->txn.versions.n && !err; i++)
		err = sets_count(p, p->txn.versions.v[i]);
	table_clear(&memos);
	return err;
}
