/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Both sides → what the maps must be told. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

void policy_plan_clear(struct policy_plan *plan)
{
	for (size_t i = 0; i < plan->n_versions_add; i++) {
		free(plan->versions_add[i].classes[0]);
		free(plan->versions_add[i].classes[1]);
	}
	free(plan->peers_add);
	free(plan->peers_join);
	free(plan->peers_leave);
	free(plan->versions_add);
	free(plan->refine_endpoints);
	free(plan->refine_prefixes);
	free(plan->endpoints);
	free(plan->prefixes_set);
	free(plan->prefixes_del);
	free(plan->versions_del);
	free(plan->peers_del);
	free(plan->set_peers_del);
	*plan = (struct policy_plan){};
}

/* Room for one more element of an array whose capacity is the power of two above its length. */
static void *array_grow(void *array, size_t n, size_t size)
{
	void **v = array;
	char *grown;

	if (!(n & (n - 1))) { /* 0, or a power of two: full */
		grown = realloc(*v, (n ? 2 * n : 1) * size);
		if (!grown)
			return NULL;
		*v = grown;
	}
	return (char *)*v + n * size;
}

#define plan_add(plan, name, ...)                                                                  \
	({                                                                                         \
		typeof((plan)->name) at_ =                                                         \
			array_grow(&(plan)->name, (plan)->n_##name, sizeof(*(plan)->name));        \
		if (at_) {                                                                         \
			*at_ = (typeof(*at_))__VA_ARGS__;                                          \
			(plan)->n_##name++;                                                        \
		}                                                                                  \
		at_ ? 0 : -ENOMEM;                                                                 \
	})

/* ---- peers ---------------------------------------------------------------------------------- */

static int peer_add(struct policy_plan *plan, const struct set *set, const struct identity *id)
{
	return plan_add(plan, peers_add, { set->id, id->id });
}

/* New pairs are behind `cur`, but for edited sets; those of what dies go, be they new or old. */
static int plan_set(struct policy_plan *plan, const struct set *set)
{
	const struct vec *all = &set->members.all;
	int err = 0;

	for (uint32_t i = set->members.cur; !set->edit && i < all->n && !err; i++)
		err = peer_add(plan, set, all->v[i]);
	for (uint32_t i = 0; !set->refs.next && i < all->n && !err; i++) {
		const struct identity *id = all->v[i];

		err = plan_add(plan, set_peers_del, { set->id, id->id });
	}
	return err;
}

static int plan_pair(struct policy_plan *plan, const struct pair *pair)
{
	uint32_t set = pair->set->id, id = pair->identity->id;

	switch (pair->kind) {
	case PAIR_BOTH:
		return plan_add(plan, peers_add, { set, id });
	case PAIR_JOIN:
		return plan_add(plan, peers_join, { set, id });
	case PAIR_LEAVE:
	case PAIR_BRIEF:
		return plan_add(plan, peers_leave, { set, id });
	case PAIR_END:
		return plan_add(plan, peers_del, { set, id });
	}
	return 0;
}

static int plan_peers(const struct policy *p, struct policy_plan *plan)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.sets.n && !err; i++)
		err = plan_set(plan, p->txn.sets.v[i]);
	for (uint32_t i = 0; i < p->txn.n_pairs && !err; i++)
		err = plan_pair(plan, &p->txn.pairs[i]);
	return err;
}

/* ---- versions ------------------------------------------------------------------------------- */

static int plan_version(struct policy_plan *plan, const struct version *v)
{
	struct plan_version *out;
	int err = plan_add(plan, versions_add, { .version = v->id });

	if (err)
		return err;
	out = &plan->versions_add[plan->n_versions_add - 1];
	for (unsigned int dir = 0; dir < 2; dir++) {
		out->isolated[dir] = v->isolated[dir];
		out->classes[dir] =
			reallocarray(NULL, v->n_classes[dir] + 1, sizeof(struct tw_class));
		if (!out->classes[dir])
			return -ENOMEM;
		for (uint32_t i = 0; i < v->n_classes[dir]; i++)
			out->classes[dir][i] = (struct tw_class){
				.start = v->classes[dir][i].start,
				.set = v->classes[dir][i].id,
			};
		out->n_classes[dir] = v->n_classes[dir];
	}
	return 0;
}

static int plan_versions(const struct policy *p, struct policy_plan *plan)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.versions.n && !err; i++) {
		const struct version *v = p->txn.versions.v[i];

		if (!v->refs.cur && v->refs.next)
			err = plan_version(plan, v);
		else if (v->refs.cur && !v->refs.next)
			err = plan_add(plan, versions_del, v->id);
	}
	return err;
}

/* ---- endpoints ------------------------------------------------------------------------------ */

/* An address that the endpoint does not have is of the identity of the one that it has. */
static struct plan_endpoint ep_entry(const struct ep *ep, enum side ids, enum side version)
{
	const struct subject *s = ep->subject[ids == CUR ? CUR : NEXT];
	const struct identity *id[2] = {};

	for (uint32_t i = 0; i < s->units.n; i++) {
		const struct unit *u = s->units.v[i];

		if (u->holder.id[ids])
			id[!addr_is4(&u->node->prefix.addr)] = u->holder.id[ids];
	}
	for (unsigned int i = 0; i < 2; i++)
		if (!id[i])
			id[i] = id[!i];
	return (struct plan_endpoint){
		.slot = ep->slot,
		.identity = id[0] ? id[0]->id : TW_ID_UNKNOWN,
		.identity6 = id[1] ? id[1]->id : TW_ID_UNKNOWN,
		.version = ep->version[version] ? ep->version[version]->id : 0,
	};
}

static bool same_identities(const struct plan_endpoint *a, const struct plan_endpoint *b)
{
	return a->identity == b->identity && a->identity6 == b->identity6;
}

static int plan_ep_refine(const struct policy *p, struct policy_plan *plan, const struct ep *ep)
{
	struct plan_endpoint was, mid;

	if (!p->txn.flips || !ep->subject[CUR] || !ep->subject[NEXT])
		return 0;
	was = ep_entry(ep, CUR, CUR);
	mid = ep_entry(ep, MID, CUR);
	return same_identities(&was, &mid) ? 0 : plan_add(plan, refine_endpoints, mid);
}

/*
 * Any other version may make another decision on a live flow: also a wider one, because flows
 * that were revoked are live until they expire, and must then be allowed again.
 */
static int plan_ep_flip(const struct policy *p, struct policy_plan *plan, const struct ep *ep)
{
	struct plan_endpoint entry;

	if (!p->txn.flips || !ep->subject[NEXT] ||
	    (ep->subject[CUR] && ep->version[CUR] == ep->version[NEXT]))
		return 0;
	entry = ep_entry(ep, MID, NEXT);
	entry.bump = ep->subject[CUR];
	return plan_add(plan, endpoints, entry);
}

static int plan_ep_final(const struct policy *p, struct policy_plan *plan, const struct ep *ep)
{
	struct plan_endpoint was = {}, is;
	enum side last = p->txn.flips ? MID : CUR; /* what the arrays before have left */

	if (!ep->subject[NEXT])
		return 0;
	is = ep_entry(ep, NEXT, NEXT);
	is.bump = ep->turned;
	if (ep->subject[CUR] || p->txn.flips) {
		was = ep_entry(ep, last, NEXT);
		if (same_identities(&was, &is) && !is.bump)
			return 0;
	}
	return plan_add(plan, endpoints, is);
}

static int plan_eps(const struct policy *p, struct policy_plan *plan)
{
	static int (*const steps[])(const struct policy *, struct policy_plan *,
				    const struct ep *) = { plan_ep_refine, plan_ep_flip,
							   plan_ep_final };
	int err = 0;

	for (size_t step = 0; step < 3; step++)
		for (uint32_t i = 0; i < p->txn.eps.n && !err; i++)
			err = steps[step](p, plan, p->txn.eps.v[i]);
	return err;
}

/* ---- prefixes ------------------------------------------------------------------------------- */

/* NEXT or MID; 0: no word. */
uint32_t node_word(const struct node *n, enum side side)
{
	const struct subject *s = n->winner ? n->winner->subject : NULL;
	const struct identity *id;

	if (s && s->ep)
		return TW_WORD_ENDPOINT | s->ep->slot;
	id = n->winner ? n->winner->holder.id[side] : n->world.id[side];
	return id ? TW_WORD_IDENTITY | id->id : 0;
}

/* The address of an endpoint that is new may be told to packets when its record is complete. */
static bool node_is_new_ep(const struct node *n)
{
	return n->winner && n->winner->subject->ep && !n->winner->subject->ep->subject[CUR];
}

static int plan_node(const struct policy *p, struct policy_plan *plan, const struct node *n)
{
	uint32_t mid = node_word(n, MID), next = node_word(n, NEXT), last = n->word;
	int err = 0;

	if (p->txn.flips && mid && mid != last && !node_is_new_ep(n)) {
		err = plan_add(plan, refine_prefixes, { .prefix = n->prefix, .word = mid });
		if (err)
			return err;
		last = mid;
	}
	if (next && (next != last || !n->word))
		return plan_add(plan, prefixes_set, { .prefix = n->prefix, .word = next });
	if (!next && n->word)
		return plan_add(plan, prefixes_del, { .prefix = n->prefix, .word = n->word });
	return 0;
}

/* ---- plans ---------------------------------------------------------------------------------- */

int plan_build(struct policy *p, struct policy_plan *plan)
{
	int err = plan_peers(p, plan);

	if (!err)
		err = plan_versions(p, plan);
	if (!err)
		err = plan_eps(p, plan);
	for (uint32_t i = 0; i < p->txn.nodes.n && !err; i++)
		err = plan_node(p, plan, p->txn.nodes.v[i]);
	plan->bump_node = p->txn.bump_node;
	return err;
}

static int full_nodes(struct policy_plan *plan, const struct node *n)
{
	int err = 0;

	if (n && n->word)
		err = plan_add(plan, prefixes_set, { .prefix = n->prefix, .word = n->word });
	for (unsigned int i = 0; n && i < 2 && !err; i++)
		err = full_nodes(plan, n->child[i]);
	return err;
}

static int full_plan(const struct policy *p, struct policy_plan *plan)
{
	const struct version *v;
	const struct set *set;
	int err = 0;

	for (uint32_t i = 0; !err && (set = table_next(&p->sets, &i));)
		for (uint32_t j = 0; j < set->members.cur && !err; j++)
			err = peer_add(plan, set, set->members.all.v[j]);
	for (uint32_t i = 0; !err && (v = table_next(&p->versions, &i));)
		if (v->refs.cur)
			err = plan_version(plan, v);
	for (uint32_t i = 0; i < p->n_eps && !err; i++) {
		const struct ep *ep = p->eps[i];
		struct plan_endpoint entry;

		if (!ep || !ep->subject[CUR])
			continue;
		entry = ep_entry(ep, CUR, CUR);
		entry.bump = true;
		err = plan_add(plan, endpoints, entry);
	}
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = full_nodes(plan, p->root[i]);
	plan->bump_node = true;
	return err;
}

int policy_full_plan(const struct policy *p, struct policy_plan *plan)
{
	struct policy_plan res = {};
	int err = full_plan(p, &res);

	if (err)
		policy_plan_clear(&res);
	else
		*plan = res;
	return err;
}
