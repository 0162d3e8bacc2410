/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Signatures → identities. For each holder there are three: the one it has (CUR), the one it
 * keeps (NEXT), and the one it has while the plan is carried out (MID), when members of old and
 * new sets must both be right for it: MID stands for one wide signature, that of the atoms of
 * both sides. Numbers are kept wherever that can be, so most changes move no address.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

struct alias {
	struct hkey key;
	struct identity *id;
};

int work_add(struct policy *p, const struct work *w)
{
	struct txn *t = &p->txn;

	if (t->n_works == t->cap_works) {
		uint32_t cap = t->cap_works ? t->cap_works * 2 : 64;
		struct work *v = realloc(t->works, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		t->works = v;
		t->cap_works = cap;
	}
	t->works[t->n_works++] = *w;
	return 0;
}

static bool is_empty(const struct hkey *key)
{
	return !key->a && !key->b;
}

static struct identity *alias_get(const struct table *t, const struct hkey *key)
{
	const struct alias *a = table_get(t, key);

	return a ? a->id : NULL;
}

static int alias_put(struct policy *p, struct table *t, const struct hkey *key, struct identity *id)
{
	struct alias *a = arena_alloc(&p->txn.mem, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->key = *key;
	a->id = id;
	return table_put(t, a);
}

/* The identity that has this signature before and after, because some holder keeps it. */
static struct identity *identity_steady(const struct policy *p, const struct hkey *key)
{
	struct identity *id = table_get(&p->identities, key);

	return id && (!id->touched || id->kept) ? id : NULL;
}

static int identity_new(struct policy *p, const struct work *w, struct identity **out)
{
	struct identity *id;
	int err;

	if (vec_reserve(&p->txn.identities, 1) ||
	    table_reserve(&p->identities, p->identities.n + p->txn.identities.n + 1))
		return -ENOMEM;
	id = calloc(1, sizeof(*id));
	if (!id)
		return -ENOMEM;
	err = number_take(&p->numbers[POLICY_ID_IDENTITY], &w->next, &id->id);
	if (err) {
		free(id);
		return err;
	}
	id->fresh = true;
	id->sample = w->holder;
	id->next_key = w->next;
	txn_touch(p, identities, id);
	*out = id;
	return 0;
}

/*
 * An identity that no holder keeps is free to stand for one wide signature whose old part is
 * its own: to the old sets it means the same as ever.
 */
static struct identity *identity_claim(struct policy *p, const struct work *w)
{
	struct identity *id = table_get(&p->identities, &w->old);

	if (!id || !id->touched || id->kept || id->claimed)
		return NULL;
	id->claimed = true;
	id->next_key = w->next;
	return id;
}

static int assign_mid(struct policy *p, const struct work *w)
{
	struct identity *id = is_empty(&w->wide) ? &p->world : NULL;
	int err;

	if (!id)
		id = alias_get(&p->txn.by_wide, &w->wide);
	if (!id)
		id = identity_steady(p, &w->wide);
	if (!id) {
		id = identity_claim(p, w);
		err = id ? 0 : identity_new(p, w, &id);
		if (!err)
			err = alias_put(p, &p->txn.by_wide, &w->wide, id);
		if (err)
			return err;
	}
	w->holder->id[MID] = id;
	return 0;
}

static int identity_take(struct policy *p, struct identity *id)
{
	if (!id->touched)
		id->kept = true; /* by holders that this change does not come to */
	id->refs.next++;
	return txn_touch(p, identities, id);
}

static int assign_next(struct policy *p, const struct work *w)
{
	struct identity *id = is_empty(&w->next) ? &p->world : NULL;
	int err;

	if (!id)
		id = alias_get(&p->txn.by_next, &w->next);
	if (!id)
		id = identity_steady(p, &w->next);
	if (!id) {
		id = w->holder->id[MID];
		err = alias_put(p, &p->txn.by_next, &w->next, id);
		if (err)
			return err;
	}
	w->holder->id[NEXT] = id;
	return id == &p->world ? 0 : identity_take(p, id);
}

int identities_assign(struct policy *p)
{
	struct txn *t = &p->txn;
	int err = 0;

	for (uint32_t i = 0; i < t->n_works; i++) {
		struct identity *id = t->works[i].holder->id[CUR];

		if (!id || id == &p->world)
			continue;
		if (txn_touch(p, identities, id))
			return -ENOMEM;
		id->refs.next--;
	}
	for (uint32_t i = 0; i < t->identities.n; i++) {
		struct identity *id = t->identities.v[i];

		id->kept = id->refs.next;
	}
	for (uint32_t i = 0; i < t->n_works && !err; i++) {
		const struct work *w = &t->works[i];

		w->holder->id[MID] = w->holder->id[NEXT] = NULL;
		if (w->stays || w->fades)
			err = assign_mid(p, w);
	}
	for (uint32_t i = 0; i < t->n_works && !err; i++)
		if (t->works[i].stays)
			err = assign_next(p, &t->works[i]);
	return err;
}
