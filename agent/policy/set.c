/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets: unions of atoms, shared by content. What is derived from a set is a DRAFT until all
 * versions of the change are made: then a large set that no version wants any more as it was
 * is edited, and all others are made of their own. So a policy that changes one peer of
 * 100 000 writes one pair.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

/* Sets of so few atoms are made anew: no harder than to edit them, and one thing less pending. */
#ifndef POLICY_EDIT_MIN
#define POLICY_EDIT_MIN 32u
#endif

struct set set_any;

struct hkey set_key(const struct policy *p, const struct hkey *sum)
{
	struct hash h = hash_begin(&p->secret, HASH_SET);

	hash_key(&h, sum);
	return hash_end(&h);
}

bool set_has_atom(const struct set *set, const struct atom *a)
{
	const struct vec *list = a->sets.n < set->atoms.all.n ? &a->sets : &set->atoms.all;
	const void *other = list == &a->sets ? (const void *)set : (const void *)a;

	for (uint32_t i = 0; i < list->n; i++)
		if (list->v[i] == other)
			return true;
	return false;
}

bool set_has_identity(const struct set *set, const struct identity *id)
{
	bool few = id->sets.all.n < set->members.all.n;
	const struct vec *list = few ? &id->sets.all : &set->members.all;
	const void *other = few ? (const void *)set : (const void *)id;

	for (uint32_t i = 0; i < list->n; i++)
		if (list->v[i] == other)
			return true;
	return false;
}

static bool vec_has(const struct vec *vec, const void *item)
{
	for (uint32_t i = 0; i < vec->n; i++)
		if (vec->v[i] == item)
			return true;
	return false;
}

static int set_add_atom(struct set *set, struct atom *a)
{
	int err = vec_reserve(&set->atoms.all, 1);

	if (!err)
		err = vec_push(&a->sets, set);
	if (!err)
		vec_push(&set->atoms.all, a);
	return err;
}

/* A set with its key in the table, and nothing else. */
static struct set *set_new(struct policy *p, const struct hkey *key, const struct hkey *sum)
{
	struct set *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->key = *key;
	set->sum = *sum;
	if (table_put(&p->sets, set)) {
		free(set);
		return NULL;
	}
	return set;
}

/* It gets a number; from here on settling frees it unless a version takes it. */
static int set_establish(struct policy *p, struct set *set)
{
	int err = vec_reserve(&p->txn.sets, 1);

	if (!err)
		err = number_take(&p->numbers[POLICY_ID_SET], &set->key, &set->id);
	if (!err)
		txn_touch(p, sets, set);
	return err;
}

int set_get(struct policy *p, const struct vec *atoms, const struct hkey *sum, struct set **out)
{
	struct hkey key = set_key(p, sum);
	struct set *set = table_get(&p->sets, &key);
	int err;

	if (set) {
		*out = set;
		return 0;
	}
	set = set_new(p, &key, sum);
	if (!set)
		return -ENOMEM;
	err = set_establish(p, set);
	if (err) {
		table_del(&p->sets, set);
		free(set);
		return err;
	}
	for (uint32_t i = 0; i < atoms->n && !err; i++)
		err = set_add_atom(set, atoms->v[i]);
	*out = set;
	return err;
}

/* ---- drafts --------------------------------------------------------------------------------- */

static void draft_clear(struct set *set)
{
	vec_clear(&set->draft->plus);
	vec_clear(&set->draft->minus);
	free(set->draft);
	set->draft = NULL;
}

void drafts_clear(struct policy *p)
{
	for (uint32_t i = 0; i < p->txn.drafts.n; i++) {
		struct set *set = p->txn.drafts.v[i];

		draft_clear(set);
		if (set->id)
			continue;
		table_del(&p->sets, set);
		free(set);
	}
	p->txn.drafts.n = 0;
}

int set_derive(struct policy *p, struct set *origin, struct vec *plus, struct vec *minus,
	       struct set **out)
{
	struct hkey sum = origin ? origin->sum : (struct hkey){}, key;
	struct set *set;

	for (uint32_t i = 0; i < plus->n; i++)
		hkey_add(&sum, &((const struct atom *)plus->v[i])->key);
	for (uint32_t i = 0; i < minus->n; i++)
		hkey_sub(&sum, &((const struct atom *)minus->v[i])->key);
	key = set_key(p, &sum);
	set = table_get(&p->sets, &key);
	if (!set) {
		if (vec_reserve(&p->txn.drafts, 1))
			return -ENOMEM;
		set = set_new(p, &key, &sum);
		if (!set)
			return -ENOMEM;
		set->draft = calloc(1, sizeof(*set->draft));
		if (!set->draft) {
			table_del(&p->sets, set);
			free(set);
			return -ENOMEM;
		}
		vec_push(&p->txn.drafts, set);
		*set->draft = (struct draft){ .origin = origin, .plus = *plus, .minus = *minus };
		*plus = *minus = (struct vec){};
	}
	*out = set;
	return 0;
}

/* The set that the draft was made from takes its place. */
static int draft_edit(struct policy *p, struct set *set)
{
	struct draft *d = set->draft;
	struct set *origin = d->origin;
	struct edit *edit;

	if (vec_reserve(&p->txn.edited, 1) || txn_touch(p, sets, origin) ||
	    ties_reserve(&p->txn.plus, d->plus.n) || ties_reserve(&p->txn.minus, d->minus.n))
		return -ENOMEM;
	edit = calloc(1, sizeof(*edit));
	if (!edit)
		return -ENOMEM;
	edit->key = set->key;
	edit->sum = set->sum;
	edit->plus = d->plus;
	edit->minus = d->minus;
	d->plus = d->minus = (struct vec){};
	origin->edit = edit;
	origin->refs.next = set->refs.next;
	vec_push(&p->txn.edited, origin);
	d->real = origin;
	for (uint32_t i = 0; i < edit->minus.n; i++)
		tie_push(&p->txn.minus, origin, edit->minus.v[i]);
	for (uint32_t i = 0; i < edit->plus.n; i++) {
		int err = set_add_atom(origin, edit->plus.v[i]);

		if (err)
			return err;
		tie_push(&p->txn.plus, origin, edit->plus.v[i]);
	}
	return 0;
}

static int draft_establish(struct policy *p, struct set *set)
{
	const struct draft *d = set->draft;
	const struct roll *old = d->origin ? &d->origin->atoms : NULL;
	int err = set_establish(p, set);

	p->txn.united += (old ? old->cur : 0) + d->plus.n;
	if (!err && p->txn.united > UNION_MAX)
		err = -E2BIG;
	/* What another draft's edit has added is behind `cur`. */
	for (uint32_t i = 0; old && i < old->cur && !err; i++)
		if (!vec_has(&d->minus, old->all.v[i]))
			err = set_add_atom(set, old->all.v[i]);
	for (uint32_t i = 0; i < d->plus.n && !err; i++)
		err = set_add_atom(set, d->plus.v[i]);
	return err;
}

static bool may_edit(const struct set *origin)
{
	return origin && origin->refs.cur && !origin->refs.next && !origin->edit &&
	       origin->atoms.all.n >= POLICY_EDIT_MIN;
}

int drafts_decide(struct policy *p)
{
	struct vec *drafts = &p->txn.drafts;
	int err = 0;

	for (uint32_t i = 0; i < drafts->n && !err; i++) {
		struct set *set = drafts->v[i];

		if (!set->refs.next)
			continue;
		if (may_edit(set->draft->origin))
			err = draft_edit(p, set);
		else
			err = draft_establish(p, set);
	}
	return err;
}
