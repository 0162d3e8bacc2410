/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Text → objects, and the objects themselves. */
#include "object/object.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object/decode.h"
#include "object/names.h"

#define NS_LABEL "kubernetes.io/metadata.name"

/* An object and all it points to but its JSON, which the store may take away. */
struct box {
	struct object object;
	struct arena mem;
};

static const struct kind {
	const char *name;
	const char *api;
	const char *aliases[4];
} kinds[OBJECT_KIND_COUNT] = {
	[OBJECT_POD] = { "Pod", "v1", { "pod", "pods", "po" } },
	[OBJECT_NAMESPACE] = { "Namespace", "v1", { "namespace", "namespaces", "ns" } },
	[OBJECT_NETWORKPOLICY] = { "NetworkPolicy",
				   "networking.k8s.io/v1",
				   { "networkpolicy", "networkpolicies", "netpol", "netpols" } },
	[OBJECT_EDGESERVICE] = { "EdgeService",
				 "towpath.dev/v1",
				 { "edgeservice", "edgeservices" } },
	[OBJECT_EDGEDECAP] = { "EdgeDecap", "towpath.dev/v1", { "edgedecap", "edgedecaps" } },
};

const char *object_kind_name(enum object_kind kind)
{
	return kinds[kind].name;
}

int object_kind_parse(const char *text, enum object_kind *out)
{
	for (unsigned int i = 0; i < OBJECT_KIND_COUNT; i++) {
		for (size_t j = 0; j < 4 && kinds[i].aliases[j]; j++) {
			if (!strcasecmp(text, kinds[i].aliases[j])) {
				*out = (enum object_kind)i;
				return 0;
			}
		}
	}
	return -EINVAL;
}

void object_free(struct object *obj)
{
	struct box *box;

	if (!obj)
		return;
	box = (struct box *)((char *)obj - offsetof(struct box, object));
	free(obj->json);
	arena_clear(&box->mem);
	free(box);
}

void object_list_clear(struct object_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		object_free(list->v[i]);
	free(list->v);
	*list = (struct object_list){};
}

/* ---- metadata ------------------------------------------------------------------------------- */

static int decode_object_name(struct decoder *d, const struct node *node, void *out)
{
	struct object *obj = out;

	return decode_name(d, node,
			   obj->kind == OBJECT_NAMESPACE ? name_check_dns_label
							 : name_check_dns_subdomain,
			   &obj->name);
}

static int decode_object_ns(struct decoder *d, const struct node *node, void *out)
{
	struct object *obj = out;

	if (obj->kind == OBJECT_NAMESPACE)
		return decode_fail(d, node, "expected no namespace in a Namespace");
	if (node->type == NODE_STRING && !node->len)
		return 0; /* as if it were absent */
	return decode_name(d, node, name_check_dns_label, &obj->ns);
}

/* Who it is: all that a request to delete it needs. */
static int decode_names(struct decoder *d, const struct node *node, void *out)
{
	struct object *obj = out;
	const char *ns = obj->kind == OBJECT_NAMESPACE ? "" : "default";
	int err = decode_map(d, node);

	if (!err)
		err = decode_required(d, node, "name", decode_object_name, obj);
	if (!err)
		err = decode_field(d, node, "namespace", decode_object_ns, obj);
	if (!err && !obj->ns) {
		obj->ns = arena_copy(d->mem, ns, strlen(ns));
		err = obj->ns ? 0 : -ENOMEM;
	}
	return err;
}

static int decode_metadata(struct decoder *d, const struct node *node, void *out)
{
	struct object *obj = out;
	int err = decode_names(d, node, obj);

	return err ? err : decode_field(d, node, "labels", decode_labels, &obj->labels);
}

/* The API server gives each Namespace its name as a label, whatever the input says. */
static int namespace_label(struct decoder *d, struct object *obj)
{
	struct labels *labels = &obj->labels;
	size_t at = 0;

	if (!labels->v)
		labels->v = arena_array(d->mem, 1, sizeof(*labels->v));
	if (!labels->v)
		return -ENOMEM;
	while (at < labels->n && strcmp(labels->v[at].key, NS_LABEL) < 0)
		at++;
	if (at == labels->n || strcmp(labels->v[at].key, NS_LABEL)) {
		memmove(labels->v + at + 1, labels->v + at, (labels->n - at) * sizeof(*labels->v));
		labels->v[at].key = arena_copy(d->mem, NS_LABEL, sizeof(NS_LABEL) - 1);
		labels->n++;
	}
	labels->v[at].value = obj->name;
	return labels->v[at].key ? 0 : -ENOMEM;
}

/* ---- documents ------------------------------------------------------------------------------ */

struct parse {
	struct decoder decoder;
	bool names_only;
	struct object_list list;
	size_t cap;
};

static int list_add(struct parse *p, struct object *obj)
{
	if (p->list.n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 4;
		struct object **v = realloc(p->list.v, cap * sizeof(struct object *));

		if (!v)
			return -ENOMEM;
		p->list.v = v;
		p->cap = cap;
	}
	p->list.v[p->list.n++] = obj;
	return 0;
}

static int fill_object(struct decoder *d, const struct node *doc, struct object *obj)
{
	int err = decode_required(d, doc, "metadata", decode_metadata, obj);

	if (!err && obj->kind == OBJECT_NAMESPACE)
		err = namespace_label(d, obj);
	if (!err && obj->kind == OBJECT_POD)
		err = decode_pod(d, doc, obj);
	if (!err && obj->kind == OBJECT_NETWORKPOLICY)
		err = decode_policy(d, doc, obj);
	if (!err && obj->kind == OBJECT_EDGESERVICE)
		err = decode_edge_service(d, doc, obj);
	if (!err && obj->kind == OBJECT_EDGEDECAP)
		err = decode_edge_decap(d, doc, obj);
	if (err)
		return err;
	obj->json = node_json(doc);
	return obj->json ? 0 : -ENOMEM;
}

static int decode_object(struct parse *p, const struct node *doc, enum object_kind kind)
{
	struct box *box = calloc(1, sizeof(*box));
	int err;

	if (!box)
		return -ENOMEM;
	box->object.kind = kind;
	p->decoder.mem = &box->mem;
	if (p->names_only)
		err = decode_required(&p->decoder, doc, "metadata", decode_names, &box->object);
	else
		err = fill_object(&p->decoder, doc, &box->object);
	if (!err)
		err = list_add(p, &box->object);
	if (err)
		object_free(&box->object);
	return err;
}

static int decode_document(struct parse *p, const struct node *doc, bool in_list);

static int decode_items(struct decoder *d, const struct node *node, void *out)
{
	struct parse *p = out;
	size_t i = 0;

	if (node->type != NODE_LIST)
		return decode_fail_type(d, node, "a list");
	for (const struct node_child *c = node->child; c; c = c->next, i++) {
		size_t path = path_push_index(d, i);
		int err = decode_document(p, c->value, true);

		if (err)
			return err;
		path_pop(d, path);
	}
	return 0;
}

static int check_api(struct decoder *d, const struct node *doc, const char *api, const char *kind,
		     const char *expected)
{
	if (!strcmp(api, expected))
		return 0;
	path_push(d, "apiVersion");
	return decode_fail(d, map_get(doc, "apiVersion"),
			   "expected apiVersion %s for %s, found '%.64s'", expected, kind, api);
}

static int decode_document(struct parse *p, const struct node *doc, bool in_list)
{
	struct decoder *d = &p->decoder;
	const char *api, *kind;
	int err;

	if (doc->type != NODE_MAP)
		return decode_fail_type(d, doc,
					"an object: a map with apiVersion, kind and metadata");
	err = decode_required(d, doc, "apiVersion", decode_string, &api);
	if (!err)
		err = decode_required(d, doc, "kind", decode_string, &kind);
	if (err)
		return err;
	if (!in_list && !strcmp(kind, "List")) {
		err = check_api(d, doc, api, kind, "v1");
		return err ? err : decode_field(d, doc, "items", decode_items, p);
	}
	for (unsigned int i = 0; i < OBJECT_KIND_COUNT; i++) {
		if (strcmp(kind, kinds[i].name))
			continue;
		err = check_api(d, doc, api, kind, kinds[i].api);
		return err ? err : decode_object(p, doc, (enum object_kind)i);
	}
	path_push(d, "kind");
	return decode_fail(d, map_get(doc, "kind"),
			   "expected the kind Pod, Namespace, NetworkPolicy, EdgeService, "
			   "EdgeDecap or List, "
			   "found '%.64s'",
			   kind);
}

static int parse_documents(struct parse *p, struct node_reader *reader)
{
	for (;;) {
		struct arena mem = {};
		struct node *doc = NULL;
		int err = node_read(reader, &mem, &doc, p->decoder.err);

		if (!err && doc) {
			path_pop(&p->decoder, 0);
			err = decode_document(p, doc, false);
		}
		arena_clear(&mem);
		if (err || !doc)
			return err;
	}
}

static int parse_text(struct parse *p, const char *file, const char *text, size_t len,
		      struct object_list *out)
{
	struct object_error *err = p->decoder.err;
	struct node_reader *reader;
	int res;

	*err = (struct object_error){};
	snprintf(err->file, sizeof(err->file), "%s", file);
	res = node_reader_new(&reader, text, len, err);
	if (res)
		return res;
	res = parse_documents(p, reader);
	node_reader_free(reader);
	if (res) {
		object_list_clear(&p->list);
		return res;
	}
	*out = p->list;
	return 0;
}

int object_parse(const char *file, const char *text, size_t len, struct object_list *out,
		 struct object_error *err)
{
	struct parse p = { .decoder.err = err };

	return parse_text(&p, file, text, len, out);
}

int object_parse_names(const char *file, const char *text, size_t len, struct object_list *out,
		       struct object_error *err)
{
	struct parse p = { .decoder.err = err, .names_only = true };

	return parse_text(&p, file, text, len, out);
}
