/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Policies → rules: spans of ports with the groups of peers that pass. A policy that selects no
 * endpoint of this node has no rules, and its peers make no atoms.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define PORTS_ALL 0xffffffu
#define RULES_ROOM 128

/* ---- staging -------------------------------------------------------------------------------- */

static struct pol *pol_get(struct policy *p, const struct object *obj)
{
	struct hkey key = name_key(p, OBJECT_NETWORKPOLICY, obj->ns, obj->name);
	struct pol *pol = table_get(&p->pols, &key);
	struct space *space;

	if (pol)
		return txn_touch(p, spaces, pol->space) || txn_touch(p, pols, pol) ? NULL : pol;
	space = space_get(p, obj->ns);
	if (!space || txn_touch(p, spaces, space) || vec_reserve(&space->policies, 1) ||
	    vec_reserve(&p->txn.pols, 1))
		return NULL;
	pol = calloc(1, sizeof(*pol));
	if (!pol)
		return NULL;
	pol->key = key;
	pol->space = space;
	pol->at = space->policies.n;
	if (table_put(&p->pols, pol)) {
		free(pol);
		return NULL;
	}
	space->users++;
	vec_push(&space->policies, pol);
	txn_touch(p, pols, pol);
	return pol;
}

static int pol_select(struct policy *p, struct pol *pol)
{
	const struct object *obj = pol->obj[NEXT];
	struct atom *old = pol->select[CUR], *new = NULL;
	int err = 0;

	pol->stale = true;
	if (obj)
		err = atom_select(p, pol->space->name, &obj->policy.pods, &new);
	if (!err && new)
		err = atom_ref(p, new);
	if (!err && new && new != old)
		err = vec_push(&new->policies, pol);
	if (!err && old)
		err = atom_unref(p, old);
	if (!err)
		pol->select[NEXT] = new;
	return err;
}

int rules_stage(struct policy *p, const struct policy_change *change)
{
	struct pol *pol;
	int err = 0;

	for (size_t i = 0; i < change->n_remove; i++) {
		if (change->remove[i]->kind != OBJECT_NETWORKPOLICY)
			continue;
		pol = pol_get(p, change->remove[i]);
		if (!pol)
			return -ENOMEM;
		pol->obj[NEXT] = NULL;
	}
	for (size_t i = 0; i < change->n_upsert; i++) {
		if (change->upsert[i]->kind != OBJECT_NETWORKPOLICY)
			continue;
		pol = pol_get(p, change->upsert[i]);
		if (!pol)
			return -ENOMEM;
		pol->obj[NEXT] = change->upsert[i];
	}
	for (uint32_t i = 0; i < p->txn.pols.n && !err; i++)
		err = pol_select(p, p->txn.pols.v[i]);
	return err;
}

/* ---- compiling one policy ------------------------------------------------------------------- */

struct maker {
	struct policy *p;
	struct pol *pol;
	struct rules *rules;
	enum tw_direction dir;
	uint32_t cap; /* of spans */
	uint32_t cap_takes;
};

struct users *users_of(struct policy *p, struct atom *a, enum tw_direction dir)
{
	return a ? &a->users[dir] : &p->anybody[dir];
}

static int rules_take(struct maker *m, struct atom *a, uint32_t first, uint32_t last)
{
	struct users *users = users_of(m->p, a, m->dir);
	struct user *user = users->n ? &users->v[users->n - 1] : NULL;
	struct rules *r = m->rules;

	if (user && user->rules == r) {
		user->first = user->first < first ? user->first : first;
		user->last = user->last > last ? user->last : last;
		return 0;
	}
	if (array_room(&r->takes[m->dir], r->n_takes[m->dir], &m->cap_takes, sizeof(struct take)) ||
	    array_room(&users->v, users->n, &users->cap, sizeof(*user)))
		return -ENOMEM;
	users->v[users->n] = (struct user){ .rules = r,
					    .first = first,
					    .last = last,
					    .take = r->n_takes[m->dir],
					    .select = m->pol->select[NEXT]->seq };
	r->takes[m->dir][r->n_takes[m->dir]++] = (struct take){ a, users->n++ };
	return 0;
}

/* The group (NULL: everybody) passes somewhere between these ports. */
static int rules_take_group(struct maker *m, const struct group *group, uint32_t first,
			    uint32_t last)
{
	int err = group ? 0 : rules_take(m, NULL, first, last);

	for (uint32_t i = 0; group && i < group->n && !err; i++)
		err = rules_take(m, group->atoms[i], first, last);
	return err;
}

static void rules_untake(struct policy *p, struct rules *r, enum tw_direction dir)
{
	for (uint32_t i = 0; i < r->n_takes[dir]; i++) {
		const struct take *take = &r->takes[dir][i];
		struct users *users = users_of(p, take->atom, dir);
		struct user *place = &users->v[take->at];

		*place = users->v[--users->n]; /* the last one moves here */
		place->rules->takes[dir][place->take].at = take->at;
	}
	free(r->takes[dir]);
}

static int atom_order(const void *x, const void *y)
{
	const struct atom *const *a = x, *const *b = y;

	return (*a)->seq<(*b)->seq ? -1 : (*a)->seq>(*b)->seq;
}

static int rules_take_atom(struct maker *m, struct atom *a)
{
	int err = vec_reserve(&m->rules->atoms, 1);

	if (!err)
		err = atom_ref(m->p, a);
	if (!err)
		vec_push(&m->rules->atoms, a);
	return err;
}

/* The peers of a rule; with a named port only those pods that mean `port` by it. */
static int make_group(struct maker *m, const struct policy_rule *rule, struct pname *pname,
		      uint16_t port, const struct group **out)
{
	struct group *g = arena_alloc(&m->rules->mem, sizeof(*g));
	size_t n = rule->n_peers ? rule->n_peers : 1;
	int err = 0;

	if (!g)
		return -ENOMEM;
	g->atoms = arena_array(&m->rules->mem, n, sizeof(struct atom *));
	if (!g->atoms)
		return -ENOMEM;
	for (size_t i = 0; i < n && !err; i++) {
		const struct policy_peer *peer = rule->n_peers ? &rule->peers[i] : NULL;
		struct atom *a;

		err = atom_peer(m->p, m->pol->space->name, peer, pname, port, &a);
		if (!err)
			err = rules_take_atom(m, a);
		if (!err)
			g->atoms[i] = a;
	}
	if (err)
		return err;
	qsort(g->atoms, n, sizeof(struct atom *), atom_order);
	for (size_t i = 0; i < n; i++) {
		if (g->n && g->atoms[g->n - 1] == g->atoms[i])
			continue;
		g->atoms[g->n++] = g->atoms[i];
		hkey_add(&g->key, &g->atoms[i]->key);
	}
	*out = g;
	return 0;
}

static int add_span(struct maker *m, const struct span *span)
{
	struct rules *r = m->rules;

	if (array_room(&r->spans[m->dir], r->n_spans[m->dir], &m->cap, sizeof(*span)))
		return -ENOMEM;
	r->spans[m->dir][r->n_spans[m->dir]++] = *span;
	return 0;
}

static int make_egress_name(struct maker *m, const struct policy_rule *rule,
			    const struct policy_port *port)
{
	struct pname *n = pname_get(m->p, port->proto, port->name);
	int err = 0;

	if (!n || vec_reserve(&m->rules->pnames, 1) || vec_reserve(&n->policies, 1) ||
	    txn_touch(m->p, pnames, n))
		return -ENOMEM;
	n->refs.next++;
	vec_push(&m->rules->pnames, n);
	vec_push(&n->policies, m->pol);
	for (uint32_t i = 0; i < n->n_numbers && !err; i++) {
		uint16_t number = n->numbers[i].port;
		struct span span = { .first = (uint32_t)port->proto << 16 | number };

		if (!n->numbers[i].subjects.next)
			continue;
		span.last = span.first;
		err = make_group(m, rule, n, number, &span.group);
		if (!err)
			err = add_span(m, &span);
		if (!err)
			err = rules_take_group(m, span.group, span.first, span.last);
	}
	return err;
}

bool span_resolve(struct span *span, const struct view *view)
{
	uint32_t proto = span->first >> 16;
	uint16_t port;

	if (!span->name)
		return true;
	port = port_resolve(view, (uint8_t)proto, span->name);
	span->first = span->last = proto << 16 | port;
	return port;
}

static int make_rule(struct maker *m, const struct policy_rule *rule)
{
	const struct group *group = NULL;
	int err = rule->n_peers ? make_group(m, rule, NULL, 0, &group) : 0;
	uint32_t first = PORTS_ALL, last = 0;

	if (!err && !rule->n_ports) {
		first = 0;
		last = PORTS_ALL;
		err = add_span(m, &(struct span){ .last = PORTS_ALL, .group = group });
	}
	for (size_t i = 0; i < rule->n_ports && !err; i++) {
		const struct policy_port *port = &rule->ports[i];
		uint32_t proto = (uint32_t)port->proto << 16;
		struct span span = {
			.first = proto | port->first,
			.last = proto | (port->any ? 0xffff : port->last),
			.group = group,
		};

		if (port->name && m->dir == TW_EGRESS) {
			err = make_egress_name(m, rule, port);
			continue;
		}
		span.name = port->name;
		m->rules->own_names |= !!port->name;
		err = add_span(m, &span);
		/* A name may stand for any port. */
		if (port->name)
			span.last = proto | 0xffff;
		first = first < span.first ? first : span.first;
		last = last > span.last ? last : span.last;
	}
	return err || first > last ? err : rules_take_group(m, group, first, last);
}

void rules_free(struct policy *p, struct rules *r)
{
	if (!r)
		return;
	for (unsigned int dir = 0; dir < 2; dir++) {
		rules_untake(p, r, (enum tw_direction)dir);
		free(r->spans[dir]);
	}
	vec_clear(&r->atoms);
	vec_clear(&r->pnames);
	arena_clear(&r->mem);
	free(r);
}

static int rules_make(struct policy *p, struct pol *pol)
{
	const struct network_policy *np = &pol->obj[NEXT]->policy;
	const struct {
		const struct policy_rule *v;
		size_t n;
	} lists[2] = { [TW_INGRESS] = { np->in, np->n_in }, [TW_EGRESS] = { np->out, np->n_out } };
	struct maker m = { .p = p, .pol = pol };
	int err = 0;

	m.rules = calloc(1, sizeof(*m.rules));
	if (!m.rules)
		return -ENOMEM;
	pol->rules[NEXT] = m.rules; /* also when it stays unfinished: settling frees it */
	m.rules->pol = pol;
	m.rules->serial = ++p->serial;
	m.rules->mem.next = RULES_ROOM;
	m.rules->enabled[TW_INGRESS] = np->ingress;
	m.rules->enabled[TW_EGRESS] = np->egress;
	for (unsigned int dir = 0; dir < 2 && !err; dir++) {
		m.dir = (enum tw_direction)dir;
		m.cap = m.cap_takes = 0;
		for (size_t i = 0; m.rules->enabled[dir] && i < lists[dir].n && !err; i++)
			err = make_rule(&m, &lists[dir].v[i]);
	}
	return err;
}

/* ---- which policies, which endpoints -------------------------------------------------------- */

static int ep_dirty(struct policy *p, struct ep *ep)
{
	ep->dirty = true;
	return txn_touch(p, eps, ep);
}

static bool pol_is_active(const struct pol *pol)
{
	const struct atom *a = pol->select[NEXT];

	for (uint32_t i = 0; a && i < a->subjects.n; i++) {
		const struct subject *s = a->subjects.v[i];

		if (atoms_have(&s->select[NEXT], a))
			return true;
	}
	return false;
}

static int select_dirty(struct policy *p, const struct atom *a)
{
	int err = 0;

	for (uint32_t i = 0; a && i < a->subjects.n && !err; i++) {
		const struct subject *s = a->subjects.v[i];

		err = ep_dirty(p, s->ep);
	}
	return err;
}

static int pol_compile(struct policy *p, struct pol *pol)
{
	bool active = pol_is_active(pol);
	struct rules *old = pol->rules[CUR];
	int err = 0;

	if (active && old && !pol->stale)
		return 0;
	pol->rules[NEXT] = NULL;
	if (active)
		err = rules_make(p, pol);
	if (err || old == pol->rules[NEXT])
		return err;
	for (uint32_t i = 0; old && i < old->atoms.n && !err; i++)
		err = atom_unref(p, old->atoms.v[i]);
	for (uint32_t i = 0; old && i < old->pnames.n && !err; i++) {
		struct pname *n = old->pnames.v[i];

		err = txn_touch(p, pnames, n);
		n->refs.next--;
	}
	if (!err)
		err = select_dirty(p, pol->select[CUR]);
	if (!err && pol->select[NEXT] != pol->select[CUR])
		err = select_dirty(p, pol->select[NEXT]);
	return err;
}

/* Policies of atoms that are in one of the lists only begin or cease to select an endpoint. */
static int touch_policies(struct policy *p, const struct atoms *list, const struct atoms *other)
{
	int err = 0;

	for (uint32_t i = 0; i < list->n; i++) {
		const struct atom *a = list->v[i];

		if (atoms_have(other, a))
			continue;
		for (uint32_t j = 0; j < a->policies.n && !err; j++) {
			struct pol *pol = a->policies.v[j];

			err = txn_touch(p, pols, pol);
		}
	}
	return err;
}

bool ports_equal(const struct view *a, const struct view *b)
{
	if (a->n_ports != b->n_ports)
		return false;
	for (size_t i = 0; i < a->n_ports; i++) {
		const struct pod_port *x = &a->ports[i], *y = &b->ports[i];

		if (x->port != y->port || x->proto != y->proto || !x->name != !y->name ||
		    (x->name && strcmp(x->name, y->name)))
			return false;
	}
	return true;
}

static int subject_dirty(struct policy *p, struct subject *s)
{
	bool same = s->select[CUR].v == s->select[NEXT].v &&
		    s->view[CUR].present == s->view[NEXT].present;
	int err = 0;

	if (!same) {
		err = touch_policies(p, &s->select[CUR], &s->select[NEXT]);
		if (!err)
			err = touch_policies(p, &s->select[NEXT], &s->select[CUR]);
	}
	if (!err && (!same || !ports_equal(&s->view[CUR], &s->view[NEXT])))
		err = ep_dirty(p, s->ep);
	return err;
}

int rules_compile(struct policy *p)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.subjects.n && !err; i++) {
		struct subject *s = p->txn.subjects.v[i];

		if (s->ep)
			err = subject_dirty(p, s);
	}
	for (uint32_t i = 0; i < p->txn.pnames.n && !err; i++) {
		const struct pname *n = p->txn.pnames.v[i];

		for (uint32_t j = 0; pname_changed(n) && j < n->policies.n && !err; j++) {
			struct pol *pol = n->policies.v[j];

			pol->stale = true;
			err = txn_touch(p, pols, pol);
		}
	}
	for (uint32_t i = 0; i < p->txn.pols.n && !err; i++)
		err = pol_compile(p, p->txn.pols.v[i]);
	return err;
}
