/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which identities are in which sets. A pair never changes while both live, so two steps are
 * enough: new identities are put into the sets that were there, new sets get the identities of
 * all holders, those of the meantime (MID) included. A few new identities are asked which sets
 * they are in; for many, the sets are asked which of them they hold.
 */
#include <errno.h>
#include <stddef.h>

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

/* ---- new identities in sets that were there ------------------------------------------------- */

static int join_sets(struct policy *p, struct atom *a, void *arg)
{
	struct identity *id = arg;
	int err = 0;

	for (uint32_t i = 0; i < a->sets.n && !err; i++) {
		struct set *set = a->sets.v[i];

		if (!set->refs.cur || set->mark == p->serial)
			continue;
		set->mark = p->serial;
		err = pair_add(p, set, id);
	}
	return err;
}

/* Blocks on the way up hold, unless one of their holes came first. */
static int join_blocks(struct policy *p, const struct node *n, struct identity *id)
{
	int err = 0;

	for (; n; n = n->parent) {
		for (const struct mark *m = n->marks; m && !err; m = m->next) {
			if (m->hole)
				m->atom->mark = p->serial;
			else if (m->atom->mark != p->serial)
				err = join_sets(p, m->atom, id);
		}
	}
	return err;
}

static int identity_join(struct policy *p, struct identity *id)
{
	struct unit *u = id->sample->world ? NULL : holder_unit(id->sample);
	int err;

	p->serial++;
	err = join_blocks(p, holder_node(id->sample), id);
	if (err || !u)
		return err;
	for (uint32_t i = 0; i < u->subject->peer[NEXT].n && !err; i++)
		err = join_sets(p, u->subject->peer[NEXT].v[i], id);
	return err ? err : port_atoms_each(p, u, join_sets, id);
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

static int subject_join(struct policy *p, struct set *set, struct subject *s)
{
	int err = 0;

	for (uint32_t i = 0; i < s->units.n && !err; i++)
		err = holder_join(p, set, &((struct unit *)s->units.v[i])->holder);
	return err;
}

static int peer_join(struct policy *p, struct set *set, const struct atom *a)
{
	int err = 0;

	for (uint32_t i = 0; i < a->subjects.n && !err; i++) {
		struct subject *s = a->subjects.v[i];

		if (atoms_have(&s->peer[NEXT], a))
			err = subject_join(p, set, s);
	}
	return err;
}

static int port_join(struct policy *p, struct set *set, const struct atom *a)
{
	int err = 0;

	for (uint32_t i = 0; i < a->pname->subjects.n; i++) {
		struct subject *s = a->pname->subjects.v[i];

		for (uint32_t j = 0; j < s->units.n && !err; j++) {
			struct unit *u = s->units.v[j];

			if (atom_port_holds(a, s, NEXT, &u->node->prefix.addr))
				err = holder_join(p, set, &u->holder);
		}
	}
	return err;
}

/* `depth` blocks of the set hold above the node. */
static int node_join(struct policy *p, struct set *set, struct node *n, uint32_t depth)
{
	int err = 0;

	n->visit = p->serial;
	for (const struct mark *m = n->marks; m; m = m->next)
		if (m->atom->mark == p->serial)
			depth += m->hole ? -1u : 1u;
	if (depth) {
		err = holder_join(p, set, &n->world);
		for (struct unit *u = n->units; u && !err; u = u->next)
			err = holder_join(p, set, &u->holder);
	}
	for (unsigned int i = 0; i < 2 && !err; i++)
		if (n->child[i])
			err = node_join(p, set, n->child[i], depth);
	return err;
}

/* All blocks of the set in one walk over what lies below the outermost of them. */
static int blocks_join(struct policy *p, struct set *set)
{
	int err = 0;

	for (uint32_t i = 0; i < set->n_atoms; i++) {
		struct atom *a = set->atoms[i];

		if (a->kind != ATOM_BLOCK)
			continue;
		a->mark = p->serial;
		a->marks[0].node->top = p->serial;
	}
	for (uint32_t i = 0; i < set->n_atoms && !err; i++) {
		struct atom *a = set->atoms[i];
		struct node *top;

		if (a->kind != ATOM_BLOCK || a->marks[0].node->visit == p->serial)
			continue;
		top = a->marks[0].node;
		for (struct node *n = top; n; n = n->parent)
			if (n->top == p->serial)
				top = n;
		err = node_join(p, set, top, 0);
	}
	return err;
}

static int set_join(struct policy *p, struct set *set)
{
	int err;

	p->serial++;
	err = blocks_join(p, set);
	for (uint32_t i = 0; i < set->n_atoms && !err; i++) {
		const struct atom *a = set->atoms[i];

		if (a->kind == ATOM_PEER)
			err = peer_join(p, set, a);
		else if (a->kind == ATOM_PORT)
			err = port_join(p, set, a);
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
	for (uint32_t i = 0; n <= POLICY_FEW && i < ids->n && !err; i++)
		if (((const struct identity *)ids->v[i])->fresh)
			err = identity_join(p, ids->v[i]);
	for (uint32_t i = 0; n > POLICY_FEW && !err && (set = table_next(&p->sets, &i));)
		if (set->refs.cur)
			err = set_join(p, set);
	return err;
}

int members_update(struct policy *p)
{
	int err = identities_join(p);

	for (uint32_t i = 0; i < p->txn.sets.n && !err; i++) {
		struct set *set = p->txn.sets.v[i];

		if (!set->refs.cur && set->refs.next)
			err = set_join(p, set);
	}
	return err;
}
