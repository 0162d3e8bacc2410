/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which identities are in which sets. A pair never changes while both live, unless the set is
 * edited. So there are three steps: new identities are put into the sets that were there, new
 * sets get the identities of all holders, those of the meantime (MID) included, and edited sets
 * are held against the holders of the atoms that they get and lose. A few new identities are asked
 * which sets they are in; for many, the sets are asked which of them they hold.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "policy/internal.h"

static struct unit *holder_unit(struct holder *h)
{
	return (struct unit *)((char *)h - offsetof(struct unit, holder));
}

static struct node *holder_node(struct holder *h)
{
	return h->world ? (struct node *)((char *)h - offsetof(struct node, world))
			: holder_unit(h)->node;
}

static int pair_add(struct policy *p, struct set *set, struct identity *id)
{
	int err = txn_touch(p, sets, set);

	if (!err)
		err = txn_touch(p, identities, id);
	if (!err)
		err = vec_reserve(&set->members.all, 1);
	if (!err)
		err = vec_push(&id->sets.all, set);
	if (!err)
		vec_push(&set->members.all, id);
	return err;
}

/* As pair_add(), for a set that is edited: on which side. */
static int pair_edit(struct policy *p, struct set *set, struct identity *id, enum pair_kind kind)
{
	struct txn *t = &p->txn;
	int err = array_room(&t->pairs, t->n_pairs, &t->cap_pairs, sizeof(*t->pairs));

	if (!err && (kind == PAIR_LEAVE || kind == PAIR_BRIEF || kind == PAIR_END))
		err = ties_reserve(&t->gone, 1);
	if (!err && kind != PAIR_LEAVE && kind != PAIR_END)
		err = pair_add(p, set, id);
	if (err)
		return err;
	t->pairs[t->n_pairs++] = (struct pair){ set, id, kind };
	if (kind == PAIR_LEAVE || kind == PAIR_BRIEF || kind == PAIR_END)
		tie_push(&t->gone, set, id);
	return 0;
}

/* ---- the atoms of a holder ------------------------------------------------------------------ */

typedef int atom_fn(struct policy *p, struct atom *a, void *arg);

/* Blocks on the way up hold, unless one of their holes came first. */
static int blocks_each(struct policy *p, const struct node *n, atom_fn *fn, void *arg)
{
	uint64_t serial = ++p->serial;
	int err = 0;

	for (; n; n = n->parent) {
		for (const struct mark *m = n->marks; m && !err; m = m->next) {
			if (m->hole)
				m->atom->hole = serial;
			else if (m->atom->hole != serial)
				err = fn(p, m->atom, arg);
		}
	}
	return err;
}

/* The atoms of either side that hold for it, as it is on NEXT. */
static int holder_atoms_each(struct policy *p, struct holder *h, atom_fn *fn, void *arg)
{
	struct unit *u = h->world ? NULL : holder_unit(h);
	int err = blocks_each(p, holder_node(h), fn, arg);

	if (err || !u)
		return err;
	for (uint32_t i = 0; i < u->subject->peer[NEXT].n && !err; i++)
		err = fn(p, u->subject->peer[NEXT].v[i], arg);
	return err ? err : port_atoms_each(p, u, fn, arg);
}

/* ---- new identities in sets that were there ------------------------------------------------- */

/* On which sides of an edited set an atom of it is. */
enum { SIDE_CUR = 1, SIDE_NEXT = 2 };

static bool vec_has(const struct vec *vec, const void *item)
{
	for (uint32_t i = 0; i < vec->n; i++)
		if (vec->v[i] == item)
			return true;
	return false;
}

static uint8_t atom_sides(const struct edit *edit, const struct atom *a)
{
	if (vec_has(&edit->plus, a))
		return SIDE_NEXT;
	return vec_has(&edit->minus, a) ? SIDE_CUR : SIDE_CUR | SIDE_NEXT;
}

struct joiner {
	struct identity *id;
	uint64_t serial; /* sets that it has met */
	bool only_edited;
	struct vec edited; /* of them */
};

static int join_sets(struct policy *p, struct atom *a, void *arg)
{
	struct joiner *j = arg;
	int err = 0;

	for (uint32_t i = 0; i < a->sets.n && !err; i++) {
		struct set *set = a->sets.v[i];
		bool met = set->mark == j->serial;

		if (!set->refs.cur || (j->only_edited && !set->edit))
			continue;
		set->mark = j->serial;
		if (set->edit)
			set->edit->sides =
				(uint8_t)((met ? set->edit->sides : 0) | atom_sides(set->edit, a));
		if (!met)
			err = set->edit ? vec_push(&j->edited, set) : pair_add(p, set, j->id);
	}
	return err;
}

static int identity_join(struct policy *p, struct identity *id, bool only_edited)
{
	static const enum pair_kind kinds[] = {
		[SIDE_CUR] = PAIR_BRIEF,
		[SIDE_NEXT] = PAIR_JOIN,
		[SIDE_CUR | SIDE_NEXT] = PAIR_BOTH,
	};
	struct joiner j = { .id = id, .serial = ++p->serial, .only_edited = only_edited };
	int err = holder_atoms_each(p, id->sample, join_sets, &j);

	for (uint32_t i = 0; i < j.edited.n && !err; i++) {
		struct set *set = j.edited.v[i];

		err = pair_edit(p, set, id, kinds[set->edit->sides]);
	}
	vec_clear(&j.edited);
	return err;
}

/* ---- new sets, or new identities in any set -------------------------------------------------- */

/*
 * A set that was there lacks the fresh ones only, and has its say on MID only: what a holder has
 * on NEXT may mean another thing to atoms that go, and is MID of others.
 */
static int holder_join(struct policy *p, struct set *set, struct holder *h)
{
	int err = 0;

	for (enum side side = set->refs.cur ? MID : NEXT; side <= MID && !err; side++) {
		struct identity *id = h->id[side];

		if (!id || id->mark == p->serial || (set->refs.cur && !id->fresh))
			continue;
		id->mark = p->serial;
		err = pair_add(p, set, id);
	}
	return err;
}

typedef int holder_fn(struct policy *p, struct set *set, struct holder *h);

static int subject_join(struct policy *p, struct set *set, struct subject *s, holder_fn *fn)
{
	int err = 0;

	for (uint32_t i = 0; i < s->units.n && !err; i++)
		err = fn(p, set, &((struct unit *)s->units.v[i])->holder);
	return err;
}

static int peer_join(struct policy *p, struct set *set, const struct atom *a, holder_fn *fn)
{
	int err = 0;

	for (uint32_t i = 0; i < a->subjects.n && !err; i++) {
		struct subject *s = a->subjects.v[i];

		if (atoms_have(&s->peer[NEXT], a))
			err = subject_join(p, set, s, fn);
	}
	return err;
}

static int port_join(struct policy *p, struct set *set, const struct atom *a, holder_fn *fn)
{
	int err = 0;

	for (uint32_t i = 0; i < a->pname->subjects.n; i++) {
		struct subject *s = a->pname->subjects.v[i];

		for (uint32_t j = 0; j < s->units.n && !err; j++) {
			struct unit *u = s->units.v[j];

			if (atom_port_holds(a, s, NEXT, &u->node->prefix.addr))
				err = fn(p, set, &u->holder);
		}
	}
	return err;
}

/* A walk over what lies below blocks: those that bear its mark. */
struct below {
	struct policy *p;
	struct set *set;
	holder_fn *fn;
	uint64_t serial;
};

/* `depth` of the blocks hold above the node. */
static int node_join(const struct below *b, struct node *n, uint32_t depth)
{
	int err = 0;

	n->visit = b->serial;
	for (const struct mark *m = n->marks; m; m = m->next)
		if (m->atom->mark == b->serial)
			depth += m->hole ? -1u : 1u;
	if (depth) {
		err = b->fn(b->p, b->set, &n->world);
		for (struct unit *u = n->units; u && !err; u = u->next)
			err = b->fn(b->p, b->set, &u->holder);
	}
	for (unsigned int i = 0; i < 2 && !err; i++)
		if (n->child[i])
			err = node_join(b, n->child[i], depth);
	return err;
}

/* All blocks among the atoms in one walk over what lies below the outermost of them. */
static int blocks_join(struct policy *p, struct set *set, const struct vec *atoms, holder_fn *fn)
{
	const struct below b = { p, set, fn, p->serial };
	int err = 0;

	for (uint32_t i = 0; i < atoms->n; i++) {
		struct atom *a = atoms->v[i];

		if (a->kind != ATOM_BLOCK)
			continue;
		a->mark = b.serial;
		a->marks[0].node->top = b.serial;
	}
	for (uint32_t i = 0; i < atoms->n && !err; i++) {
		struct atom *a = atoms->v[i];
		struct node *top;

		if (a->kind != ATOM_BLOCK || a->marks[0].node->visit == b.serial)
			continue;
		top = a->marks[0].node;
		for (struct node *n = top; n; n = n->parent)
			if (n->top == b.serial)
				top = n;
		err = node_join(&b, top, 0);
	}
	return err;
}

/* fn for the holders of the atoms, some of them more than once. */
static int atoms_join(struct policy *p, struct set *set, const struct vec *atoms, holder_fn *fn)
{
	int err;

	p->serial++;
	err = blocks_join(p, set, atoms, fn);
	for (uint32_t i = 0; i < atoms->n && !err; i++) {
		const struct atom *a = atoms->v[i];

		if (a->kind == ATOM_PEER)
			err = peer_join(p, set, a, fn);
		else if (a->kind == ATOM_PORT)
			err = port_join(p, set, a, fn);
	}
	return err;
}

static int identities_join(struct policy *p)
{
	const struct vec *ids = &p->txn.identities;
	uint32_t n = 0;
	struct set *set;
	int err = 0;

	for (uint32_t i = 0; i < ids->n; i++)
		n += ((const struct identity *)ids->v[i])->fresh;
	for (uint32_t i = 0; (n <= POLICY_FEW || p->txn.edited.n) && i < ids->n && !err; i++)
		if (((const struct identity *)ids->v[i])->fresh)
			err = identity_join(p, ids->v[i], n > POLICY_FEW);
	for (uint32_t i = 0; n > POLICY_FEW && !err && (set = table_next(&p->sets, &i));)
		if (set->refs.cur && !set->edit)
			err = atoms_join(p, set, &set->atoms.all, holder_join);
	return err;
}

/* ---- edited sets ---------------------------------------------------------------------------- */

/* One that was there and has not been looked at for the edit; else NULL. */
static struct identity *holder_old(const struct set *set, const struct holder *h, enum side side)
{
	struct identity *id = h->id[side];

	if (!id || id->mark == set->edit->serial || id->fresh)
		return NULL;
	id->mark = set->edit->serial;
	return id;
}

/* Who comes by a new atom may be in the set already. */
static int holder_enter(struct policy *p, struct set *set, struct holder *h)
{
	int err = 0;

	for (enum side side = NEXT; side <= MID && !err; side++) {
		struct identity *id = holder_old(set, h, side);

		if (id && !set_has_identity(set, id))
			err = pair_edit(p, set, id, PAIR_JOIN);
	}
	return err;
}

static int has_atom(struct policy *p, struct atom *a, void *arg)
{
	const struct set *set = arg;

	return set_has_atom(set, a) && !vec_has(&set->edit->minus, a);
}

/* Who loses an atom of the set may have another one. */
static int holder_leave(struct policy *p, struct set *set, struct holder *h)
{
	bool asked = false;
	int err = 0;

	for (enum side side = NEXT; side <= MID && !err; side++) {
		struct identity *id = holder_old(set, h, side);

		if (!id || !set_has_identity(set, id))
			continue;
		if (!asked && holder_atoms_each(p, h, has_atom, set))
			return 0;
		asked = true;
		err = pair_edit(p, set, id, PAIR_LEAVE);
	}
	return err;
}

static int set_edit(struct policy *p, struct set *set)
{
	int err;

	set->edit->serial = ++p->serial;
	err = atoms_join(p, set, &set->edit->minus, holder_leave);
	set->edit->serial = ++p->serial;
	return err ? err : atoms_join(p, set, &set->edit->plus, holder_enter);
}

/* Sets that go on without an identity that ends. */
static int identity_end(struct policy *p, struct identity *id)
{
	int err = 0;

	for (uint32_t i = 0; !id->refs.next && i < id->sets.all.n && !err; i++) {
		struct set *set = id->sets.all.v[i];

		if (set->refs.next)
			err = pair_edit(p, set, id, PAIR_END);
	}
	return err;
}

static int pair_order(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	return x->identity == y->identity ? 0 : x->identity < y->identity ? -1 : 1;
}

bool pair_holds(const struct policy *p, const struct set *set, const struct identity *id,
		enum side side)
{
	const struct txn *t = &p->txn;
	const struct pair key = { (struct set *)(uintptr_t)set, (struct identity *)(uintptr_t)id,
				  PAIR_END };
	const struct pair *pair =
		t->n_pairs ? bsearch(&key, t->pairs, t->n_pairs, sizeof(key), pair_order) : NULL;

	while (pair && pair > t->pairs && !pair_order(pair - 1, &key))
		pair--;
	for (; pair && pair < t->pairs + t->n_pairs && !pair_order(pair, &key); pair++)
		if (pair->kind != PAIR_END)
			return pair->kind == PAIR_BOTH ||
			       (pair->kind == PAIR_JOIN) == (side == NEXT);
	return true;
}

int members_update(struct policy *p)
{
	int err = identities_join(p);

	for (uint32_t i = 0; i < p->txn.sets.n && !err; i++) {
		struct set *set = p->txn.sets.v[i];

		if (!set->refs.cur && set->refs.next)
			err = atoms_join(p, set, &set->atoms.all, holder_join);
	}
	for (uint32_t i = 0; i < p->txn.edited.n && !err; i++)
		err = set_edit(p, p->txn.edited.v[i]);
	for (uint32_t i = 0; i < p->txn.identities.n && !err; i++)
		err = identity_end(p, p->txn.identities.v[i]);
	if (p->txn.n_pairs)
		qsort(p->txn.pairs, p->txn.n_pairs, sizeof(*p->txn.pairs), pair_order);
	return err;
}
