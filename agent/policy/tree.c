/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The tree of prefixes: blocks of rules and addresses of pods. What a block says of an address
 * is a sum along the way down to it, so a change of a block costs the subtree below it once,
 * however many blocks lie around.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

/* ---- structure ------------------------------------------------------------------------------ */

static unsigned int addr_bit(const union tw_addr *addr, unsigned int i)
{
	return addr->byte[i / 8] >> (7 - i % 8) & 1;
}

static uint8_t common_len(const struct prefix *a, const struct prefix *b)
{
	unsigned int max = a->len < b->len ? a->len : b->len, n = 0;

	while (n + 8 <= max && a->addr.byte[n / 8] == b->addr.byte[n / 8])
		n += 8;
	while (n < max && addr_bit(&a->addr, n) == addr_bit(&b->addr, n))
		n++;
	return (uint8_t)n;
}

/* ::/0 is no prefix of IPv4 addresses, so each family has a tree of its own. */
unsigned int prefix_family(const struct prefix *prefix)
{
	return prefix->len >= 96 && addr_is4(&prefix->addr) ? 0 : 1;
}

static int node_touch(struct policy *p, struct node *n)
{
	int err = n->touched_at ? 0 : vec_push(&p->txn.nodes, n);

	if (!err && !n->touched_at)
		n->touched_at = p->txn.nodes.n;
	return err;
}

static struct node *node_new(struct policy *p, struct node *parent, const struct prefix *prefix)
{
	struct node *n;

	if (vec_reserve(&p->txn.nodes, 1))
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->prefix = *prefix;
	n->parent = parent;
	n->world.world = true;
	if (parent)
		n->sig[CUR] = n->sig[NEXT] = parent->sig[CUR];
	node_touch(p, n);
	return n;
}

static void node_adopt(struct node *n, struct node *child)
{
	n->child[addr_bit(&child->prefix.addr, n->prefix.len)] = child;
	child->parent = n;
}

static struct prefix prefix_cut(const struct prefix *from, uint8_t len)
{
	struct prefix res = { .addr = from->addr, .len = len };

	for (unsigned int i = len; i < 128; i++)
		res.addr.byte[i / 8] &= (uint8_t)~(0x80u >> i % 8);
	return res;
}

/* Puts a node of the length between n and its parent. */
static struct node *node_above(struct policy *p, struct node *n, uint8_t len)
{
	const struct prefix prefix = prefix_cut(&n->prefix, len);
	struct node *parent = n->parent, *above = node_new(p, parent, &prefix);

	if (!above)
		return NULL;
	if (parent)
		node_adopt(parent, above);
	else
		p->root[prefix_family(&n->prefix)] = above;
	node_adopt(above, n);
	return above;
}

static struct node *tree_insert(struct policy *p, const struct prefix *prefix)
{
	struct node *n = p->root[prefix_family(prefix)], *parent = NULL, *leaf;

	while (n) {
		uint8_t common = common_len(prefix, &n->prefix);

		if (common < n->prefix.len) {
			n = node_above(p, n, common);
			if (!n)
				return NULL;
		}
		if (n->prefix.len == prefix->len)
			return n;
		parent = n;
		n = n->child[addr_bit(&prefix->addr, n->prefix.len)];
	}
	leaf = node_new(p, parent, prefix);
	if (!leaf)
		return NULL;
	if (parent)
		node_adopt(parent, leaf);
	else
		p->root[prefix_family(prefix)] = leaf;
	return leaf;
}

/* The longest prefix of the tree that holds the address; NULL: none does. */
const struct node *tree_lookup(const struct policy *p, const union tw_addr *addr)
{
	const struct prefix full = { .addr = *addr, .len = 128 };
	const struct node *n = p->root[prefix_family(&full)], *best = NULL;

	while (n && common_len(&full, &n->prefix) == n->prefix.len) {
		best = n;
		n = n->prefix.len < 128 ? n->child[addr_bit(addr, n->prefix.len)] : NULL;
	}
	return best;
}

/* Takes a node out that stands for nothing; its parent may then stand for nothing either. */
void tree_prune(struct policy *p, struct node *n)
{
	while (n && !n->marks && !n->units && !(n->child[0] && n->child[1])) {
		struct node *parent = n->parent, *child = n->child[0] ? n->child[0] : n->child[1];
		struct node **place = parent ? &parent->child[parent->child[1] == n]
					     : &p->root[prefix_family(&n->prefix)];

		*place = child;
		if (child)
			child->parent = parent;
		if (n->touched_at)
			p->txn.nodes.v[n->touched_at - 1] = NULL;
		free(n);
		n = parent;
	}
}

/* ---- blocks and addresses ------------------------------------------------------------------- */

static int tree_dirty(struct policy *p, struct node *n)
{
	int err = n->dirty ? 0 : vec_push(&p->txn.dirty, n);

	if (!err)
		n->dirty = true;
	return err ? err : node_touch(p, n);
}

static int mark_add(struct policy *p, struct atom *a, const struct prefix *prefix, bool hole)
{
	struct node *n = tree_insert(p, prefix);
	struct mark *m = &a->marks[a->n_marks];

	if (!n)
		return -ENOMEM;
	*m = (struct mark){ .atom = a, .node = n, .next = n->marks, .hole = hole };
	if (n->marks)
		n->marks->prev = m;
	n->marks = m;
	a->n_marks++;
	return tree_dirty(p, n);
}

int tree_block(struct policy *p, struct atom *a)
{
	int err;

	a->marks = calloc(1 + a->block.n_except, sizeof(*a->marks));
	if (!a->marks)
		return -ENOMEM;
	err = mark_add(p, a, &a->block.cidr, false);
	for (uint32_t i = 0; i < a->block.n_except && !err; i++)
		err = mark_add(p, a, &a->block.except[i], true);
	return err;
}

int tree_unblock_soon(struct policy *p, struct atom *a)
{
	int err = 0;

	for (uint32_t i = 0; i < a->n_marks && !err; i++)
		err = tree_dirty(p, a->marks[i].node);
	return err;
}

void tree_unblock(struct policy *p, struct atom *a)
{
	for (uint32_t i = 0; i < a->n_marks; i++) {
		struct mark *m = &a->marks[i];

		if (m->next)
			m->next->prev = m->prev;
		if (m->prev)
			m->prev->next = m->next;
		else
			m->node->marks = m->next;
	}
	free(a->marks);
	a->marks = NULL;
	a->n_marks = 0;
}

static struct unit *unit_get(struct policy *p, struct subject *s, const union tw_addr *addr)
{
	const struct prefix prefix = { .addr = *addr, .len = 128 };
	struct unit *u;
	struct node *n;

	for (uint32_t i = 0; i < s->units.n; i++) {
		u = s->units.v[i];
		if (!memcmp(&u->node->prefix.addr, addr, sizeof(*addr)))
			return u;
	}
	if (vec_reserve(&s->units, 1))
		return NULL;
	n = tree_insert(p, &prefix);
	u = n ? calloc(1, sizeof(*u)) : NULL;
	if (!u)
		return NULL;
	u->subject = s;
	u->node = n;
	u->next = n->units;
	n->units = u;
	vec_push(&s->units, u);
	return u;
}

void unit_unlink(struct unit *u)
{
	struct unit **at = &u->node->units;

	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
}

/* The addresses of a subject whose view has changed. */
int tree_units(struct policy *p, struct subject *s)
{
	const union tw_addr *addrs = NULL;
	size_t n = 0;

	if (s->view[NEXT].present && s->ep) {
		addrs = s->ep->own[NEXT]->addr;
		n = s->ep->own[NEXT]->n_addrs;
	} else if (s->view[NEXT].present) {
		addrs = s->pod->obj[NEXT]->pod.addrs;
		n = s->pod->obj[NEXT]->pod.n_addrs;
	}
	for (uint32_t i = 0; i < s->units.n; i++)
		((struct unit *)s->units.v[i])->present[NEXT] = false;
	for (size_t i = 0; i < n; i++) {
		struct unit *u = unit_get(p, s, &addrs[i]);

		if (!u)
			return -ENOMEM;
		u->present[NEXT] = true;
	}
	return 0;
}

/* Whose an address is, of all who say so: an endpoint's, else the first pod's by name. */
struct unit *node_winner(const struct node *n, enum side side)
{
	struct unit *best = NULL;

	for (struct unit *u = n->units; u; u = u->next) {
		const struct subject *a = u->subject, *b = best ? best->subject : NULL;

		if (!u->present[side])
			continue;
		if (!b || (a->ep && (!b->ep || a->ep->slot < b->ep->slot)) ||
		    (!a->ep && !b->ep && strcmp(a->pod->name, b->pod->name) < 0))
			best = u;
	}
	return best;
}

bool is_reserved(const struct policy *p, const struct prefix *prefix)
{
	for (size_t i = 0; i < p->n_reserved; i++)
		if (prefix->len >= p->reserved[i].len &&
		    prefix_contains(&p->reserved[i], &prefix->addr))
			return true;
	return false;
}

/* ---- judging -------------------------------------------------------------------------------- */

/* Sums of atoms that hold: of either side, of NEXT, of CUR. */
struct sums {
	struct hkey wide;
	struct hkey next;
	struct hkey old;
};

static void sums_add(struct sums *s, const struct atom *a)
{
	if (a->refs.cur || a->refs.next)
		hkey_add(&s->wide, &a->key);
	if (a->refs.next)
		hkey_add(&s->next, &a->key);
	if (a->refs.cur)
		hkey_add(&s->old, &a->key);
}

static void sums_sub(struct sums *s, const struct atom *a)
{
	struct sums one = {};

	sums_add(&one, a);
	hkey_sub(&s->wide, &one.wide);
	hkey_sub(&s->next, &one.next);
	hkey_sub(&s->old, &one.old);
}

/* Atoms of named ports that hold for a unit. */
int port_atoms_each(struct policy *p, struct unit *u,
		    int (*fn)(struct policy *p, struct atom *a, void *arg), void *arg)
{
	struct subject *s = u->subject;
	int err = 0;

	for (uint32_t i = 0; p->pnames.n && i < s->view[NEXT].n_ports && !err; i++) {
		struct pname *n = pname_first(p, &s->view[NEXT], i);

		for (uint32_t j = 0; n && j < n->atoms.n && !err; j++) {
			struct atom *a = n->atoms.v[j];

			if (atom_port_holds(a, s, NEXT, &u->node->prefix.addr))
				err = fn(p, a, arg);
		}
	}
	return err;
}

static int sum_port(struct policy *p, struct atom *a, void *arg)
{
	sums_add(arg, a);
	return 0;
}

static struct sums unit_sums(struct policy *p, struct unit *u, const struct sums *at)
{
	const struct atoms *peers = &u->subject->peer[NEXT];
	struct sums s = *at;

	for (uint32_t i = 0; i < peers->n; i++)
		sums_add(&s, peers->v[i]);
	port_atoms_each(p, u, sum_port, &s);
	return s;
}

static int judge_unit(struct policy *p, struct unit *u, const struct sums *sums, bool wants)
{
	struct work w = { .holder = &u->holder, .stays = wants };
	const struct identity *id = u->holder.id[CUR];

	if (u->subject->ep && txn_touch(p, eps, u->subject->ep))
		return -ENOMEM;
	if (!wants)
		return id ? work_add(p, &w) : 0;
	w.wide = sums->wide;
	w.next = sums->next;
	w.old = sums->old;
	hkey_add(&w.wide, &p->pod_key);
	hkey_add(&w.next, &p->pod_key);
	hkey_add(&w.old, &p->pod_key);
	if (u->subject->ep && id && u->present[CUR] && !hkey_equal(&id->key, &w.old))
		u->subject->ep->turned = true;
	return work_add(p, &w);
}

/*
 * Did the address of a remote pod come to mean something else to the rules that were there?
 * Then live decisions may be wrong. Endpoints have epochs of their own.
 */
static void judge_remote(struct policy *p, const struct node *n, const struct sums *new)
{
	const struct unit *was = node_winner(n, CUR), *is = n->winner;
	struct hkey old = n->sig[CUR];

	if (was && is && !was->subject->ep != !is->subject->ep)
		p->txn.bump_node = true;
	if ((was && was->subject->ep) || (is && is->subject->ep) || (!was && !is))
		return;
	if (was && was->holder.id[CUR]) {
		old = was->holder.id[CUR]->key;
		hkey_sub(&old, &p->pod_key);
	}
	if (!hkey_equal(&old, &new->old))
		p->txn.bump_node = true;
}

static int judge_units(struct policy *p, struct node *n, const struct sums *at, bool reserved)
{
	struct sums won = *at;
	int err = 0;

	n->winner = node_winner(n, NEXT);
	for (struct unit *u = n->units; u && !err; u = u->next) {
		bool wants = u->present[NEXT] && (u->subject->ep || (u == n->winner && !reserved));
		struct sums sums = wants ? unit_sums(p, u, at) : (struct sums){};

		if (u == n->winner && wants)
			won = sums;
		err = judge_unit(p, u, &sums, wants);
	}
	if (n->units && !reserved)
		judge_remote(p, n, &won);
	return err;
}

static int judge_world(struct policy *p, struct node *n, const struct sums *at, bool reserved)
{
	bool free = !n->winner && !reserved;
	struct work w = {
		.holder = &n->world,
		.wide = at->wide,
		.next = at->next,
		.old = at->old,
		.stays = free && n->listed,
		.fades = free && !n->listed,
	};

	n->fading = w.fades && n->world.id[CUR];
	return w.stays || n->world.id[CUR] ? work_add(p, &w) : 0;
}

static int node_judge(struct policy *p, struct node *n, struct sums sums, bool all)
{
	bool reserved = is_reserved(p, &n->prefix);
	int err = node_touch(p, n);

	n->visit = p->serial;
	n->listed = false;
	for (const struct mark *m = n->marks; m; m = m->next) {
		if (m->hole)
			sums_sub(&sums, m->atom);
		else
			sums_add(&sums, m->atom);
		n->listed |= m->atom->refs.next;
	}
	n->sig[NEXT] = sums.next;
	if (!err)
		err = judge_units(p, n, &sums, reserved);
	if (!err)
		err = judge_world(p, n, &sums, reserved);
	if (!all && hkey_equal(&sums.wide, &sums.old) && hkey_equal(&sums.next, &sums.old))
		return err; /* below, nothing is different */
	for (unsigned int i = 0; i < 2 && !err; i++)
		if (n->child[i])
			err = node_judge(p, n->child[i], sums, all);
	return err;
}

static int node_order(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;

	return (int)(*x)->prefix.len - (int)(*y)->prefix.len;
}

static int subjects_dirty(struct policy *p)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.subjects.n; i++) {
		struct subject *s = p->txn.subjects.v[i];

		if (!s->moved && !s->placed && s->peer[CUR].v == s->peer[NEXT].v)
			continue;
		for (uint32_t j = 0; j < s->units.n && !err; j++)
			err = tree_dirty(p, ((struct unit *)s->units.v[j])->node);
	}
	return err;
}

int tree_judge(struct policy *p)
{
	struct vec *dirty = &p->txn.dirty;
	int err = subjects_dirty(p);

	p->serial++;
	for (unsigned int i = 0; p->reserved_changed && i < 2 && !err; i++)
		if (p->root[i])
			err = node_judge(p, p->root[i], (struct sums){}, true);
	if (dirty->n)
		qsort(dirty->v, dirty->n, sizeof(*dirty->v), node_order);
	for (uint32_t i = 0; i < dirty->n && !err; i++) {
		struct node *n = dirty->v[i];
		struct sums sums = {};

		if (n->visit == p->serial)
			continue;
		/* Had anything changed above, the walk from there would have come by. */
		if (n->parent)
			sums.wide = sums.next = sums.old = n->parent->sig[CUR];
		err = node_judge(p, n, sums, false);
	}
	return err;
}
