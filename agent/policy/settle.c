/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The end of a change: one side stays, what is of the other side only goes. A commit keeps
 * NEXT, an abort CUR; apart from that they are one. Nothing here allocates or fails.
 *
 * Three passes: values and counts become those of the side that stays; relations lose what is
 * gone; then what nothing refers to is freed, users before what they use.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

struct settle {
	struct policy *p;
	enum side keep, drop;
	struct atom *stale_atoms;
	struct identity *stale_identities;
};

static bool alive(const struct count *refs, enum side side)
{
	return side == CUR ? refs->cur : refs->next;
}

static void settle_count(const struct settle *s, struct count *refs)
{
	refs->cur = refs->next = s->keep == NEXT ? refs->next : refs->cur;
}

#define settle_value(s, v) ((v)[(s)->drop] = (v)[(s)->keep])

static void stale_atom(struct settle *s, struct atom *a)
{
	if (a->stale)
		return;
	a->stale = true;
	a->next_stale = s->stale_atoms;
	s->stale_atoms = a;
}

/* ---- values --------------------------------------------------------------------------------- */

/* The list that stays loses the atoms that die with the change. */
static void settle_list(struct settle *s, struct atoms *list)
{
	struct atoms *keep = &list[s->keep], *drop = &list[s->drop];
	uint32_t n = 0;

	for (uint32_t i = 0; keep->v != drop->v && i < drop->n; i++)
		if (!atoms_have(keep, drop->v[i]))
			stale_atom(s, drop->v[i]);
	for (uint32_t i = 0; i < keep->n; i++)
		if (alive(&keep->v[i]->refs, s->keep))
			keep->v[n++] = keep->v[i];
	keep->n = n;
	if (keep->v != drop->v)
		free(drop->v);
	if (!n) {
		free(keep->v);
		keep->v = NULL;
	}
	*drop = *keep;
}

static void settle_holder(const struct settle *s, struct holder *h)
{
	h->id[CUR] = h->id[NEXT] = h->id[MID] = h->id[s->keep];
}

static void settle_node(struct settle *s, struct node *n)
{
	if (s->keep == NEXT)
		n->word = node_word(n, NEXT);
	settle_value(s, n->sig);
	settle_holder(s, &n->world);
	for (struct unit *u = n->units; u; u = u->next)
		settle_holder(s, &u->holder);
	n->dirty = n->fading = false;
}

static void settle_subject(struct settle *s, struct subject *sub)
{
	settle_list(s, sub->select);
	settle_list(s, sub->peer);
	settle_value(s, sub->view);
	for (uint32_t i = 0; i < sub->units.n; i++)
		settle_value(s, ((struct unit *)sub->units.v[i])->present);
	sub->touched = sub->moved = sub->placed = false;
}

static void settle_ep(struct settle *s, struct ep *ep)
{
	settle_value(s, ep->subject);
	settle_value(s, ep->version);
	settle_value(s, ep->isolation);
	if (ep->own[CUR] != ep->own[NEXT])
		ep_own_free(ep->own[s->drop]);
	settle_value(s, ep->own);
	ep->touched = ep->dirty = ep->turned = false;
}

static void settle_pol(struct settle *s, struct pol *pol)
{
	if (pol->select[CUR] != pol->select[NEXT] && pol->select[s->drop])
		stale_atom(s, pol->select[s->drop]);
	if (pol->rules[CUR] != pol->rules[NEXT])
		rules_free(s->p, pol->rules[s->drop]);
	settle_value(s, pol->select);
	settle_value(s, pol->rules);
	settle_value(s, pol->obj);
	pol->touched = pol->stale = false;
}

static void settle_pname(struct settle *s, struct pname *n)
{
	uint32_t kept = 0;

	settle_count(s, &n->refs);
	for (uint32_t i = 0; i < n->n_numbers; i++) {
		settle_count(s, &n->numbers[i].subjects);
		if (n->numbers[i].subjects.cur)
			n->numbers[kept++] = n->numbers[i];
	}
	n->n_numbers = kept;
	n->touched = false;
}

static void settle_values(struct settle *s)
{
	struct txn *t = &s->p->txn;

	for (uint32_t i = 0; i < t->subjects.n; i++)
		settle_subject(s, t->subjects.v[i]);
	for (uint32_t i = 0; i < t->nodes.n; i++)
		settle_node(s, t->nodes.v[i]);
	for (uint32_t i = 0; i < t->eps.n; i++)
		settle_ep(s, t->eps.v[i]);
	for (uint32_t i = 0; i < t->pols.n; i++)
		settle_pol(s, t->pols.v[i]);
	for (uint32_t i = 0; i < t->pnames.n; i++)
		settle_pname(s, t->pnames.v[i]);
	for (uint32_t i = 0; i < t->pods.n; i++) {
		struct pod_entry *pod = t->pods.v[i];

		settle_value(s, pod->obj);
		pod->touched = false;
	}
	for (uint32_t i = 0; i < t->spaces.n; i++) {
		struct space *space = t->spaces.v[i];

		settle_value(s, space->obj);
		space->touched = false;
	}
	for (uint32_t i = 0; i < t->atoms.n; i++) {
		struct atom *a = t->atoms.v[i];

		settle_count(s, &a->refs);
		a->touched = false;
	}
	for (uint32_t i = 0; i < t->versions.n; i++) {
		struct version *v = t->versions.v[i];

		settle_count(s, &v->refs);
		v->heir = NULL;
		v->base = NULL;
		v->touched = false;
	}
}

/* ---- relations ------------------------------------------------------------------------------ */

static void roll_settle(const struct settle *s, struct roll *roll)
{
	if (s->keep == CUR)
		roll->all.n = roll->cur;
	roll->cur = roll->all.n;
}

static void settle_set(struct settle *s, struct set *set)
{
	settle_count(s, &set->refs);
	for (uint32_t i = 0; !set->refs.cur && i < set->atoms.all.n; i++)
		stale_atom(s, set->atoms.all.v[i]);
	roll_settle(s, &set->atoms);
	roll_settle(s, &set->members);
	set->touched = false;
	for (uint32_t i = 0; !set->refs.cur && i < set->members.all.n; i++) {
		struct identity *id = set->members.all.v[i];

		if (!id->stale) {
			id->stale = true;
			id->next_stale = s->stale_identities;
			s->stale_identities = id;
		}
	}
}

static void settle_identity(struct settle *s, struct identity *id)
{
	settle_count(s, &id->refs);
	roll_settle(s, &id->sets);
	id->touched = id->kept = id->claimed = false;
}

/* Keeps the items that `keep` says yes to, in order. */
static void vec_filter(struct vec *vec, bool (*keep)(const void *item, const void *arg),
		       const void *arg)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < vec->n; i++)
		if (keep(vec->v[i], arg))
			vec->v[n++] = vec->v[i];
	vec->n = n;
}

static bool keep_subject(const void *item, const void *arg)
{
	const struct subject *s = item;
	const struct atom *a = arg;

	return atoms_have(a->kind == ATOM_SELECT ? &s->select[CUR] : &s->peer[CUR], a);
}

static bool keep_policy(const void *item, const void *arg)
{
	const struct pol *pol = item;

	return pol->select[CUR] == arg;
}

static bool keep_set(const void *item, const void *arg)
{
	return ((const struct set *)item)->refs.cur;
}

static bool keep_bearer(const void *item, const void *arg)
{
	const struct subject *s = item;
	const struct pname *n = arg;

	return s->view[CUR].present && port_resolve(&s->view[CUR], n->proto, n->name);
}

static bool keep_user(const void *item, const void *arg)
{
	const struct pol *pol = item;
	const struct rules *r = pol->rules[CUR];

	for (uint32_t i = 0; r && i < r->pnames.n; i++)
		if (r->pnames.v[i] == arg)
			return true;
	return false;
}

static int pointer_order(const void *a, const void *b)
{
	const void *const *x = a, *const *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* A policy is put down anew each time it is compiled. */
static void vec_unique(struct vec *vec)
{
	uint32_t n = 0;

	if (vec->n)
		qsort(vec->v, vec->n, sizeof(*vec->v), pointer_order);
	for (uint32_t i = 0; i < vec->n; i++)
		if (!n || vec->v[n - 1] != vec->v[i])
			vec->v[n++] = vec->v[i];
	vec->n = n;
}

/* ---- pairs that come apart while both go on --------------------------------------------------- */

static int tie_order(const void *a, const void *b)
{
	const struct tie *x = a, *y = b;

	if (x->of != y->of)
		return x->of < y->of ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

static bool ties_have(const struct tie *ties, uint32_t n, const void *item)
{
	uint32_t low = 0;

	while (n > 1) {
		uint32_t step = n >> 1;

		if (ties[low + step].item <= item)
			low += step;
		n -= step;
	}
	return ties[low].item == item;
}

/* Not the items themselves are looked at: of a large set they are far apart in memory. */
static void vec_cut(struct vec *vec, const struct tie *ties, uint32_t n)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < vec->n; i++)
		if (!ties_have(ties, n, vec->v[i]))
			vec->v[kept++] = vec->v[i];
	vec->n = kept;
}

static void roll_cut(struct roll *roll, const struct tie *ties, uint32_t n)
{
	vec_cut(&roll->all, ties, n);
	roll->cur = roll->all.n;
}

static void cut_atoms(const struct tie *ties, uint32_t n)
{
	roll_cut(&((struct set *)ties->of)->atoms, ties, n);
}

static void cut_members(const struct tie *ties, uint32_t n)
{
	roll_cut(&((struct set *)ties->of)->members, ties, n);
}

static void cut_sets(const struct tie *ties, uint32_t n)
{
	vec_cut(&((struct atom *)ties->of)->sets, ties, n);
}

static void cut_identity(const struct tie *ties, uint32_t n)
{
	roll_cut(&((struct identity *)ties->of)->sets, ties, n);
}

static void ties_cut(struct ties *t, void (*cut)(const struct tie *ties, uint32_t n))
{
	if (t->n)
		qsort(t->v, t->n, sizeof(*t->v), tie_order);
	for (uint32_t i = 0, n; i < t->n; i += n) {
		for (n = 1; i + n < t->n && t->v[i + n].of == t->v[i].of; n++)
			;
		cut(&t->v[i], n);
	}
}

static void ties_turn(struct ties *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		t->v[i] = (struct tie){ t->v[i].item, t->v[i].of };
}

static void settle_ties(struct settle *s)
{
	struct txn *t = &s->p->txn;

	if (s->keep == CUR) { /* the sets' own lists have been cut short */
		ties_turn(&t->plus);
		ties_cut(&t->plus, cut_sets);
		return;
	}
	ties_cut(&t->minus, cut_atoms);
	ties_turn(&t->minus);
	ties_cut(&t->minus, cut_sets);
	ties_cut(&t->gone, cut_members);
	ties_turn(&t->gone);
	ties_cut(&t->gone, cut_identity);
}

static void settle_relations(struct settle *s)
{
	struct txn *t = &s->p->txn;

	for (uint32_t i = 0; i < t->sets.n; i++)
		settle_set(s, t->sets.v[i]);
	for (uint32_t i = 0; i < t->identities.n; i++)
		settle_identity(s, t->identities.v[i]);
	settle_ties(s);
	for (struct atom *a = s->stale_atoms; a; a = a->next_stale) {
		a->stale = false;
		vec_filter(&a->subjects, keep_subject, a);
		vec_filter(&a->policies, keep_policy, a);
		vec_filter(&a->sets, keep_set, NULL);
	}
	for (struct identity *id = s->stale_identities; id; id = id->next_stale) {
		id->stale = false;
		vec_filter(&id->sets.all, keep_set, NULL);
		id->sets.cur = id->sets.all.n;
	}
	for (uint32_t i = 0; i < t->pnames.n; i++) {
		struct pname *n = t->pnames.v[i];

		vec_filter(&n->subjects, keep_bearer, n);
		vec_filter(&n->policies, keep_user, n);
		vec_unique(&n->policies);
	}
}

/* ---- what goes ------------------------------------------------------------------------------ */

static void drop_versions(struct policy *p)
{
	for (uint32_t i = 0; i < p->txn.versions.n; i++) {
		struct version *v = p->txn.versions.v[i];

		if (v->refs.cur)
			continue;
		table_del(&p->versions, v);
		number_give(&p->numbers[POLICY_ID_VERSION], &v->key, v->id);
		free(v->classes[0]);
		free(v->classes[1]);
		free(v);
	}
}

static void drop_sets(struct policy *p)
{
	for (uint32_t i = 0; i < p->txn.sets.n; i++) {
		struct set *set = p->txn.sets.v[i];

		if (set->refs.cur)
			continue;
		table_del(&p->sets, set);
		number_give(&p->numbers[POLICY_ID_SET], &set->key, set->id);
		vec_clear(&set->members.all);
		vec_clear(&set->atoms.all);
		free(set);
	}
}

/* Edited sets bear other keys now. */
static void settle_edits(struct settle *s)
{
	const struct vec *edited = &s->p->txn.edited;

	for (uint32_t i = 0; i < edited->n; i++)
		if (s->keep == NEXT)
			table_del(&s->p->sets, edited->v[i]);
	for (uint32_t i = 0; i < edited->n; i++) {
		struct set *set = edited->v[i];
		struct edit *edit = set->edit;

		if (s->keep == NEXT) {
			set->key = edit->key;
			set->sum = edit->sum;
			table_put(&s->p->sets, set); /* in the place that it has left */
		}
		vec_clear(&edit->plus);
		vec_clear(&edit->minus);
		free(edit);
		set->edit = NULL;
	}
}

/* Those that stay may bear another signature now. */
static void drop_identities(struct settle *s)
{
	struct policy *p = s->p;
	struct vec *all = &p->txn.identities;

	for (uint32_t i = 0; i < all->n; i++) {
		struct identity *id = all->v[i];

		if (!id->fresh)
			table_del(&p->identities, id);
	}
	for (uint32_t i = 0; i < all->n; i++) {
		struct identity *id = all->v[i];

		if (id->refs.cur) {
			if (s->keep == NEXT)
				id->key = id->next_key;
			id->next_key = id->key;
			id->fresh = false;
			id->sample = NULL;
			table_put(&p->identities, id); /* there is room, see identity_new() */
			continue;
		}
		number_give(&p->numbers[POLICY_ID_IDENTITY], &id->next_key, id->id);
		vec_clear(&id->sets.all);
		free(id);
	}
}

static void drop_atoms(struct policy *p)
{
	for (uint32_t i = 0; i < p->txn.atoms.n; i++) {
		struct atom *a = p->txn.atoms.v[i];

		if (!a->refs.cur)
			atom_free(p, a);
	}
	for (uint32_t i = 0; i < p->txn.pnames.n; i++) {
		struct pname *n = p->txn.pnames.v[i];

		if (!n->refs.cur)
			pname_free(p, n);
	}
}

static void drop_units(struct subject *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->units.n; i++) {
		struct unit *u = s->units.v[i];

		if (u->present[CUR]) {
			s->units.v[n++] = u;
			continue;
		}
		unit_unlink(u);
		free(u);
	}
	s->units.n = n;
}

static bool subject_is_dead(const struct subject *s)
{
	return s->ep ? s->ep->subject[CUR] != s : !s->pod->obj[CUR];
}

static void drop_subjects(struct policy *p)
{
	struct txn *t = &p->txn;

	for (uint32_t i = 0; i < t->subjects.n; i++)
		drop_units(t->subjects.v[i]);
	for (uint32_t i = 0; i < t->subjects.n; i++) {
		struct subject *s = t->subjects.v[i];

		if (subject_is_dead(s))
			subject_free(p, s);
	}
	for (uint32_t i = 0; i < t->eps.n; i++) {
		struct ep *ep = t->eps.v[i];

		if (ep->subject[CUR])
			continue;
		p->eps[ep->slot] = NULL;
		free(ep);
	}
}

static void drop_nodes(struct policy *p)
{
	struct vec *nodes = &p->txn.nodes;

	for (uint32_t i = 0; i < nodes->n; i++)
		if (nodes->v[i])
			tree_prune(p, nodes->v[i]);
	for (uint32_t i = 0; i < nodes->n; i++)
		if (nodes->v[i])
			((struct node *)nodes->v[i])->touched_at = 0;
}

static void drop_names(struct policy *p)
{
	struct txn *t = &p->txn;

	for (uint32_t i = 0; i < t->pols.n; i++) {
		struct pol *pol = t->pols.v[i], *last;

		if (pol->obj[CUR])
			continue;
		last = pol->space->policies.v[--pol->space->policies.n];
		pol->space->policies.v[pol->at] = last;
		last->at = pol->at;
		pol->space->users--;
		table_del(&p->pols, pol);
		free(pol);
	}
	for (uint32_t i = 0; i < t->pods.n; i++) {
		struct pod_entry *pod = t->pods.v[i];

		if (pod->obj[CUR] || pod->subject || pod->subjects.n)
			continue;
		pod->space->users--;
		table_del(&p->pods, pod);
		vec_clear(&pod->subjects);
		free(pod->name);
		free(pod);
	}
	for (uint32_t i = 0; i < t->spaces.n; i++) {
		struct space *space = t->spaces.v[i];

		if (space->obj[CUR] || space->users)
			continue;
		table_del(&p->spaces, space);
		vec_clear(&space->subjects);
		vec_clear(&space->policies);
		free(space->name);
		free(space);
	}
}

static void txn_clear(struct txn *t)
{
	struct vec *lists[] = { &t->spaces,	&t->pods,  &t->eps,	 &t->subjects,
				&t->pols,	&t->atoms, &t->pnames,	 &t->nodes,
				&t->identities, &t->sets,  &t->versions, &t->new_select,
				&t->new_peer,	&t->dirty, &t->drafts,	 &t->edited };

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		vec_clear(lists[i]);
	free(t->works);
	free(t->pairs);
	free(t->plus.v);
	free(t->minus.v);
	free(t->gone.v);
	table_clear(&t->by_wide);
	table_clear(&t->by_next);
	table_clear(&t->memo);
	arena_clear(&t->mem);
	*t = (struct txn){};
}

void txn_settle(struct policy *p, bool commit)
{
	struct settle s = {
		.p = p,
		.keep = commit ? NEXT : CUR,
		.drop = commit ? CUR : NEXT,
	};

	if (commit) {
		p->reserved_changed = false;
		p->commits++;
		for (size_t i = 0; i < 3; i++)
			number_forget_claimed(&p->numbers[i]);
		for (size_t i = 0; p->commits == 2 && i < 3; i++)
			number_forget_unclaimed(&p->numbers[i]);
	}
	drafts_clear(p);
	settle_values(&s);
	settle_relations(&s);
	settle_edits(&s);
	drop_versions(p);
	drop_sets(p);
	drop_identities(&s);
	drop_atoms(p);
	drop_subjects(p);
	drop_nodes(p);
	drop_names(p);
	txn_clear(&p->txn);
}
