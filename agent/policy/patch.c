/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One version from another. Policies that changed say which atoms may pass between other ports
 * than before; whether another policy lets an atom pass there as before is asked of the
 * atom's users. Where nothing came or went, classes stay as they are. What is not in proportion to
 * the change is one copy of the list of classes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define PORTS_LAST 0xffffffu
#define CLASSES_MAX (1u << 17)
/* Up to so many steps; then compiling anew is no worse. */
#define WORK_MAX (1u << 21)

struct delta {			 /* a policy that says something else to the endpoint */
	const struct rules *old; /* NULL: does not apply */
	const struct rules *new;
};

struct ports {
	uint32_t first;
	uint32_t last;
};

/* Between these ports the atom (NULL: everybody) passes now, or does not. */
struct piece {
	struct atom *atom;
	struct ports ports;
	int32_t sign; /* how many more rules say so */
	bool passes;
};

/* One direction of one version being made. */
struct patch {
	struct policy *p;
	const struct ep *ep;
	enum tw_direction dir;
	const struct version *from;
	struct piece *pieces;
	uint32_t n_pieces, cap_pieces;
	struct piece *parts; /* pieces cut so that each has one answer, by port */
	uint32_t n_parts, cap_parts;
	struct ports *cover; /* of one atom */
	uint32_t n_cover, cap_cover;
	struct piece **active;
	uint32_t n_active;
	struct interval *classes; /* what takes the place of n_from of `from`, from `at` on */
	uint32_t n_classes, cap_classes;
	uint32_t at, n_from;
	uint32_t work;
};

static void patch_clear(struct patch *pt)
{
	free(pt->pieces);
	free(pt->parts);
	free(pt->cover);
	free(pt->active);
	free(pt->classes);
}

static int patch_work(struct patch *pt, uint32_t steps)
{
	pt->work += steps;
	return pt->work > WORK_MAX ? -EAGAIN : 0;
}

/* ---- what the policies say ------------------------------------------------------------------ */

static int piece_add(struct patch *pt, struct atom *a, const struct span *span, int32_t sign)
{
	if (array_room(&pt->pieces, pt->n_pieces, &pt->cap_pieces, sizeof(*pt->pieces)))
		return -ENOMEM;
	pt->pieces[pt->n_pieces++] =
		(struct piece){ .atom = a, .ports = { span->first, span->last }, .sign = sign };
	return patch_work(pt, 16);
}

static int pieces_add(struct patch *pt, const struct rules *r, int32_t sign)
{
	const struct view *view = &pt->ep->subject[NEXT]->view[NEXT];
	int err = 0;

	for (uint32_t i = 0; r && i < r->n_spans[pt->dir] && !err; i++) {
		struct span span = r->spans[pt->dir][i];

		if (!span_resolve(&span, view))
			continue;
		if (!span.group)
			err = piece_add(pt, NULL, &span, sign);
		for (uint32_t j = 0; span.group && j < span.group->n && !err; j++)
			err = piece_add(pt, span.group->atoms[j], &span, sign);
	}
	return err;
}

static int piece_order(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->atom != y->atom)
		return x->atom < y->atom ? -1 : 1;
	if (x->ports.first != y->ports.first)
		return x->ports.first < y->ports.first ? -1 : 1;
	return x->ports.last < y->ports.last ? -1 : x->ports.last > y->ports.last;
}

/* What is said both before and after goes; what is left of an atom is joined. */
static void pieces_reduce(struct patch *pt)
{
	uint32_t n = 0, kept = 0;

	if (pt->n_pieces)
		qsort(pt->pieces, pt->n_pieces, sizeof(*pt->pieces), piece_order);
	for (uint32_t i = 0; i < pt->n_pieces; i++) {
		struct piece *piece = &pt->pieces[i];

		if (n && !piece_order(&pt->pieces[n - 1], piece))
			pt->pieces[n - 1].sign += piece->sign;
		else
			pt->pieces[n++] = *piece;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct piece *piece = &pt->pieces[i], *last = &pt->pieces[kept - 1];

		if (!piece->sign)
			continue;
		if (!kept || last->atom != piece->atom || last->ports.last + 1 < piece->ports.first)
			pt->pieces[kept++] = *piece;
		else if (last->ports.last < piece->ports.last)
			last->ports.last = piece->ports.last;
	}
	pt->n_pieces = kept;
}

/* ---- what others say ------------------------------------------------------------------------ */

static bool applies(const struct rules *r, const struct ep *ep)
{
	const struct pol *pol = r->pol;

	return pol->rules[NEXT] == r &&
	       atoms_have(&ep->subject[NEXT]->select[NEXT], pol->select[NEXT]);
}

static bool selects(const struct ep *ep, uint32_t seq)
{
	const struct atoms *list = &ep->subject[NEXT]->select[NEXT];

	for (uint32_t i = 0; i < list->n; i++)
		if (list->v[i]->seq == seq)
			return true;
	return false;
}

static bool group_has(const struct group *g, const struct atom *a)
{
	const struct atoms list = { g ? g->atoms : NULL, g ? g->n : 0 };

	return g && a ? atoms_have(&list, a) : !g && !a;
}

/* 1: all of the ports are covered. */
static int cover_rules(struct patch *pt, const struct piece *piece, const struct rules *r)
{
	const struct view *view = &pt->ep->subject[NEXT]->view[NEXT];
	const struct ports *ports = &piece->ports;
	int err = patch_work(pt, r->n_spans[pt->dir] + 4);

	for (uint32_t i = 0; i < r->n_spans[pt->dir] && !err; i++) {
		struct span span = r->spans[pt->dir][i];

		if (!group_has(span.group, piece->atom) || !span_resolve(&span, view) ||
		    span.last < ports->first || span.first > ports->last)
			continue;
		if (array_room(&pt->cover, pt->n_cover, &pt->cap_cover, sizeof(*pt->cover)))
			return -ENOMEM;
		pt->cover[pt->n_cover++] = (struct ports){ span.first, span.last };
		if (span.first <= ports->first && span.last >= ports->last)
			return 1;
	}
	return err;
}

static int ports_order(const void *a, const void *b)
{
	const struct ports *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* All rules that let the atom pass somewhere between the ports. */
static int piece_cover(struct patch *pt, const struct piece *piece)
{
	const struct users *users = users_of(pt->p, piece->atom, pt->dir);
	int res = patch_work(pt, users->n / 32);

	pt->n_cover = 0;
	for (uint32_t i = 0; i < users->n && !res; i++) {
		const struct user *u = &users->v[i];

		if (u->last < piece->ports.first || u->first > piece->ports.last ||
		    !selects(pt->ep, u->select) || !applies(u->rules, pt->ep))
			continue;
		res = cover_rules(pt, piece, u->rules);
	}
	if (pt->n_cover)
		qsort(pt->cover, pt->n_cover, sizeof(*pt->cover), ports_order);
	return res < 0 ? res : 0;
}

static int part_add(struct patch *pt, const struct piece *piece, uint32_t first, uint32_t last,
		    bool passes)
{
	if (array_room(&pt->parts, pt->n_parts, &pt->cap_parts, sizeof(*pt->parts)))
		return -ENOMEM;
	pt->parts[pt->n_parts++] = (struct piece){ piece->atom, { first, last }, 0, passes };
	return 0;
}

/* Cuts a piece where the answer changes. */
static int piece_cut(struct patch *pt, const struct piece *piece)
{
	uint32_t at = piece->ports.first;
	int err = piece_cover(pt, piece);

	for (uint32_t i = 0; i < pt->n_cover && at <= piece->ports.last && !err; i++) {
		const struct ports *c = &pt->cover[i];
		uint32_t last = c->last < piece->ports.last ? c->last : piece->ports.last;

		if (c->last < at)
			continue;
		if (c->first > at)
			err = part_add(pt, piece, at, c->first - 1, false);
		if (!err)
			err = part_add(pt, piece, c->first > at ? c->first : at, last, true);
		at = last + 1;
	}
	if (!err && at <= piece->ports.last)
		err = part_add(pt, piece, at, piece->ports.last, false);
	return err;
}

/* ---- classes -------------------------------------------------------------------------------- */

/* id: of a set that has one; others get theirs later. */
static int emit(struct patch *pt, uint32_t start, uint32_t id, struct set *set)
{
	if (pt->n_classes && pt->classes[pt->n_classes - 1].set == set)
		return 0;
	if (array_room(&pt->classes, pt->n_classes, &pt->cap_classes, sizeof(*pt->classes)))
		return -ENOMEM;
	pt->classes[pt->n_classes++] = (struct interval){ .start = start, .id = id, .set = set };
	return 0;
}

/* The set of a class by what the active pieces say of it. */
static int active_set(struct patch *pt, struct set *old, struct set **out)
{
	struct vec plus = {}, minus = {};
	bool any = old == &set_any;
	uint32_t n = old && !any ? old->atoms.all.n : 0;
	int err = 0;

	for (uint32_t i = 0; i < pt->n_active; i++)
		if (!pt->active[i]->atom)
			any = pt->active[i]->passes;
	if (any || old == &set_any) {
		*out = &set_any;
		/* Who passes but for everybody is not in the set. */
		return any ? 0 : -EAGAIN;
	}
	for (uint32_t i = 0; i < pt->n_active && !err; i++) {
		struct atom *a = pt->active[i]->atom;
		bool passes = pt->active[i]->passes;

		err = patch_work(pt, 4 + (n < a->sets.n ? n : a->sets.n) / 16);
		if (!err && passes != (old && set_has_atom(old, a)))
			err = vec_push(passes ? &plus : &minus, a);
	}
	if (!err && !plus.n && !minus.n)
		*out = old;
	else if (!err && n + plus.n == minus.n)
		*out = NULL;
	else if (!err)
		err = set_derive(pt->p, old, &plus, &minus, out);
	vec_clear(&plus);
	vec_clear(&minus);
	return err;
}

/* The last class that does not begin behind the port. */
static uint32_t class_find(const struct interval *v, uint32_t n, uint32_t port)
{
	uint32_t at = 0;

	while (n > 1) {
		uint32_t step = n >> 1;

		if (v[at + step].start <= port) {
			at += step;
			n -= step;
		} else {
			n = step;
		}
	}
	return at;
}

static uint32_t lower(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static int part_order(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return ports_order(&x->ports, &y->ports);
}

/* Those that speak of `port` are active; says where that changes. *next is the first behind. */
static uint32_t parts_meet(struct patch *pt, uint32_t *next, uint32_t port)
{
	uint32_t kept = 0, end = PORTS_LAST + 1;

	for (uint32_t i = 0; i < pt->n_active; i++)
		if (pt->active[i]->ports.last >= port)
			pt->active[kept++] = pt->active[i];
	pt->n_active = kept;
	for (; *next < pt->n_parts && pt->parts[*next].ports.first <= port; ++*next)
		pt->active[pt->n_active++] = &pt->parts[*next];
	for (uint32_t i = 0; i < pt->n_active; i++)
		end = lower(end, pt->active[i]->ports.last + 1);
	return *next < pt->n_parts ? lower(end, pt->parts[*next].ports.first) : end;
}

/* Walks over all classes between the first and the last port that the parts speak of. */
static int classes_walk(struct patch *pt, const struct interval *v, uint32_t n)
{
	uint32_t port = pt->parts[0].ports.first, last = 0, part = 0, i;
	int err = 0;

	for (uint32_t j = 0; j < pt->n_parts; j++)
		if (pt->parts[j].ports.last > last)
			last = pt->parts[j].ports.last;
	i = pt->at = class_find(v, n, port);
	port = v[i].start;
	while (port <= last && !err) {
		uint32_t end = parts_meet(pt, &part, port), quiet;
		struct set *set;

		/* Where nothing is said, all that begins before the next part is as it was. */
		quiet = pt->n_active ? 0 : class_find(v + i, n - i, end - 1);
		for (; quiet && !err; quiet--, port = v[++i].start)
			err = emit(pt, port, v[i].id, v[i].set);
		if (i + 1 < n)
			end = lower(end, v[i + 1].start);
		set = v[i].set;
		if (!err)
			err = patch_work(pt, 1 + pt->n_active);
		if (!err && pt->n_active)
			err = active_set(pt, set, &set);
		if (!err)
			err = emit(pt, port, v[i].id, set);
		port = end;
		while (i + 1 < n && v[i + 1].start <= port)
			i++;
	}
	/* What is behind stays, but for a class that is now the same as the one before it. */
	if (!err && port <= PORTS_LAST && v[i].start < port)
		err = emit(pt, port, v[i].id, v[i].set);
	pt->n_from = i - pt->at + (v[i].start < port);
	return err;
}

/* The borders: where a class and its neighbour have become the same, one of them goes. */
static void classes_join(struct patch *pt, const struct interval *v, uint32_t n)
{
	uint32_t after = pt->at + pt->n_from;

	if (after < n && v[after].set == pt->classes[pt->n_classes - 1].set)
		pt->n_from++;
	if (pt->at && v[pt->at - 1].set == pt->classes[0].set) {
		pt->at--;
		pt->n_from++;
		pt->classes[0] = v[pt->at];
	}
}

/* One direction: fills the version's classes, and what of them is new. */
static int direction_patch(struct patch *pt, struct version *to, struct heir *heir)
{
	static const struct interval nobody = { .id = TW_SET_NONE };
	const struct interval *v =
		pt->from->isolated[pt->dir] ? pt->from->classes[pt->dir] : &nobody;
	uint32_t n = pt->from->isolated[pt->dir] ? pt->from->n_classes[pt->dir] : 1, total;
	int err = 0;

	for (uint32_t i = 0; i < pt->n_pieces && !err; i++)
		err = piece_cut(pt, &pt->pieces[i]);
	if (err)
		return err;
	if (pt->n_parts) {
		qsort(pt->parts, pt->n_parts, sizeof(*pt->parts), part_order);
		pt->active = calloc(pt->n_parts, sizeof(struct piece *));
		err = pt->active ? classes_walk(pt, v, n) : -ENOMEM;
		if (err)
			return err;
		classes_join(pt, v, n);
	}
	total = n - pt->n_from + pt->n_classes;
	if (total > CLASSES_MAX)
		return -E2BIG;
	to->classes[pt->dir] = calloc(total, sizeof(struct interval));
	if (!to->classes[pt->dir])
		return -ENOMEM;
	to->n_classes[pt->dir] = total;
	memcpy(to->classes[pt->dir], v, pt->at * sizeof(*v));
	if (pt->n_classes)
		memcpy(to->classes[pt->dir] + pt->at, pt->classes, pt->n_classes * sizeof(*v));
	memcpy(to->classes[pt->dir] + pt->at + pt->n_classes, v + pt->at + pt->n_from,
	       (n - pt->at - pt->n_from) * sizeof(*v));
	heir->at[pt->dir] = pt->at;
	heir->n_from[pt->dir] = v == &nobody ? 0 : pt->n_from;
	heir->n_to[pt->dir] = v == &nobody ? total : pt->n_classes;
	return 0;
}

/* ---- the version ---------------------------------------------------------------------------- */

struct sum {
	const struct policy *p;
	struct hkey *key;
	enum tw_direction dir;
};

static int class_sum(void *arg, struct interval *c, bool is_new)
{
	const struct sum *sum = arg;

	class_count(sum->key, sum->p, sum->dir, c, is_new);
	return 0;
}

static int direction_make(struct policy *p, const struct ep *ep, enum tw_direction dir,
			  const struct delta *deltas, uint32_t n, struct version *to,
			  struct heir *heir)
{
	const struct version *from = ep->version[CUR];
	__attribute__((cleanup(
		patch_clear))) struct patch pt = { .p = p, .ep = ep, .dir = dir, .from = from };
	int err = 0;

	to->isolated[dir] = ep->isolation[NEXT].n[dir];
	if (!to->isolated[dir]) {
		heir->n_from[dir] = from->n_classes[dir];
	} else {
		for (uint32_t i = 0; i < n && !err; i++) {
			err = pieces_add(&pt, deltas[i].old, -1);
			if (!err)
				err = pieces_add(&pt, deltas[i].new, 1);
		}
		if (err)
			return err;
		pieces_reduce(&pt);
		err = direction_patch(&pt, to, heir);
	}
	if (err)
		return err;
	return heir_each(from, heir, dir, class_sum, &(struct sum){ p, &to->sum, dir });
}

static int version_patch(struct policy *p, struct ep *ep, const struct delta *deltas, uint32_t n,
			 struct version **out)
{
	struct version *from = ep->version[CUR], *to = calloc(1, sizeof(*to));
	struct heir *heir = arena_alloc(&p->txn.mem, sizeof(*heir));
	int err = to && heir && !txn_touch(p, versions, from) ? 0 : -ENOMEM;

	if (!err) {
		*heir = (struct heir){ .to = to };
		to->sum = from->sum;
	}
	for (unsigned int dir = 0; dir < 2 && !err; dir++)
		err = direction_make(p, ep, (enum tw_direction)dir, deltas, n, to, heir);
	if (err) {
		if (to)
			version_discard(to);
		return err;
	}
	err = version_take(p, to, out);
	if (!err && *out == to && !from->heir) {
		from->heir = heir;
		to->base = from;
	}
	return err;
}

/* What the policy says to the endpoint on a side; NULL: it does not apply. */
static const struct rules *rules_for(const struct pol *pol, const struct ep *ep, enum side side)
{
	const struct atom *a = pol->select[side];

	return a && pol->rules[side] && atoms_have(&ep->subject[side]->select[side], a)
		       ? pol->rules[side]
		       : NULL;
}

static void isolation_count(struct ep *ep, const struct rules *r, bool more)
{
	for (unsigned int dir = 0; r && dir < 2; dir++)
		if (r->enabled[dir])
			ep->isolation[NEXT].n[dir] += more ? 1u : -1u;
}

/* The policies that say something else to the endpoint, and the key of that. */
static uint32_t deltas_find(struct policy *p, struct ep *ep, struct delta *out, struct hkey *key)
{
	const struct view *view = &ep->subject[NEXT]->view[NEXT];
	struct hash h = hash_begin(&p->secret, HASH_PATCH);
	bool own_names = false;
	uint32_t n = 0;

	hash_key(&h, &ep->version[CUR]->key);
	ep->isolation[NEXT] = ep->isolation[CUR];
	for (uint32_t i = 0; i < p->txn.pols.n; i++) {
		const struct pol *pol = p->txn.pols.v[i];
		struct delta d = { rules_for(pol, ep, CUR), rules_for(pol, ep, NEXT) };

		if (d.old == d.new)
			continue;
		out[n++] = d;
		isolation_count(ep, d.old, false);
		isolation_count(ep, d.new, true);
		hash_word(&h, d.old ? d.old->serial : 0);
		hash_word(&h, d.new ? d.new->serial : 0);
		own_names |= (d.old && d.old->own_names) || (d.new && d.new->own_names);
	}
	for (unsigned int dir = 0; dir < 2; dir++)
		hash_word(&h, ep->isolation[NEXT].n[dir] > 0);
	if (own_names)
		hash_ports(&h, view);
	*key = hash_end(&h);
	return n;
}

int ep_patch(struct policy *p, struct ep *ep, struct table *memos, struct version **out)
{
	const struct subject *s = ep->subject[NEXT];
	struct delta deltas[POLICY_FEW + 1];
	const struct memo *memo;
	struct version *v = NULL;
	struct hkey key;
	uint32_t n;
	int err;

	if (p->txn.pols.n > POLICY_FEW || s != ep->subject[CUR] || !ep->version[CUR] ||
	    !s->view[CUR].present || !ports_equal(&s->view[CUR], &s->view[NEXT]))
		return -EAGAIN;
	n = deltas_find(p, ep, deltas, &key);
	if (!ep->isolation[NEXT].n[0] && !ep->isolation[NEXT].n[1]) {
		*out = NULL;
		return 0;
	}
	memo = table_get(memos, &key);
	if (memo) {
		*out = memo->version;
		return 0;
	}
	err = version_patch(p, ep, deltas, n, &v);
	if (!err)
		err = memo_put(p, memos, &key, v);
	if (!err)
		*out = v;
	return err;
}
