/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tree → object. A decoder walks the tree by field name and knows at any time where it is, so
 * that each refusal has its position and field path.
 */
#ifndef AGENT_OBJECT_DECODE_H
#define AGENT_OBJECT_DECODE_H

#include "object/node.h"

struct decoder {
	struct object_error *err;
	struct arena *mem; /* of the object being made */
	size_t path_len;   /* of err->field, which is the path of the present field */
};

/* The path is longer by a field or an index until it is set back to the length returned. */
size_t path_push(struct decoder *d, const char *field);
size_t path_push_index(struct decoder *d, size_t index);
void path_pop(struct decoder *d, size_t len);

/* Refuses with the position of `at`. Always -EINVAL. */
int decode_fail(struct decoder *d, const struct node *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Refuses `at`, which is not `expected` ("a map"). */
int decode_fail_type(struct decoder *d, const struct node *at, const char *expected);

/* The value of a field; NULL when it is absent or null, which the API treats alike. */
const struct node *map_get(const struct node *map, const char *key);

/* Walk into field `key` of `map` and call fn there; 0 when it is absent or null. */
typedef int (*decode_fn)(struct decoder *d, const struct node *node, void *out);
int decode_field(struct decoder *d, const struct node *map, const char *key, decode_fn fn,
		 void *out);
/* The same, but the field must be there. */
int decode_required(struct decoder *d, const struct node *map, const char *key, decode_fn fn,
		    void *out);
/*
 * A list whose elements are decoded by fn into an array of `size` bytes each, from the arena.
 * A null element is decoded from an empty map, as the API does.
 */
int decode_list(struct decoder *d, const struct node *list, size_t size, decode_fn fn, void *array,
		size_t *n);

int decode_map(struct decoder *d, const struct node *node); /* checks that it is one */
/* Refuses fields of `map` that are not in the NULL-terminated list. */
int decode_known(struct decoder *d, const struct node *map, const char *const *fields);

/* Typed values, as decode_fn. */
int decode_string(struct decoder *d, const struct node *node, void *out);   /* const char ** */
int decode_bool(struct decoder *d, const struct node *node, void *out);	    /* bool * */
int decode_port(struct decoder *d, const struct node *node, void *out);	    /* uint16_t * */
int decode_protocol(struct decoder *d, const struct node *node, void *out); /* uint8_t * */
int decode_labels(struct decoder *d, const struct node *node, void *out);   /* struct labels * */

/* A string of the arena that `check` (names.h) accepts. */
int decode_name(struct decoder *d, const struct node *node, const char *(*check)(const char *),
		char **out);

/* Kinds: fill obj from the document. */
int decode_pod(struct decoder *d, const struct node *doc, struct object *obj);
int decode_policy(struct decoder *d, const struct node *doc, struct object *obj);
int decode_edge_service(struct decoder *d, const struct node *doc, struct object *obj);
int decode_edge_decap(struct decoder *d, const struct node *doc, struct object *obj);

#endif
