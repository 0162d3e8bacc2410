/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Atoms: one for each distinct question that rules ask of an address. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define ATOM_ROOM 128 /* first bytes of an atom's arena: most need no more */

/* What makes an atom, borrowed from a policy. */
struct content {
	enum atom_kind kind;
	bool has_match;
	bool has_block;
	struct match match;
	struct block block;
	struct pname *pname;
	uint16_t port;
};

/* ---- keys ----------------------------------------------------------------------------------- */

/* The order of terms does not matter, so their keys are added. */
static void hash_selector(const struct policy *p, struct hash *h, const struct selector *sel)
{
	struct hkey sum = {};

	for (size_t i = 0; i < sel->n; i++) {
		const struct selector_term *term = &sel->v[i];
		struct hash t = hash_begin(&p->secret, HASH_ATOM);
		struct hkey key;

		hash_word(&t, term->op);
		hash_text(&t, term->key);
		for (size_t j = 0; j < term->n_values; j++)
			hash_text(&t, term->values[j]);
		key = hash_end(&t);
		hkey_add(&sum, &key);
	}
	hash_word(h, sel->n);
	hash_key(h, &sum);
}

static void hash_prefix(struct hash *h, const struct prefix *prefix)
{
	hash_word(h, prefix->len);
	hash_word(h, prefix->addr.quad[0]);
	hash_word(h, prefix->addr.quad[1]);
}

static struct hkey content_key(const struct policy *p, const struct content *c)
{
	struct hash h = hash_begin(&p->secret, HASH_ATOM);

	hash_word(&h, c->kind);
	if (c->has_match) {
		hash_word(&h, c->match.space ? 1 : 2);
		if (c->match.space)
			hash_text(&h, c->match.space);
		hash_selector(p, &h, &c->match.ns);
		hash_selector(p, &h, &c->match.pod);
	}
	if (c->has_block) {
		hash_word(&h, 3);
		hash_prefix(&h, &c->block.cidr);
		for (uint32_t i = 0; i < c->block.n_except; i++)
			hash_prefix(&h, &c->block.except[i]);
	}
	if (c->pname) {
		hash_key(&h, &c->pname->key);
		hash_word(&h, c->port);
	}
	return hash_end(&h);
}

/* ---- copies --------------------------------------------------------------------------------- */

static char *copy_text(struct arena *mem, const char *text)
{
	return arena_copy(mem, text, strlen(text));
}

static int copy_selector(struct arena *mem, const struct selector *from, struct selector *to)
{
	to->v = arena_array(mem, from->n, sizeof(*to->v));
	if (!to->v)
		return -ENOMEM;
	for (; to->n < from->n; to->n++) {
		const struct selector_term *f = &from->v[to->n];
		struct selector_term *t = &to->v[to->n];

		t->op = f->op;
		t->key = copy_text(mem, f->key);
		t->values = arena_array(mem, f->n_values, sizeof(char *));
		if (!t->key || !t->values)
			return -ENOMEM;
		for (; t->n_values < f->n_values; t->n_values++) {
			t->values[t->n_values] = copy_text(mem, f->values[t->n_values]);
			if (!t->values[t->n_values])
				return -ENOMEM;
		}
	}
	return 0;
}

/* The policies that an atom comes from may go before it does. */
static int copy_content(struct atom *a, const struct content *c)
{
	int err = 0;

	a->kind = c->kind;
	a->has_match = c->has_match;
	a->has_block = c->has_block;
	a->pname = c->pname;
	a->port = c->port;
	if (c->has_match) {
		if (c->match.space) {
			a->match.space = copy_text(&a->mem, c->match.space);
			err = a->match.space ? 0 : -ENOMEM;
		}
		if (!err)
			err = copy_selector(&a->mem, &c->match.ns, &a->match.ns);
		if (!err)
			err = copy_selector(&a->mem, &c->match.pod, &a->match.pod);
	}
	if (!err && c->has_block) {
		size_t size = c->block.n_except * sizeof(struct prefix);

		a->block = c->block;
		if (size) {
			a->block.except = arena_alloc(&a->mem, size);
			if (!a->block.except)
				return -ENOMEM;
			memcpy(a->block.except, c->block.except, size);
		}
	}
	return err;
}

/* ---- making --------------------------------------------------------------------------------- */

/* The atom and its place where new ones are looked for; nothing else refers to it yet. */
static int atom_new(struct policy *p, const struct content *c, const struct hkey *key,
		    struct atom **out)
{
	struct vec *fresh = c->kind == ATOM_SELECT ? &p->txn.new_select : &p->txn.new_peer;
	struct atom *a;
	int err;

	if (vec_reserve(fresh, 1) || vec_reserve(&p->txn.atoms, 1) ||
	    (c->pname && vec_reserve(&c->pname->atoms, 1)))
		return -ENOMEM;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->key = *key;
	a->seq = p->next_seq++;
	a->mem.next = ATOM_ROOM;
	err = copy_content(a, c);
	if (!err)
		err = table_put(&p->atoms, a);
	if (err) {
		arena_clear(&a->mem);
		free(a);
		return err;
	}
	txn_touch(p, atoms, a);
	if (a->pname)
		vec_push(&a->pname->atoms, a);
	if (a->kind == ATOM_SELECT || a->kind == ATOM_PEER) {
		vec_push(fresh, a);
		err = index_add(p, a);
	}
	*out = a;
	return err;
}

static int atom_get(struct policy *p, const struct content *c, struct atom **out)
{
	struct hkey key = content_key(p, c);
	struct atom *a = table_get(&p->atoms, &key);

	if (!a)
		return atom_new(p, c, &key, out);
	*out = a;
	return 0;
}

int atom_select(struct policy *p, const char *ns, const struct selector *pods, struct atom **out)
{
	const struct content c = {
		.kind = ATOM_SELECT,
		.has_match = true,
		.match = { .space = (char *)(uintptr_t)ns, .pod = *pods },
	};

	return atom_get(p, &c, out);
}

static int prefix_order(const void *a, const void *b)
{
	const struct prefix *x = a, *y = b;
	int cmp = memcmp(x->addr.byte, y->addr.byte, sizeof(x->addr.byte));

	return cmp ? cmp : (int)x->len - (int)y->len;
}

/* Holes of a block as disjoint prefixes: none inside another, so each is left out once. */
static int block_normal(struct policy *p, const struct policy_peer *peer, struct block *out)
{
	size_t size = peer->n_except * sizeof(struct prefix);

	out->cidr = peer->cidr;
	out->except = arena_alloc(&p->txn.mem, size);
	if (!out->except)
		return -ENOMEM;
	out->n_except = 0;
	if (!size)
		return 0;
	memcpy(out->except, peer->except, size);
	qsort(out->except, peer->n_except, sizeof(struct prefix), prefix_order);
	for (size_t i = 0; i < peer->n_except; i++) {
		const struct prefix *e = &out->except[i];

		if (!out->n_except || !prefix_contains(&out->except[out->n_except - 1], &e->addr))
			out->except[out->n_except++] = *e;
	}
	return 0;
}

int atom_peer(struct policy *p, const char *ns, const struct policy_peer *peer, struct pname *pname,
	      uint16_t port, struct atom **out)
{
	struct content c = { .kind = ATOM_PEER, .pname = pname, .port = port };

	if (peer && peer->has_block) {
		int err = block_normal(p, peer, &c.block);

		if (err)
			return err;
		c.kind = ATOM_BLOCK;
		c.has_block = true;
	} else if (peer) {
		c.has_match = true;
		c.match.space = peer->has_namespace ? NULL : (char *)(uintptr_t)ns;
		c.match.ns = peer->ns;
		c.match.pod = peer->pod;
	}
	if (pname)
		c.kind = ATOM_PORT;
	return atom_get(p, &c, out);
}

/* Nothing refers to it any more but the index, the tree and its name of a port. */
void atom_free(struct policy *p, struct atom *a)
{
	table_del(&p->atoms, a);
	index_del(p, a);
	tree_unblock(p, a);
	if (a->pname)
		vec_remove(&a->pname->atoms, a);
	vec_clear(&a->subjects);
	vec_clear(&a->policies);
	vec_clear(&a->sets);
	free(a->users[0].v);
	free(a->users[1].v);
	arena_clear(&a->mem);
	free(a);
}

int atom_ref(struct policy *p, struct atom *a)
{
	if (txn_touch(p, atoms, a))
		return -ENOMEM;
	a->refs.next++;
	return 0;
}

int atom_unref(struct policy *p, struct atom *a)
{
	if (txn_touch(p, atoms, a))
		return -ENOMEM;
	a->refs.next--;
	return 0;
}

/* ---- evaluation ----------------------------------------------------------------------------- */

static bool block_contains(const struct block *b, const union tw_addr *addr)
{
	if (!prefix_contains(&b->cidr, addr))
		return false;
	for (uint32_t i = 0; i < b->n_except; i++)
		if (prefix_contains(&b->except[i], addr))
			return false;
	return true;
}

bool atom_matches(const struct atom *a, const struct subject *s, enum side side)
{
	const struct match *m = &a->match;

	if (m->space ? strcmp(m->space, s->space->name)
		     : !selector_match(&m->ns, space_labels(s->space, side)))
		return false;
	return selector_match(&m->pod, s->view[side].labels);
}

bool atom_port_holds(const struct atom *a, const struct subject *s, enum side side,
		     const union tw_addr *addr)
{
	const struct view *view = &s->view[side];

	if (!view->present || port_resolve(view, a->pname->proto, a->pname->name) != a->port)
		return false;
	if (a->has_match)
		return atom_matches(a, s, side);
	return !a->has_block || block_contains(&a->block, addr);
}

static int subjects_spread(struct policy *p, const struct vec *subjects,
			   int (*fn)(struct policy *p, struct subject *s))
{
	int err = 0;

	for (uint32_t i = 0; i < subjects->n && !err; i++)
		err = fn(p, subjects->v[i]);
	return err;
}

static int atom_spread(struct policy *p, struct atom *a)
{
	bool dies = !a->refs.next;

	switch (a->kind) {
	case ATOM_SELECT: /* who has it in a list must be there when it goes */
		return dies ? subjects_spread(p, &a->subjects, subject_touch) : 0;
	case ATOM_PEER: /* new ones are left to match_peers() */
		return dies ? subjects_spread(p, &a->subjects, subject_replace) : 0;
	case ATOM_PORT:
		return subjects_spread(p, &a->pname->subjects, subject_replace);
	case ATOM_BLOCK:
		return dies ? tree_unblock_soon(p, a) : tree_block(p, a);
	}
	return 0;
}

/*
 * What comes or goes with the atoms of this change: blocks in the tree, and addresses to be
 * judged again.
 */
int atoms_spread(struct policy *p)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.atoms.n && !err; i++) {
		struct atom *a = p->txn.atoms.v[i];

		if (!a->refs.cur != !a->refs.next)
			err = atom_spread(p, a);
	}
	return err;
}
