/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A document as a tree with positions, before anything is known about its meaning. YAML as
 * kubectl reads it (YAML 1.1 types), and JSON, which is YAML in flow style.
 */
#ifndef AGENT_OBJECT_NODE_H
#define AGENT_OBJECT_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "object/arena.h"
#include "object/object.h"

#define NODE_MAX_TEXT (64u << 20) /* bytes of one input */
#define NODE_MAX_DEPTH 100u	  /* nested maps and lists */
/*
 * Values of one document, with the empty ones before it. A value of two bytes of text takes some
 * 120 in memory, and a million of them half a second.
 */
#define NODE_MAX_VALUES (1u << 20)
#define NODE_MAX_EXPANSION (16u << 20) /* bytes that aliases of one document may add */

enum node_type {
	NODE_NULL,
	NODE_BOOL,
	NODE_INT,
	NODE_FLOAT,
	NODE_STRING,
	NODE_MAP,
	NODE_LIST,
};

struct node_child {
	struct node_child *next;
	struct node *key; /* a string; NULL in a list */
	struct node *value;
};

/* Immutable once built. A node that an alias names has several parents. */
struct node {
	enum node_type type;
	unsigned int line; /* from 1 */
	unsigned int column;
	bool merge;	  /* the key << of YAML 1.1 */
	const char *text; /* scalar: the string, or the value as JSON writes it; has a NUL */
	size_t len;
	int64_t number;		  /* NODE_INT; NODE_BOOL: 0 or 1 */
	struct node_child *child; /* in input order */
	size_t n_children;
	uint64_t weight; /* bytes of the text with aliases written out, roughly */
};

struct node_reader;

/* text must stay until node_reader_free(). -ENOMEM, or -EINVAL with err filled. */
int node_reader_new(struct node_reader **out, const char *text, size_t len,
		    struct object_error *err);
void node_reader_free(struct node_reader *r);
/*
 * The next document, its memory from `mem`; *out is NULL behind the last one. Documents that
 * are empty are passed over. -EINVAL with err filled, or -ENOMEM.
 */
int node_read(struct node_reader *r, struct arena *mem, struct node **out,
	      struct object_error *err);

/* Types a plain scalar as YAML 1.1 does; fills type, text, len, number. -ENOMEM. */
int node_resolve(struct node *node, struct arena *mem, const char *text, size_t len);
const char *node_type_name(enum node_type type); /* "a string" */

/* Compact JSON, malloc'ed; keys in input order. NULL: no memory. */
char *node_json(const struct node *node);

/* Fills line, column and text of err. Returns -EINVAL. */
int object_error_set(struct object_error *err, unsigned int line, unsigned int column,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
