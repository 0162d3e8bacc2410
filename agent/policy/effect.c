/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a prepared change would do to traffic: both sides of the compiled state judge the same
 * questions. Ends that have the same versions and identities on both sides are of one KIND and
 * get one answer, so the work is in kinds, not in pods; pairs of kinds that the change does not
 * touch are not looked at, because whether an identity is in a set never changes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy/internal.h"

#define KEY_LAST 0xffffffu /* the highest protocol << 16 | port */

/* An address, or two of a pod, as policies see it: what an end's kind is made of. */
struct face {
	const struct version *version[2]; /* of a local endpoint, else NULL */
	const struct identity *id[2][2];  /* [family][side]; NULL: no such address */
	bool local;
};

struct member {
	struct face face;
	const char *name; /* borrowed of a pod, else `text` */
	char text[64];
};

struct kind {
	struct face face;
	const struct member *members;
	uint32_t n;
};

struct effects {
	const struct policy *p;
	struct member *members;
	uint32_t n_members, cap_members;
	struct kind *kinds; /* those of endpoints first */
	uint32_t n_kinds, n_local;
	struct spans {
		struct policy_span *v[2]; /* by the verdict after the change */
		size_t n[2], cap[2];
	} spans[2];	   /* of the pair at hand, by family */
	uint64_t deadline; /* ns of CLOCK_MONOTONIC */
	uint32_t compared; /* since the clock was looked at */
	uint32_t limit;
	int (*fn)(void *arg, const struct policy_effect *effect);
	void *arg;
	struct policy_effects total;
};

static void effects_clear(struct effects *e)
{
	free(e->members);
	free(e->kinds);
	for (unsigned int i = 0; i < 4; i++)
		free(e->spans[i / 2].v[i % 2]);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- one question --------------------------------------------------------------------------- */

static bool set_has(const struct policy *p, const struct set *set, const struct identity *id,
		    enum side side)
{
	if (!set || set == &set_any)
		return set;
	return set_has_identity(set, id) && (!set->edit || pair_holds(p, set, id, side));
}

/* A walk through the classes of one direction of one version, for one peer. */
struct walk {
	const struct interval *v; /* NULL: everything passes */
	const struct policy *p;
	const struct identity *peer;
	enum side side;
	uint32_t n, at;
	bool isolated;
};

static struct walk walk_begin(const struct policy *p, const struct version *version,
			      enum tw_direction dir, const struct identity *peer, enum side side)
{
	if (!version || !version->isolated[dir])
		return (struct walk){};
	return (struct walk){ .v = version->classes[dir],
			      .p = p,
			      .peer = peer,
			      .side = side,
			      .n = version->n_classes[dir],
			      .isolated = true };
}

static bool walk_allows(const struct walk *w)
{
	return !w->isolated || (w->at < w->n && set_has(w->p, w->v[w->at].set, w->peer, w->side));
}

/* Where the next class begins; KEY_LAST + 1: nowhere. */
static uint32_t walk_next(const struct walk *w)
{
	return w->at + 1 < w->n ? w->v[w->at + 1].start : KEY_LAST + 1;
}

static void walk_to(struct walk *w, uint32_t key)
{
	while (w->at + 1 < w->n && w->v[w->at + 1].start <= key)
		w->at++;
}

/* The classes of a long list are searched when only one is asked for. */
static void walk_find(struct walk *w, uint32_t key)
{
	uint32_t n = w->n;

	while (n > 1) {
		uint32_t step = n >> 1;

		if (w->v[w->at + step].start <= key) {
			w->at += step;
			n -= step;
		} else {
			n = step;
		}
	}
}

/* ---- pairs of kinds ------------------------------------------------------------------------- */

static int span_add(struct spans *s, bool after, uint32_t first, uint32_t last)
{
	size_t n = s->n[after];

	if (n && s->v[after][n - 1].last + 1 == first) {
		s->v[after][n - 1].last = last;
		return 0;
	}
	if (n == s->cap[after]) {
		size_t cap = n ? 2 * n : 8;
		struct policy_span *v = reallocarray(s->v[after], cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v[after] = v;
		s->cap[after] = cap;
	}
	s->v[after][s->n[after]++] = (struct policy_span){ first, last };
	return 0;
}

/* Fills the family's spans with the ports whose verdict differs between the sides. */
static int pair_compare(struct effects *e, const struct face *from, const struct face *to,
			unsigned int family)
{
	struct walk w[2][2]; /* [side][direction] */

	e->compared++;
	for (enum side s = CUR; s <= NEXT; s++) {
		w[s][TW_EGRESS] =
			walk_begin(e->p, from->version[s], TW_EGRESS, to->id[family][s], s);
		w[s][TW_INGRESS] =
			walk_begin(e->p, to->version[s], TW_INGRESS, from->id[family][s], s);
	}
	for (uint32_t key = 0; key <= KEY_LAST;) {
		bool before = walk_allows(&w[CUR][0]) && walk_allows(&w[CUR][1]);
		bool after = walk_allows(&w[NEXT][0]) && walk_allows(&w[NEXT][1]);
		uint32_t next = KEY_LAST + 1;

		for (unsigned int i = 0; i < 4; i++)
			if (walk_next(&w[i / 2][i % 2]) < next)
				next = walk_next(&w[i / 2][i % 2]);
		if (before != after && span_add(&e->spans[family], after, key, next - 1))
			return -ENOMEM;
		for (unsigned int i = 0; i < 4; i++)
			walk_to(&w[i / 2][i % 2], next);
		key = next;
	}
	return 0;
}

static bool face_speaks(const struct face *f, unsigned int family)
{
	return f->id[family][CUR] && f->id[family][NEXT];
}

static bool face_changes(const struct face *f, unsigned int family)
{
	return f->version[CUR] != f->version[NEXT] || f->id[family][CUR] != f->id[family][NEXT];
}

/* `family` is what the pair is told apart by, `spans` what is said of it. */
static int pair_emit(struct effects *e, const struct kind *from, const struct kind *to,
		     unsigned int family, const struct spans *spans, bool after)
{
	struct policy_effect effect = {
		.family = (uint8_t)family,
		.allow = after,
		.spans = spans->v[after],
		.n_spans = spans->n[after],
	};
	int res = 0;

	if (!effect.n_spans)
		return 0;
	/* What a pod sends to itself stays in its namespace. */
	e->total.pairs += (uint64_t)from->n * to->n - (from == to ? from->n : 0);
	for (uint32_t i = 0; i < from->n && e->limit && !res; i++) {
		for (uint32_t j = 0; j < to->n && e->limit && !res; j++) {
			if (from == to && i == j)
				continue;
			effect.from = from->members[i].name ? from->members[i].name
							    : from->members[i].text;
			effect.to = to->members[j].name ? to->members[j].name : to->members[j].text;
			effect.from_pod = from->members[i].name;
			effect.to_pod = to->members[j].name;
			e->limit--;
			res = e->fn(e->arg, &effect);
		}
	}
	return res;
}

static bool spans_same(const struct spans *a, const struct spans *b)
{
	for (unsigned int i = 0; i < 2; i++)
		if (a->n[i] != b->n[i] ||
		    (a->n[i] && memcmp(a->v[i], b->v[i], a->n[i] * sizeof(*a->v[i])) != 0))
			return false;
	return true;
}

static int pair_report(struct effects *e, const struct kind *from, const struct kind *to,
		       unsigned int family, const struct spans *spans)
{
	int res = pair_emit(e, from, to, family, spans, false);

	return res ? res : pair_emit(e, from, to, family, spans, true);
}

static int pair_judge(struct effects *e, const struct kind *from, const struct kind *to)
{
	bool asks[2];
	int res = 0;

	for (unsigned int f = 0; f < 2 && !res; f++) {
		e->spans[f].n[0] = e->spans[f].n[1] = 0;
		asks[f] = face_speaks(&from->face, f) && face_speaks(&to->face, f);
		if (asks[f] && (face_changes(&from->face, f) || face_changes(&to->face, f)))
			res = pair_compare(e, &from->face, &to->face, f);
	}
	if (res)
		return res;
	if (asks[0] && asks[1] && !spans_same(&e->spans[0], &e->spans[1])) {
		res = pair_report(e, from, to, 4, &e->spans[0]);
		return res ? res : pair_report(e, from, to, 6, &e->spans[1]);
	}
	return pair_report(e, from, to, 0, &e->spans[!asks[0]]);
}

/* ---- members and kinds ---------------------------------------------------------------------- */

static struct member *member_add(struct effects *e)
{
	if (e->n_members == e->cap_members) {
		uint32_t cap = e->cap_members ? 2 * e->cap_members : 64;
		struct member *v = reallocarray(e->members, cap, sizeof(*v));

		if (!v)
			return NULL;
		e->members = v;
		e->cap_members = cap;
	}
	memset(&e->members[e->n_members], 0, sizeof(*e->members));
	return &e->members[e->n_members++];
}

/* A pod that is there before and after, by the first address of each family that is its own. */
static int subject_add(struct effects *e, const struct subject *s)
{
	struct face face = { .local = s->ep };
	bool speaks = false;

	if (!s->view[CUR].present || !s->view[NEXT].present)
		return 0;
	/* A pod that has an endpoint here is that endpoint, whatever else its object says. */
	if (!s->ep && s->pod->subjects.n)
		return 0;
	for (uint32_t i = 0; i < s->units.n; i++) {
		const struct unit *u = s->units.v[i];
		unsigned int f = prefix_family(&u->node->prefix);

		if (face.id[f][CUR] || node_winner(u->node, CUR) != u ||
		    node_winner(u->node, NEXT) != u)
			continue;
		face.id[f][CUR] = u->holder.id[CUR];
		face.id[f][NEXT] = u->holder.id[NEXT];
		speaks |= face_speaks(&face, f);
	}
	if (!speaks)
		return 0;
	for (enum side side = CUR; s->ep && side <= NEXT; side++)
		face.version[side] = s->ep->version[side];

	struct member *m = member_add(e);

	if (!m)
		return -ENOMEM;
	m->face = face;
	m->name = s->pod->name;
	return 0;
}

/* What an address that is no pod's has for an identity. */
static const struct identity *world_at(const struct policy *p, const struct node *n, enum side side)
{
	for (; n; n = n->parent)
		if (n->world.id[side])
			return n->world.id[side];
	return &p->world;
}

static int world_add(struct effects *e, const struct node *n)
{
	unsigned int f = prefix_family(&n->prefix);
	struct member *m = member_add(e);

	if (!m)
		return -ENOMEM;
	for (enum side side = CUR; side <= NEXT; side++)
		m->face.id[f][side] = world_at(e->p, n, side);
	prefix_format(&n->prefix, m->text, sizeof(m->text));
	return 0;
}

static int worlds_add(struct effects *e, const struct node *n, bool all[2])
{
	int res = 0;

	if (!n)
		return 0;
	if (n->world.id[CUR] || n->world.id[NEXT]) {
		unsigned int f = prefix_family(&n->prefix);

		all[f] |= n->prefix.len == (f ? 0 : 96);
		res = world_add(e, n);
	}
	for (unsigned int i = 0; i < 2 && !res; i++)
		res = worlds_add(e, n->child[i], all);
	return res;
}

static int members_collect(struct effects *e)
{
	bool all[2] = {}; /* a rule names all addresses of a family: nothing else is the world */
	int res = 0;

	for (uint32_t i = 0; i < e->p->subjects.n && !res; i++)
		res = subject_add(e, e->p->subjects.v[i]);
	for (unsigned int f = 0; f < 2 && !res; f++)
		res = worlds_add(e, e->p->root[f], all);
	if (res || (all[0] && all[1]))
		return res;

	struct member *m = member_add(e);

	if (!m)
		return -ENOMEM;
	for (unsigned int f = 0; f < 2; f++)
		m->face.id[f][CUR] = m->face.id[f][NEXT] = all[f] ? NULL : &e->p->world;
	snprintf(m->text, sizeof(m->text), "world");
	return 0;
}

static int face_order(const struct face *a, const struct face *b)
{
	int order = memcmp(a->version, b->version, sizeof(a->version));

	if (!order)
		order = memcmp(a->id, b->id, sizeof(a->id));
	return order ? order : (int)a->local - (int)b->local;
}

static int name_order(const struct member *a, const struct member *b)
{
	/* Pods first. */
	if (!a->name != !b->name)
		return a->name ? -1 : 1;
	return a->name ? strcmp(a->name, b->name) : strcmp(a->text, b->text);
}

static int member_order(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	int order = face_order(&x->face, &y->face);

	return order ? order : name_order(x, y);
}

/* Then by their first member, so that the same state comes in the same order. */
static int kind_order(const void *a, const void *b)
{
	const struct kind *x = a, *y = b;

	if (x->face.local != y->face.local)
		return x->face.local ? -1 : 1;
	return name_order(x->members, y->members);
}

static int kinds_make(struct effects *e)
{
	e->kinds = calloc(e->n_members + 1, sizeof(*e->kinds));
	if (!e->kinds)
		return -ENOMEM;
	if (e->n_members)
		qsort(e->members, e->n_members, sizeof(*e->members), member_order);
	for (uint32_t i = 0; i < e->n_members; i++) {
		struct kind *last = e->n_kinds ? &e->kinds[e->n_kinds - 1] : NULL;

		if (last && !face_order(&last->face, &e->members[i].face))
			last->n++;
		else
			e->kinds[e->n_kinds++] =
				(struct kind){ e->members[i].face, &e->members[i], 1 };
	}
	if (e->n_kinds)
		qsort(e->kinds, e->n_kinds, sizeof(*e->kinds), kind_order);
	while (e->n_local < e->n_kinds && e->kinds[e->n_local].face.local)
		e->n_local++;
	return 0;
}

int policy_effects_each(const struct policy *p, uint32_t limit, uint64_t budget_ns,
			int (*fn)(void *arg, const struct policy_effect *effect), void *arg,
			struct policy_effects *out)
{
	__attribute__((cleanup(effects_clear))) struct effects e = {
		.p = p,
		.deadline = now_ns() + budget_ns,
		.limit = limit,
		.fn = fn,
		.arg = arg,
		.total = { .complete = true },
	};
	int res = members_collect(&e);

	if (!res)
		res = kinds_make(&e);
	for (uint32_t i = 0; i < e.n_kinds && !res && e.total.complete; i++) {
		/* One of the two ends must be an endpoint. */
		uint32_t n = i < e.n_local ? e.n_kinds : e.n_local;

		for (uint32_t j = 0; j < n && !res && e.total.complete; j++) {
			res = pair_judge(&e, &e.kinds[i], &e.kinds[j]);
			/* The clock is dear, next to two kinds that do not change. */
			if (e.compared || j % 1024 == 1023) {
				e.compared = 0;
				e.total.complete = now_ns() < e.deadline;
			}
		}
	}
	if (!res)
		*out = e.total;
	return res;
}

/* ---- single flows --------------------------------------------------------------------------- */

/* False: nobody's business but the node's. */
static bool face_of(const struct policy *p, const union tw_addr *addr, struct face *out)
{
	const struct prefix full = { .addr = *addr, .len = 128 };
	const struct node *n = tree_lookup(p, addr);
	unsigned int f = !addr_is4(addr);
	bool exact = n && n->prefix.len == 128, reserved = is_reserved(p, &full);

	*out = (struct face){};
	for (enum side side = CUR; side <= NEXT; side++) {
		const struct unit *u = exact ? node_winner(n, side) : NULL;

		if (u && u->subject->ep) {
			out->local = true;
			out->version[side] = u->subject->ep->version[side];
			out->id[f][side] = u->holder.id[side];
		} else if (reserved) {
			return false;
		} else {
			out->id[f][side] = u ? u->holder.id[side] : world_at(p, n, side);
		}
	}
	return face_speaks(out, f);
}

bool policy_effect_flow(const struct policy *p, const union tw_addr *from, const union tw_addr *to,
			uint8_t proto, uint16_t port, bool *before, bool *after)
{
	unsigned int f = !addr_is4(from);
	struct face a, b;
	bool allow[2];

	if (!face_of(p, from, &a) || !face_of(p, to, &b))
		return false;
	for (enum side side = CUR; side <= NEXT; side++) {
		struct walk out = walk_begin(p, a.version[side], TW_EGRESS, b.id[f][side], side);
		struct walk in = walk_begin(p, b.version[side], TW_INGRESS, a.id[f][side], side);

		walk_find(&out, (uint32_t)proto << 16 | port);
		walk_find(&in, (uint32_t)proto << 16 | port);
		allow[side] = walk_allows(&out) && walk_allows(&in);
	}
	*before = allow[CUR];
	*after = allow[NEXT];
	return true;
}
