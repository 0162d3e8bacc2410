/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which atoms match which subjects. Atoms lie in buckets by a label that a subject must have to
 * match, and by the namespace or one of its labels; a subject looks into the buckets of what it
 * has. So neither a new pod meets all atoms, nor a new atom in a large change all pods.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define LINKS_MAX 64 /* buckets of one atom */

/* ---- buckets -------------------------------------------------------------------------------- */

/* Where a label is looked for: key NULL is "anywhere". */
struct part {
	const char *space; /* a namespace by name, instead of a label */
	const char *key;
	const char *value;
};

static void hash_part(struct hash *h, const struct part *part)
{
	hash_word(h, part->space ? 1 : part->key ? 2 : 3);
	if (part->space)
		hash_text(h, part->space);
	if (part->key) {
		hash_text(h, part->key);
		hash_text(h, part->value);
	}
}

static struct hkey bucket_key(const struct policy *p, enum atom_kind kind, const struct part *ns,
			      const struct part *pod)
{
	struct hash h = hash_begin(&p->secret, HASH_BUCKET);

	hash_word(&h, kind);
	hash_part(&h, ns);
	hash_part(&h, pod);
	return hash_end(&h);
}

static struct bucket *bucket_get(struct policy *p, const struct hkey *key)
{
	struct bucket *b = table_get(&p->buckets, key);

	if (b)
		return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->key = *key;
	if (table_put(&p->buckets, b)) {
		free(b);
		return NULL;
	}
	return b;
}

/* The term with the fewest values that a label must be one of; NULL: none. */
static const struct selector_term *narrow_term(const struct selector *sel)
{
	const struct selector_term *best = NULL;

	for (size_t i = 0; i < sel->n; i++)
		if (sel->v[i].op == SELECTOR_IN && (!best || sel->v[i].n_values < best->n_values))
			best = &sel->v[i];
	return best;
}

static int link_add(struct policy *p, struct atom *a, const struct part *ns, const struct part *pod)
{
	struct hkey key = bucket_key(p, a->kind, ns, pod);
	struct bucket *b = bucket_get(p, &key);
	struct link *link = &a->links[a->n_links];

	if (!b)
		return -ENOMEM;
	*link = (struct link){ .atom = a, .bucket = b, .next = b->head };
	if (b->head)
		b->head->prev = link;
	b->head = link;
	a->n_links++;
	return 0;
}

int index_add(struct policy *p, struct atom *a)
{
	const struct selector_term *ns = a->match.space ? NULL : narrow_term(&a->match.ns);
	const struct selector_term *pod = narrow_term(&a->match.pod);
	size_t n_ns = ns ? ns->n_values : 1, n_pod = pod ? pod->n_values : 1;
	int err = 0;

	if (n_ns > LINKS_MAX) {
		ns = NULL;
		n_ns = 1;
	}
	if (n_ns * n_pod > LINKS_MAX) {
		pod = NULL;
		n_pod = 1;
	}
	a->links = calloc(n_ns * n_pod, sizeof(*a->links));
	if (!a->links)
		return -ENOMEM;
	for (size_t i = 0; i < n_ns; i++) {
		const struct part ns_part = {
			.space = a->match.space,
			.key = ns ? ns->key : NULL,
			.value = ns ? ns->values[i] : NULL,
		};

		for (size_t j = 0; j < n_pod && !err; j++) {
			const struct part pod_part = {
				.key = pod ? pod->key : NULL,
				.value = pod ? pod->values[j] : NULL,
			};

			err = link_add(p, a, &ns_part, &pod_part);
		}
	}
	return err;
}

void index_del(struct policy *p, struct atom *a)
{
	for (uint32_t i = 0; i < a->n_links; i++) {
		struct link *link = &a->links[i];
		struct bucket *b = link->bucket;

		if (link->next)
			link->next->prev = link->prev;
		if (link->prev)
			link->prev->next = link->next;
		else
			b->head = link->next;
		if (!b->head) {
			table_del(&p->buckets, b);
			free(b);
		}
	}
	free(a->links);
	a->links = NULL;
	a->n_links = 0;
}

/* ---- matching ------------------------------------------------------------------------------- */

static int atom_order(const void *x, const void *y)
{
	const struct atom *const *a = x, *const *b = y;

	return (*a)->seq<(*b)->seq ? -1 : (*a)->seq>(*b)->seq;
}

static int bucket_match(struct policy *p, const struct subject *s, enum atom_kind kind,
			const struct part *ns, const struct part *pod, struct vec *out)
{
	struct hkey key = bucket_key(p, kind, ns, pod);
	const struct bucket *b = table_get(&p->buckets, &key);
	int err = 0;

	for (const struct link *link = b ? b->head : NULL; link && !err; link = link->next)
		if (atom_matches(link->atom, s, NEXT))
			err = vec_push(out, link->atom);
	return err;
}

/* Buckets of one namespace part: with each label of the pod, and with none. */
static int row_match(struct policy *p, const struct subject *s, enum atom_kind kind,
		     const struct part *ns, struct vec *out)
{
	const struct labels *labels = s->view[NEXT].labels;
	const struct part any = {};
	int err = bucket_match(p, s, kind, ns, &any, out);

	for (size_t i = 0; i < labels->n && !err; i++) {
		const struct part pod = { .key = labels->v[i].key, .value = labels->v[i].value };

		err = bucket_match(p, s, kind, ns, &pod, out);
	}
	return err;
}

static int subject_collect(struct policy *p, const struct subject *s, enum atom_kind kind,
			   struct vec *out)
{
	const struct labels *labels = space_labels(s->space, NEXT);
	const struct part name = { .space = s->space->name }, any = {};
	int err = row_match(p, s, kind, &name, out);

	if (err || kind == ATOM_SELECT)
		return err;
	err = row_match(p, s, kind, &any, out);
	for (size_t i = 0; i < labels->n && !err; i++) {
		const struct part ns = { .key = labels->v[i].key, .value = labels->v[i].value };

		err = row_match(p, s, kind, &ns, out);
	}
	return err;
}

static struct atoms *subject_list(struct subject *s, enum atom_kind kind)
{
	return kind == ATOM_SELECT ? s->select : s->peer;
}

static void list_drop_next(struct atoms *list)
{
	if (list[NEXT].v != list[CUR].v)
		free(list[NEXT].v);
	list[NEXT] = list[CUR];
}

/* Puts `n` atoms, sorted, in the place of the NEXT list; the atoms learn of it. */
static int subject_set(struct policy *p, struct subject *s, enum atom_kind kind, struct atom **v,
		       uint32_t n)
{
	struct atoms *list = subject_list(s, kind);
	struct atoms next = {};
	int err = subject_touch(p, s);

	if (err)
		return err;
	if (n) {
		next.v = malloc(n * sizeof(struct atom *));
		if (!next.v)
			return -ENOMEM;
		memcpy(next.v, v, n * sizeof(struct atom *));
		next.n = n;
	}
	for (uint32_t i = 0; i < n && !err; i++)
		if (!atoms_have(&list[CUR], v[i]) && !atoms_have(&list[NEXT], v[i]))
			err = vec_push(&v[i]->subjects, s);
	list_drop_next(list);
	list[NEXT] = next;
	return err;
}

static bool atoms_equal(const struct atoms *list, struct atom *const *v, uint32_t n)
{
	return list->n == n && (!n || !memcmp(list->v, v, n * sizeof(*v)));
}

/* All atoms of the kind anew. */
static int subject_match(struct policy *p, struct subject *s, enum atom_kind kind)
{
	struct atoms *list = subject_list(s, kind);
	struct vec found = {};
	int err = 0;

	if (s->view[NEXT].present && (s->ep || kind == ATOM_PEER))
		err = subject_collect(p, s, kind, &found);
	if (!err && found.n)
		qsort(found.v, found.n, sizeof(*found.v), atom_order);
	if (!err && !atoms_equal(&list[NEXT], (struct atom **)found.v, found.n))
		err = subject_set(p, s, kind, (struct atom **)found.v, found.n);
	vec_clear(&found);
	return err;
}

/* One new atom, behind the others because its seq is higher. */
static int subject_try(struct policy *p, struct subject *s, struct atom *a)
{
	struct atoms *list = &subject_list(s, a->kind)[NEXT];
	struct atom **v;
	int err;

	if (!s->view[NEXT].present || (!s->ep && a->kind == ATOM_SELECT) ||
	    !atom_matches(a, s, NEXT) || atoms_have(list, a))
		return 0;
	v = malloc((list->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	if (list->n)
		memcpy(v, list->v, list->n * sizeof(*v));
	v[list->n] = a;
	err = subject_set(p, s, a->kind, v, list->n + 1);
	free(v);
	return err;
}

static int atom_match(struct policy *p, struct atom *a)
{
	struct hkey key;
	const struct vec *subjects = &p->subjects;
	int err = 0;

	if (a->match.space) {
		key = name_key(p, OBJECT_NAMESPACE, "", a->match.space);
		const struct space *space = table_get(&p->spaces, &key);

		if (!space)
			return 0;
		subjects = &space->subjects;
	}
	for (uint32_t i = 0; i < subjects->n && !err; i++)
		err = subject_try(p, subjects->v[i], a);
	return err;
}

static int match_all(struct policy *p, enum atom_kind kind, const struct vec *fresh)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.subjects.n && !err; i++) {
		struct subject *s = p->txn.subjects.v[i];

		if (s->moved)
			err = subject_match(p, s, kind);
	}
	if (fresh->n > POLICY_FEW) {
		for (uint32_t i = 0; i < p->subjects.n && !err; i++)
			err = subject_match(p, p->subjects.v[i], kind);
		return err;
	}
	for (uint32_t i = 0; i < fresh->n && !err; i++)
		err = atom_match(p, fresh->v[i]);
	return err;
}

int match_select(struct policy *p)
{
	return match_all(p, ATOM_SELECT, &p->txn.new_select);
}

int match_peers(struct policy *p)
{
	return match_all(p, ATOM_PEER, &p->txn.new_peer);
}
