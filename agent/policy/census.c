/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How much of everything there is, and what each identity stands for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

/* ---- counts --------------------------------------------------------------------------------- */

static uint32_t count_words(const struct node *n)
{
	if (!n)
		return 0;
	return !!n->word + count_words(n->child[0]) + count_words(n->child[1]);
}

void policy_stats_get(const struct policy *p, struct policy_stats *out)
{
	const struct pod_entry *pod;
	const struct space *space;
	const struct set *set;
	struct policy_stats res = {
		.policies = p->pols.n,
		.identities = p->identities.n,
		.sets = p->sets.n,
		.versions = p->versions.n,
		.atoms = p->atoms.n,
		.prefixes = count_words(p->root[0]) + count_words(p->root[1]),
	};

	for (uint32_t i = 0; (pod = table_next(&p->pods, &i));)
		res.pods += !!pod->obj[CUR];
	for (uint32_t i = 0; (space = table_next(&p->spaces, &i));)
		res.namespaces += !!space->obj[CUR];
	for (uint32_t i = 0; (set = table_next(&p->sets, &i));)
		res.peers += set->members.cur;
	for (uint32_t i = 0; i < p->n_eps; i++)
		res.endpoints += p->eps[i] && p->eps[i]->subject[CUR];
	*out = res;
}

/* ---- identities ----------------------------------------------------------------------------- */

struct tally {
	struct hkey key; /* of the identity */
	uint32_t id;
	uint32_t addrs;
	uint32_t more; /* addresses that found no room in `what` */
	size_t len;
	char what[192];
};

struct census {
	struct table tallies;
	struct arena mem;
};

/* A pod with an address of each family comes twice; names have no comma in them. */
static bool tally_has(const struct tally *t, const char *name, size_t len)
{
	for (const char *p = t->what; *p; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ",");

		if (n == len && !memcmp(p, name, len))
			return true;
		p += n;
	}
	return false;
}

static int census_add(struct census *c, const struct identity *id, const char *name)
{
	struct tally *t = table_get(&c->tallies, &id->key);
	size_t len = strlen(name);

	if (!t) {
		t = arena_alloc(&c->mem, sizeof(*t));
		if (!t)
			return -ENOMEM;
		t->key = id->key;
		t->id = id->id;
		if (table_put(&c->tallies, t))
			return -ENOMEM;
	}
	t->addrs++;
	if (tally_has(t, name, len))
		return 0;
	if (t->more || t->len + len + 2 > sizeof(t->what) - 24) {
		t->more++;
		return 0;
	}
	t->len += (size_t)snprintf(t->what + t->len, sizeof(t->what) - t->len, "%s%s",
				   t->len ? ", " : "", name);
	return 0;
}

static int census_node(struct census *c, const struct node *n)
{
	char text[64];
	int err = 0;

	if (!n)
		return 0;
	for (const struct unit *u = n->units; u && !err; u = u->next)
		if (u->holder.id[CUR])
			err = census_add(c, u->holder.id[CUR], u->subject->pod->name);
	if (!err && n->world.id[CUR] && n->world.id[CUR]->id != TW_ID_WORLD) {
		prefix_format(&n->prefix, text, sizeof(text));
		err = census_add(c, n->world.id[CUR], text);
	}
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = census_node(c, n->child[i]);
	return err;
}

static int tally_order(const void *a, const void *b)
{
	const struct tally *const *x = a, *const *y = b;

	return (*x)->id<(*y)->id ? -1 : (*x)->id>(*y)->id;
}

static int census_report(const struct census *c,
			 int (*fn)(void *arg, uint32_t identity, const char *what, uint32_t addrs),
			 void *arg)
{
	struct vec sorted = {};
	struct tally *t;
	int err = 0;

	for (uint32_t i = 0; !err && (t = table_next(&c->tallies, &i));)
		err = vec_push(&sorted, t);
	if (!err && sorted.n)
		qsort(sorted.v, sorted.n, sizeof(*sorted.v), tally_order);
	for (uint32_t i = 0; i < sorted.n && !err; i++) {
		t = sorted.v[i];
		if (t->more)
			snprintf(t->what + t->len, sizeof(t->what) - t->len, " and %u more",
				 t->more);
		err = fn(arg, t->id, t->what, t->addrs);
	}
	vec_clear(&sorted);
	return err;
}

int policy_identity_each(const struct policy *p,
			 int (*fn)(void *arg, uint32_t identity, const char *what, uint32_t addrs),
			 void *arg)
{
	struct census c = {};
	int err = census_node(&c, p->root[0]);

	if (!err)
		err = census_node(&c, p->root[1]);
	if (!err)
		err = census_report(&c, fn, arg);
	table_clear(&c.tallies);
	arena_clear(&c.mem);
	return err;
}
