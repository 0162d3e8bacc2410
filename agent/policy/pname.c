/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Names of ports in egress rules. A name stands for the numbers that pods give it: each number
 * is a port of its own in the compiled rules, open to the pods that mean this number by it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

static bool port_has_name(const struct pod_port *port, uint8_t proto, const char *name)
{
	return port->proto == proto && port->name && !strcmp(port->name, name);
}

/* Of several containers with one name the first counts. */
uint16_t port_resolve(const struct view *view, uint8_t proto, const char *name)
{
	for (size_t i = 0; i < view->n_ports; i++)
		if (port_has_name(&view->ports[i], proto, name))
			return view->ports[i].port;
	return 0;
}

static struct pnumber *number_get(struct pname *n, uint16_t port)
{
	for (uint32_t i = 0; i < n->n_numbers; i++)
		if (n->numbers[i].port == port)
			return &n->numbers[i];
	if (n->n_numbers == n->cap_numbers) {
		uint32_t cap = n->cap_numbers ? n->cap_numbers * 2 : 2;
		struct pnumber *v = realloc(n->numbers, cap * sizeof(*v));

		if (!v)
			return NULL;
		n->numbers = v;
		n->cap_numbers = cap;
	}
	n->numbers[n->n_numbers] = (struct pnumber){ .port = port };
	return &n->numbers[n->n_numbers++];
}

static uint16_t resolve_side(const struct pname *n, const struct subject *s, enum side side)
{
	const struct view *view = &s->view[side];

	return view->present ? port_resolve(view, n->proto, n->name) : 0;
}

/* A subject whose view has changed: the counts of the numbers follow. */
static int pname_move(struct policy *p, struct pname *n, struct subject *s)
{
	uint16_t was = resolve_side(n, s, CUR), is = resolve_side(n, s, NEXT);
	struct pnumber *number;

	if (was == is)
		return 0;
	if (txn_touch(p, pnames, n) || (!was && vec_push(&n->subjects, s)))
		return -ENOMEM;
	if (was)
		number_get(n, was)->subjects.next--;
	if (!is)
		return 0;
	number = number_get(n, is);
	if (!number)
		return -ENOMEM;
	number->subjects.next++;
	return 0;
}

static struct hkey pname_key(const struct policy *p, uint8_t proto, const char *name)
{
	struct hash h = hash_begin(&p->secret, HASH_PORT);

	hash_word(&h, proto);
	hash_text(&h, name);
	return hash_end(&h);
}

struct pname *pname_first(const struct policy *p, const struct view *view, size_t i)
{
	const struct pod_port *port = &view->ports[i];
	struct hkey key;

	if (!port->name)
		return NULL;
	for (size_t j = 0; j < i; j++)
		if (port_has_name(&view->ports[j], port->proto, port->name))
			return NULL;
	key = pname_key(p, port->proto, port->name);
	return table_get(&p->pnames, &key);
}

/* Names that the subject has on NEXT, and those that it has on CUR only. */
static int view_pnames(struct policy *p, struct subject *s, enum side side)
{
	const struct view *view = &s->view[side];
	int err = 0;

	for (size_t i = 0; i < view->n_ports && !err; i++) {
		struct pname *n = pname_first(p, view, i);

		if (n && (side == NEXT) == !!resolve_side(n, s, NEXT))
			err = pname_move(p, n, s);
	}
	return err;
}

int pname_subject(struct policy *p, struct subject *s)
{
	int err;

	if (!p->pnames.n)
		return 0;
	err = view_pnames(p, s, NEXT);
	return err ? err : view_pnames(p, s, CUR);
}

/* A new name: who bears it already. Nothing of it is of the old side. */
static int pname_fill(struct policy *p, struct pname *n)
{
	for (uint32_t i = 0; i < p->subjects.n; i++) {
		struct subject *s = p->subjects.v[i];
		uint16_t is = resolve_side(n, s, NEXT);
		struct pnumber *number;

		if (!is)
			continue;
		number = number_get(n, is);
		if (!number || vec_push(&n->subjects, s))
			return -ENOMEM;
		number->subjects.next++;
	}
	return 0;
}

struct pname *pname_get(struct policy *p, uint8_t proto, const char *name)
{
	struct hkey key = pname_key(p, proto, name);
	struct pname *n = table_get(&p->pnames, &key);

	if (n)
		return n;
	if (vec_reserve(&p->txn.pnames, 1))
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->key = key;
	n->proto = proto;
	n->name = strdup(name);
	if (!n->name || table_put(&p->pnames, n)) {
		free(n->name);
		free(n);
		return NULL;
	}
	txn_touch(p, pnames, n);
	return pname_fill(p, n) ? NULL : n;
}

void pname_free(struct policy *p, struct pname *n)
{
	table_del(&p->pnames, n);
	vec_clear(&n->subjects);
	vec_clear(&n->atoms);
	vec_clear(&n->policies);
	free(n->numbers);
	free(n->name);
	free(n);
}

bool pname_changed(const struct pname *n)
{
	for (uint32_t i = 0; i < n->n_numbers; i++)
		if (!n->numbers[i].subjects.cur != !n->numbers[i].subjects.next)
			return true;
	return false;
}
