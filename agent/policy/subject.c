/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Namespaces, pods and endpoints as they come in → subjects: what selectors match and
 * addresses belong to. A pod that is a local endpoint has two, one of its Pod object and one of
 * its endpoint; they bear the same labels, and an address of both is the endpoint's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

#define NS_LABEL "kubernetes.io/metadata.name"

static const struct labels no_labels;

struct hkey name_key(const struct policy *p, enum object_kind kind, const char *ns,
		     const char *name)
{
	struct hash h = hash_begin(&p->secret, HASH_NAME);

	hash_word(&h, kind);
	hash_text(&h, ns);
	hash_text(&h, name);
	return hash_end(&h);
}

const struct labels *space_labels(const struct space *s, enum side side)
{
	return s->obj[side] ? &s->obj[side]->labels : &s->implied;
}

/* ---- namespaces and pods -------------------------------------------------------------------- */

struct space *space_get(struct policy *p, const char *name)
{
	struct hkey key = name_key(p, OBJECT_NAMESPACE, "", name);
	struct space *s = table_get(&p->spaces, &key);
	static char label[] = NS_LABEL;

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->key = key;
	s->name = strdup(name);
	s->implied_label = (struct label){ label, s->name };
	s->implied = (struct labels){ &s->implied_label, 1 };
	if (!s->name || table_put(&p->spaces, s)) {
		free(s->name);
		free(s);
		return NULL;
	}
	/* Touched, so that settling looks whether anything came to need it. */
	if (txn_touch(p, spaces, s)) {
		table_del(&p->spaces, s);
		free(s->name);
		free(s);
		return NULL;
	}
	return s;
}

/* With its namespace: what nobody needs any more is found among what is touched. */
static int pod_touch(struct policy *p, struct pod_entry *pod)
{
	int err = txn_touch(p, pods, pod);

	return err ? err : txn_touch(p, spaces, pod->space);
}

static struct pod_entry *pod_get(struct policy *p, const char *ns, const char *name)
{
	struct hkey key = name_key(p, OBJECT_POD, ns, name);
	struct pod_entry *pod = table_get(&p->pods, &key);
	struct space *space;

	if (pod)
		return pod_touch(p, pod) ? NULL : pod;
	space = space_get(p, ns);
	pod = space ? calloc(1, sizeof(*pod)) : NULL;
	if (!pod)
		return NULL;
	pod->key = key;
	pod->space = space;
	if (asprintf(&pod->name, "%s/%s", ns, name) < 0)
		pod->name = NULL;
	if (!pod->name || vec_reserve(&p->txn.pods, 1) || table_put(&p->pods, pod)) {
		free(pod->name);
		free(pod);
		return NULL;
	}
	space->users++;
	return pod_touch(p, pod) ? NULL : pod;
}

int subject_touch(struct policy *p, struct subject *s)
{
	return txn_touch(p, subjects, s);
}

int subject_replace(struct policy *p, struct subject *s)
{
	s->placed = true;
	return subject_touch(p, s);
}

static struct subject *subject_new(struct policy *p, struct pod_entry *pod, struct ep *ep)
{
	struct subject *s;

	if (vec_reserve(&p->subjects, 1) || vec_reserve(&pod->space->subjects, 1) ||
	    vec_reserve(&pod->subjects, 1) || vec_reserve(&p->txn.subjects, 1))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->space = pod->space;
	s->pod = pod;
	s->ep = ep;
	s->at = p->subjects.n;
	s->at_space = pod->space->subjects.n;
	vec_push(&p->subjects, s);
	vec_push(&pod->space->subjects, s);
	if (ep)
		vec_push(&pod->subjects, s);
	else
		pod->subject = s;
	subject_touch(p, s);
	s->moved = true;
	return s;
}

/* Its units, and its places in atoms, are gone already. */
void subject_free(struct policy *p, struct subject *s)
{
	struct subject *last = p->subjects.v[--p->subjects.n];

	p->subjects.v[s->at] = last;
	last->at = s->at;
	last = s->space->subjects.v[--s->space->subjects.n];
	s->space->subjects.v[s->at_space] = last;
	last->at_space = s->at_space;
	if (s->pod->subject == s)
		s->pod->subject = NULL;
	else
		vec_remove(&s->pod->subjects, s);
	vec_clear(&s->units);
	free(s);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

void ep_own_free(struct ep_own *own)
{
	if (own)
		arena_clear(&own->mem);
	free(own);
}

static int own_labels(struct ep_own *own, const struct labels *labels)
{
	own->labels.v = arena_array(&own->mem, labels->n, sizeof(struct label));
	if (!own->labels.v)
		return -ENOMEM;
	for (; own->labels.n < labels->n; own->labels.n++) {
		const struct label *from = &labels->v[own->labels.n];
		struct label *to = &own->labels.v[own->labels.n];

		to->key = arena_copy(&own->mem, from->key, strlen(from->key));
		to->value = arena_copy(&own->mem, from->value, strlen(from->value));
		if (!to->key || !to->value)
			return -ENOMEM;
	}
	return 0;
}

static struct ep_own *own_new(const struct policy_endpoint *from)
{
	static const union tw_addr none;
	const union tw_addr *addrs[] = { &from->addr4, &from->addr6 };
	struct ep_own *own = calloc(1, sizeof(*own));

	if (!own)
		return NULL;
	for (size_t i = 0; i < 2; i++)
		if (memcmp(addrs[i], &none, sizeof(none)))
			own->addr[own->n_addrs++] = *addrs[i];
	if (from->labels && own_labels(own, from->labels)) {
		ep_own_free(own);
		return NULL;
	}
	return own;
}

static struct ep *ep_get(struct policy *p, uint32_t slot)
{
	struct ep *ep;

	if (slot >= p->n_eps) {
		uint32_t n = slot < 64 ? 128 : slot * 2;
		struct ep **eps = realloc(p->eps, n * sizeof(struct ep *));

		if (!eps)
			return NULL;
		memset(eps + p->n_eps, 0, (n - p->n_eps) * sizeof(struct ep *));
		p->eps = eps;
		p->n_eps = n;
	}
	ep = p->eps[slot];
	if (!ep) {
		ep = calloc(1, sizeof(*ep));
		if (!ep)
			return NULL;
		ep->slot = slot;
		if (txn_touch(p, eps, ep)) {
			free(ep);
			return NULL;
		}
		p->eps[slot] = ep;
	}
	return txn_touch(p, eps, ep) ? NULL : ep;
}

static int ep_clear(struct policy *p, struct ep *ep)
{
	struct subject *s = ep->subject[NEXT];

	if (ep->own[NEXT] != ep->own[CUR])
		ep_own_free(ep->own[NEXT]);
	ep->own[NEXT] = NULL;
	ep->subject[NEXT] = NULL;
	if (!s)
		return 0;
	s->moved = true;
	return pod_touch(p, s->pod) ? -ENOMEM : subject_touch(p, s);
}

static int ep_remove(struct policy *p, uint32_t slot)
{
	struct ep *ep = slot < p->n_eps ? p->eps[slot] : NULL;

	if (!ep)
		return 0;
	return txn_touch(p, eps, ep) ? -ENOMEM : ep_clear(p, ep);
}

static struct subject *ep_subject(struct policy *p, struct ep *ep, struct pod_entry *pod)
{
	for (uint32_t i = 0; i < pod->subjects.n; i++) {
		struct subject *s = pod->subjects.v[i];

		if (s->ep == ep)
			return s;
	}
	return subject_new(p, pod, ep);
}

static int ep_upsert(struct policy *p, const struct policy_endpoint *from)
{
	struct pod_entry *pod;
	struct subject *s;
	struct ep *ep;
	int err;

	if (!from->slot || from->slot >= TW_MAX_ENDPOINTS)
		return -EINVAL;
	ep = ep_get(p, from->slot);
	pod = ep ? pod_get(p, from->ns, from->pod) : NULL;
	if (!pod)
		return -ENOMEM;
	err = ep_clear(p, ep);
	if (err)
		return err;
	s = ep_subject(p, ep, pod);
	if (!s || subject_touch(p, s))
		return -ENOMEM;
	ep->own[NEXT] = own_new(from);
	if (!ep->own[NEXT])
		return -ENOMEM;
	ep->subject[NEXT] = s;
	s->moved = true;
	return 0;
}

/* ---- staging -------------------------------------------------------------------------------- */

static int stage_object(struct policy *p, const struct object *obj, const struct object *next)
{
	struct pod_entry *pod;
	struct space *space;

	switch (obj->kind) {
	case OBJECT_POD:
		pod = pod_get(p, obj->ns, obj->name);
		if (!pod)
			return -ENOMEM;
		pod->obj[NEXT] = next;
		if (next && !pod->subject && !subject_new(p, pod, NULL))
			return -ENOMEM;
		return 0;
	case OBJECT_NAMESPACE:
		space = space_get(p, obj->name);
		if (!space || txn_touch(p, spaces, space))
			return -ENOMEM;
		space->obj[NEXT] = next;
		return 0;
	default:
		return 0;
	}
}

int subjects_stage(struct policy *p, const struct policy_change *change)
{
	int err = 0;

	for (size_t i = 0; i < change->n_remove && !err; i++)
		err = stage_object(p, change->remove[i], NULL);
	for (size_t i = 0; i < change->n_upsert && !err; i++)
		err = stage_object(p, change->upsert[i], change->upsert[i]);
	for (size_t i = 0; i < change->n_ep_remove && !err; i++)
		err = ep_remove(p, change->ep_remove[i]);
	for (size_t i = 0; i < change->n_ep_upsert && !err; i++)
		err = ep_upsert(p, &change->ep_upsert[i]);
	return err;
}

static int subject_move(struct policy *p, struct subject *s)
{
	s->moved = true;
	return subject_touch(p, s);
}

static bool labels_equal(const struct labels *a, const struct labels *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i].key, b->v[i].key) || strcmp(a->v[i].value, b->v[i].value))
			return false;
	return true;
}

/* Whom the touched pods and namespaces concern. */
static int subjects_spread(struct policy *p)
{
	int err = 0;

	for (uint32_t i = 0; i < p->txn.pods.n && !err; i++) {
		struct pod_entry *pod = p->txn.pods.v[i];

		if (pod->subject)
			err = subject_move(p, pod->subject);
		for (uint32_t j = 0; j < pod->subjects.n && !err; j++)
			err = subject_move(p, pod->subjects.v[j]);
	}
	for (uint32_t i = 0; i < p->txn.spaces.n && !err; i++) {
		struct space *space = p->txn.spaces.v[i];

		if (labels_equal(space_labels(space, CUR), space_labels(space, NEXT)))
			continue;
		for (uint32_t j = 0; j < space->subjects.n && !err; j++)
			err = subject_move(p, space->subjects.v[j]);
	}
	return err;
}

static void subject_view(struct subject *s)
{
	const struct object *obj = s->pod->obj[NEXT];
	struct view *view = &s->view[NEXT];

	*view = (struct view){ .labels = &no_labels };
	if (s->ep) {
		view->present = s->ep->subject[NEXT] == s;
		if (view->present)
			view->labels = &s->ep->own[NEXT]->labels;
	} else {
		view->present = obj && !obj->pod.host_network && obj->pod.n_addrs;
	}
	if (obj) {
		view->labels = &obj->labels;
		view->ports = obj->pod.ports;
		view->n_ports = obj->pod.n_ports;
	}
}

int subjects_view(struct policy *p)
{
	int err = subjects_spread(p);

	for (uint32_t i = 0; i < p->txn.subjects.n && !err; i++) {
		struct subject *s = p->txn.subjects.v[i];

		subject_view(s);
		err = pname_subject(p, s);
		if (!err)
			err = tree_units(p, s);
	}
	return err;
}
