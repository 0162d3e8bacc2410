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

/* ---- the sweep ------------------------------------------------------------------------------ */

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
	s->classes[s->n_classes++] = (struct interval){ .start = start, .set = set };
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

void hash_ports(struct hash *h, const struct view *view)
{
	for (size_t i = 0; i < view->n_ports; i++) {
		if (!view->ports[i].name)
			continue;
		hash_text(h, view->ports[i].name);
		hash_word(h, (uint64_t)view->ports[i].proto << 16 | view->ports[i].port);
	}
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
	if (own_names)
		hash_ports(&h, view);
	return hash_end(&h);
}

/* Classes add to the version's key, so that it can follow when some of them change. */
void class_count(struct hkey *sum, const struct policy *p, enum tw_direction dir,
		 const struct interval *c, bool take)
{
	struct hash h = hash_begin(&p->secret, HASH_CLASS);
	struct hkey key;

	hash_word(&h, (uint64_t)dir << 32 | c->start);
	hash_word(&h, !c->set ? 0 : c->set == &set_any ? 1 : 2);
	if (c->set && c->set != &set_any)
		hash_key(&h, &c->set->key);
	key = hash_end(&h);
	if (take)
		hkey_add(sum, &key);
	else
		hkey_sub(sum, &key);
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

			if (span_resolve(&span, view))
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
	for (uint32_t i = 0; i < v->n_classes[dir]; i++)
		class_count(&v->sum, p, dir, &v->classes[dir][i], true);
	return 0;
}

static struct hkey version_key(const struct policy *p, const struct version *v)
{
	struct hash h = hash_begin(&p->secret, HASH_VERSION);

	for (unsigned int dir = 0; dir < 2; dir++)
		hash_word(&h, v->isolated[dir]);
	hash_key(&h, &v->sum);
	return hash_end(&h);
}

void version_discard(struct version *v)
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

/* Takes v over: it is *out, unless there is such a version already, or freed. */
int version_take(struct policy *p, struct version *v, struct version **out)
{
	struct version *same;
	int err = 0;

	v->key = version_key(p, v);
	same = table_get(&p->versions, &v->key);
	if (!same)
		err = version_adopt(p, v);
	if (err || same)
		version_discard(v);
	if (!err)
		*out = same ? same : v;
	return err;
}

static int version_make(struct policy *p, const struct vec *rules, const struct view *view,
			struct version **out)
{
	struct version *v = calloc(1, sizeof(*v));
	int err = 0;

	if (!v)
		return -ENOMEM;
	for (unsigned int dir = 0; dir < 2 && !err; dir++)
		err = compile_direction(p, rules, view, (enum tw_direction)dir, v);
	if (!err)
		return version_take(p, v, out);
	version_discard(v);
	return err;
}

int memo_put(struct policy *p, struct table *memos, const struct hkey *key, struct version *v)
{
	struct memo *memo = arena_alloc(&p->txn.mem, sizeof(*memo));

	if (!memo)
		return -ENOMEM;
	*memo = (struct memo){ *key, v };
	return table_put(memos, memo);
}

static bool is_isolated(struct ep *ep, const struct vec *rules)
{
	struct isolation *isolation = &ep->isolation[NEXT];

	*isolation = (struct isolation){};
	for (uint32_t i = 0; i < rules->n; i++)
		for (unsigned int dir = 0; dir < 2; dir++)
			isolation->n[dir] += ((const struct rules *)rules->v[i])->enabled[dir];
	return isolation->n[0] || isolation->n[1];
}

/* The version of an endpoint; NULL is version 0, which allows everything. */
static int ep_compile(struct policy *p, struct ep *ep, struct table *memos, struct version **out)
{
	const struct view *view = &ep->subject[NEXT]->view[NEXT];
	struct vec rules = {};
	struct version *v = NULL;
	int err = ep_rules(ep, &rules);

	if (!err && is_isolated(ep, &rules)) {
		qsort(rules.v, rules.n, sizeof(*rules.v), rules_order);
		struct hkey key = ruleset_key(p, &rules, view);
		const struct memo *memo = table_get(memos, &key);

		v = memo ? memo->version : NULL;
		if (!memo)
			err = version_make(p, &rules, view, &v);
		if (!memo && !err)
			err = memo_put(p, memos, &key, v);
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

/* A class takes its set, or gives it back. */
static int class_take(struct policy *p, const struct interval *c, bool take)
{
	struct set *set = c->set;

	if (!set || set == &set_any)
		return 0;
	if (!set->draft && txn_touch(p, sets, set))
		return -ENOMEM;
	set->refs.next += take ? 1u : -1u;
	return 0;
}

static int heir_take(void *arg, struct interval *c, bool is_new)
{
	return class_take(arg, c, is_new);
}

int heir_each(const struct version *from, const struct heir *heir, enum tw_direction dir,
	      class_fn *fn, void *arg)
{
	/* By index: of no classes there is no array. */
	uint32_t i = heir->at[dir], i_end = i + heir->n_from[dir];
	uint32_t j = heir->at[dir], j_end = j + heir->n_to[dir];
	int err = 0;

	while (!err && (i < i_end || j < j_end)) {
		struct interval *old = i < i_end ? &from->classes[dir][i] : NULL;
		struct interval *new = j < j_end ? &heir->to->classes[dir][j] : NULL;

		if (old && new && old->start == new->start && old->set == new->set) {
			i++;
			j++;
		} else if (!new || (old && old->start <= new->start)) {
			i++;
			err = fn(arg, old, false);
		} else {
			j++;
			err = fn(arg, new, true);
		}
	}
	return err;
}

/* Does `to` begin where `from` ends? Then only what differs is counted. */
static bool is_heir(const struct version *from, const struct version *to)
{
	return from && from->heir && from->heir->to == to && from->refs.cur && !from->refs.next &&
	       !to->refs.cur && to->refs.next;
}

/* Sets follow the versions: a new one takes its sets, a dying one gives them back. */
static int sets_count(struct policy *p, const struct version *v)
{
	bool was = v->refs.cur, is = v->refs.next;
	int err = 0;

	if (was == is || is_heir(v->base, v))
		return 0;
	for (unsigned int dir = 0; dir < 2 && !err; dir++) {
		if (v->heir && is_heir(v, v->heir->to)) {
			err = heir_each(v, v->heir, (enum tw_direction)dir, heir_take, p);
			continue;
		}
		for (uint32_t i = 0; i < v->n_classes[dir] && !err; i++)
			err = class_take(p, &v->classes[dir][i], is);
	}
	return err;
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
			err = ep_patch(p, ep, memos, &v);
		if (err == -EAGAIN)
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

/* Edited sets take the places of their drafts, and every set has a number now. */
static void class_number(struct interval *c)
{
	if (c->set && c->set->draft && c->set->draft->real)
		c->set = c->set->draft->real;
	c->id = !c->set ? TW_SET_NONE : c->set == &set_any ? TW_SET_ANY : c->set->id;
}

static int heir_number(void *arg, struct interval *c, bool is_new)
{
	if (is_new)
		class_number(c);
	return 0;
}

static void version_number(struct version *v)
{
	for (unsigned int dir = 0; dir < 2; dir++) {
		if (v->base)
			heir_each(v->base, v->base->heir, (enum tw_direction)dir, heir_number,
				  NULL);
		for (uint32_t i = 0; !v->base && i < v->n_classes[dir]; i++)
			class_number(&v->classes[dir][i]);
	}
}

int versions_compile(struct policy *p)
{
	struct table memos = {};
	int err = eps_compile(p, &memos);

	for (uint32_t i = 0; i < p->txn.versions.n && !err; i++)
		err = sets_count(p, p->txn.versions.v[i]);
	if (!err)
		err = drafts_decide(p);
	for (uint32_t i = 0; i < p->txn.versions.n && !err; i++) {
		struct version *v = p->txn.versions.v[i];

		if (!v->refs.cur)
			version_number(v);
	}
	if (!err)
		drafts_clear(p);
	table_clear(&memos);
	return err;
}
