/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* libyaml's events → a tree. */
#include "object/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MERGE_MAX 256u /* keys; each is searched for in the map */

struct anchor {
	struct anchor *next;
	const char *name;
	struct node *node;
};

struct node_reader {
	yaml_parser_t parser;
	char *unescaped; /* the text, when it had to be changed */
	const char *text;
	struct arena *mem; /* of the document being read */
	struct anchor *anchors;
	uint64_t expansion;
	uint32_t values;
	struct object_error *err;
};

static void cleanup_event(yaml_event_t *ev)
{
	yaml_event_delete(ev);
}

#define _cleanup_event_ __attribute__((cleanup(cleanup_event)))

int object_error_set(struct object_error *err, unsigned int line, unsigned int column,
		     const char *fmt, ...)
{
	va_list args;

	err->line = line;
	err->column = column;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -EINVAL;
}

/* ---- input ---------------------------------------------------------------------------------- */

static bool read_hex4(const char *s, const char *end, unsigned int *out)
{
	char buf[5] = {};

	if (end - s < 6 || s[0] != '\\' || s[1] != 'u')
		return false;
	memcpy(buf, s + 2, 4);
	if (strspn(buf, "0123456789abcdefABCDEF") != 4)
		return false;
	*out = (unsigned int)strtoul(buf, NULL, 16);
	return true;
}

/*
 * JSON writes a character beyond U+FFFF as two \u escapes (RFC 8259 section 7), which YAML does
 * not know: they become YAML's \U, so columns behind one are two too small. Only for texts in
 * flow style, where a backslash is nothing else.
 */
static int unescape_surrogates(struct node_reader *r, size_t *len)
{
	const char *s = r->text, *end = s + *len;
	size_t start = 0, n = 0;
	char *out;

	while (start < *len && s[start] && strchr(" \t\r\n", s[start]))
		start++;
	if (start >= *len || !s[start] || !strchr("{[", s[start]) || !memmem(s, *len, "\\u", 2))
		return 0;
	out = malloc(*len + 1);
	if (!out)
		return -ENOMEM;
	while (s < end) {
		unsigned int high, low;

		if (read_hex4(s, end, &high) && high >> 10 == 0x36 && read_hex4(s + 6, end, &low) &&
		    low >> 10 == 0x37) {
			high = 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
			n += (size_t)sprintf(out + n, "\\U%08X", high);
			s += 12;
			continue;
		}
		if (*s == '\\' && end - s > 1)
			out[n++] = *s++;
		out[n++] = *s++;
	}
	out[n] = 0;
	r->unescaped = out;
	r->text = out;
	*len = n;
	return 0;
}

int node_reader_new(struct node_reader **out, const char *text, size_t len,
		    struct object_error *err)
{
	struct node_reader *r;
	int res;

	if (len > NODE_MAX_TEXT)
		return object_error_set(err, 1, 1, "the text is larger than %u MiB; split it",
					NODE_MAX_TEXT >> 20);
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* a byte order mark, as on Windows */
		text += 3;
		len -= 3;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->text = text;
	res = len ? unescape_surrogates(r, &len) : 0;
	if (res || !yaml_parser_initialize(&r->parser)) {
		free(r->unescaped);
		free(r);
		return -ENOMEM;
	}
	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)r->text, len);
	*out = r;
	return 0;
}

void node_reader_free(struct node_reader *r)
{
	if (!r)
		return;
	yaml_parser_delete(&r->parser);
	free(r->unescaped);
	free(r);
}

/* ---- events --------------------------------------------------------------------------------- */

/* libyaml gives no line for bytes that are no text, only their offset. */
static int reader_error(const struct node_reader *r)
{
	const yaml_parser_t *p = &r->parser;
	unsigned int line = 1;
	size_t start = 0;

	for (size_t i = 0; i < p->problem_offset && r->text[i]; i++) {
		if (r->text[i] == '\n') {
			line++;
			start = i + 1;
		}
	}
	if (p->problem_value > 0x7f || p->problem_value < 0)
		return object_error_set(r->err, line, (unsigned int)(p->problem_offset - start) + 1,
					"expected UTF-8 text without control characters");
	return object_error_set(r->err, line, (unsigned int)(p->problem_offset - start) + 1,
				"expected text, found a control character (byte 0x%02x)",
				(unsigned int)p->problem_value);
}

static int parser_error(const struct node_reader *r)
{
	const yaml_parser_t *p = &r->parser;
	unsigned int line = (unsigned int)p->problem_mark.line + 1;
	unsigned int column = (unsigned int)p->problem_mark.column + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR)
		return reader_error(r);
	if (p->context)
		return object_error_set(r->err, line, column,
					"not valid YAML: %s (%s that began in line %zu)",
					p->problem, p->context, p->context_mark.line + 1);
	return object_error_set(r->err, line, column, "not valid YAML: %s", p->problem);
}

static int next_event(struct node_reader *r, yaml_event_t *ev)
{
	return yaml_parser_parse(&r->parser, ev) ? 0 : parser_error(r);
}

static struct node *node_new(struct node_reader *r, enum node_type type, const yaml_event_t *ev)
{
	struct node *node = arena_alloc(r->mem, sizeof(*node));

	if (node) {
		node->type = type;
		node->line = (unsigned int)ev->start_mark.line + 1;
		node->column = (unsigned int)ev->start_mark.column + 1;
		node->weight = 8;
	}
	return node;
}

static int node_fail(const struct node_reader *r, const struct node *at, const char *text)
{
	return object_error_set(r->err, at->line, at->column, "%s", text);
}

static int anchor_add(struct node_reader *r, const yaml_char_t *name, struct node *node)
{
	struct anchor *a;

	if (!name)
		return 0;
	a = arena_alloc(r->mem, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->name = arena_copy(r->mem, (const char *)name, strlen((const char *)name));
	a->node = node;
	a->next = r->anchors;
	r->anchors = a; /* in front: a name may be given again, and then means the later one */
	return a->name ? 0 : -ENOMEM;
}

/* An alias shares the node. A node is known by its anchor only when complete: no cycles. */
static int read_alias(struct node_reader *r, const yaml_event_t *ev, struct node **out)
{
	const char *name = (const char *)ev->data.alias.anchor;
	const struct anchor *a = r->anchors;
	unsigned int line = (unsigned int)ev->start_mark.line + 1;
	unsigned int column = (unsigned int)ev->start_mark.column + 1;

	while (a && strcmp(a->name, name))
		a = a->next;
	if (!a)
		return object_error_set(r->err, line, column,
					"the alias *%.64s has no anchor &%.64s before it", name,
					name);
	r->expansion += a->node->weight;
	if (r->expansion > NODE_MAX_EXPANSION)
		return object_error_set(
			r->err, line, column,
			"aliases make the document grow by more than %u MiB; write it "
			"without them",
			NODE_MAX_EXPANSION >> 20);
	*out = a->node;
	return 0;
}

static bool tag_is(const char *tag, const char *name)
{
	static const char core[] = "tag:yaml.org,2002:";

	return !strncmp(tag, core, sizeof(core) - 1) && !strcmp(tag + sizeof(core) - 1, name);
}

static int read_scalar(struct node_reader *r, const yaml_event_t *ev, struct node **out)
{
	static const char *const tags[] = {
		[NODE_NULL] = "null",	[NODE_BOOL] = "bool",  [NODE_INT] = "int",
		[NODE_FLOAT] = "float", [NODE_STRING] = "str",
	};
	const char *tag = (const char *)ev->data.scalar.tag;
	const char *text = (const char *)ev->data.scalar.value;
	size_t len = ev->data.scalar.length;
	bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct node *node = node_new(r, NODE_STRING, ev);
	int err;

	if (!node)
		return -ENOMEM;
	if (memchr(text, 0, len))
		return node_fail(r, node, "expected a string without NUL characters");
	node->text = text = arena_copy(r->mem, text, len);
	if (!text)
		return -ENOMEM;
	node->len = len;
	if (plain && !(tag && (!strcmp(tag, "!") || tag_is(tag, "str")))) {
		node->merge = !strcmp(text, "<<");
		err = node_resolve(node, r->mem, text, len);
		if (err)
			return err;
	}
	if (tag && strcmp(tag, "!") && !tag_is(tag, tags[node->type]))
		return node_fail(r, node,
				 "expected a value without a YAML tag or of the tag's type");
	node->weight += node->len;
	*out = node;
	return anchor_add(r, ev->data.scalar.anchor, node);
}

/* ---- maps and lists ------------------------------------------------------------------------- */

static int read_value(struct node_reader *r, const yaml_event_t *ev, unsigned int depth,
		      struct node **out);

struct builder { /* of a map or list */
	struct node *node;
	struct node_child **tail;
};

static int builder_add(struct node_reader *r, struct builder *b, struct node *key,
		       struct node *value)
{
	struct node_child *c = arena_alloc(r->mem, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->key = key;
	c->value = value;
	*b->tail = c;
	b->tail = &c->next;
	b->node->n_children++;
	b->node->weight += (key ? key->weight : 0) + value->weight;
	return 0;
}

static int read_list(struct node_reader *r, const yaml_event_t *start, unsigned int depth,
		     struct node **out)
{
	struct node *node = node_new(r, NODE_LIST, start);
	struct builder b = { node, node ? &node->child : NULL };

	if (!node)
		return -ENOMEM;
	for (;;) {
		_cleanup_event_ yaml_event_t ev = {};
		struct node *value;
		int err = next_event(r, &ev);

		if (err)
			return err;
		if (ev.type == YAML_SEQUENCE_END_EVENT)
			break;
		err = read_value(r, &ev, depth + 1, &value);
		if (!err)
			err = builder_add(r, &b, NULL, value);
		if (err)
			return err;
	}
	*out = node;
	return anchor_add(r, start->data.sequence_start.anchor, node);
}

static bool key_equal(const struct node *a, const struct node *b)
{
	return a->len == b->len && !memcmp(a->text, b->text, a->len);
}

static int key_order(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;
	int cmp = strcmp((*x)->text, (*y)->text);

	if (cmp)
		return cmp;
	return (*x)->line<(*y)->line ? -1 : (*x)->line>(*y)->line ? 1
	       : (*x)->column < (*y)->column			  ? -1
								  : 1;
}

static int key_twice(const struct node_reader *r, const struct node *key)
{
	return object_error_set(r->err, key->line, key->column,
				"expected each key once, found %.64s again", key->text);
}

/* Few keys are compared with each other, many are sorted. */
static int check_keys(struct node_reader *r, const struct node *map)
{
	const struct node **keys;
	size_t n = 0;
	int err = 0;

	if (map->n_children <= 8) {
		for (const struct node_child *c = map->child; c; c = c->next)
			for (const struct node_child *d = map->child; d != c; d = d->next)
				if (key_equal(c->key, d->key))
					return key_twice(r, c->key);
		return 0;
	}
	keys = calloc(map->n_children, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (const struct node_child *c = map->child; c; c = c->next)
		keys[n++] = c->key;
	qsort(keys, n, sizeof(*keys), key_order);
	for (size_t i = 1; i < n && !err; i++)
		if (key_equal(keys[i - 1], keys[i]))
			err = key_twice(r, keys[i]);
	free(keys);
	return err;
}

static bool map_has(const struct node *map, const struct node *key)
{
	for (const struct node_child *c = map->child; c; c = c->next)
		if (key_equal(c->key, key))
			return true;
	return false;
}

/* `<<: *base` (YAML 1.1 merge): the base's keys that the map does not have itself. */
static int merge_map(struct node_reader *r, struct builder *b, const struct node *base)
{
	if (base->type != NODE_MAP)
		return node_fail(r, base, "expected a map, or a list of maps, to merge with <<");
	if (base->n_children > MERGE_MAX)
		return node_fail(r, base, "expected a small map to merge with <<");
	for (const struct node_child *c = base->child; c; c = c->next) {
		int err = map_has(b->node, c->key) ? 0 : builder_add(r, b, c->key, c->value);

		if (err)
			return err;
	}
	return 0;
}

static int merge_value(struct node_reader *r, struct builder *b, const struct node *value)
{
	int err = 0;

	if (value->type != NODE_LIST)
		return merge_map(r, b, value);
	for (const struct node_child *c = value->child; c && !err; c = c->next)
		err = merge_map(r, b, c->value);
	return err;
}

static int read_key(struct node_reader *r, const yaml_event_t *ev, unsigned int depth,
		    struct node **out)
{
	struct node *key;
	int err = read_value(r, ev, depth, &key);

	if (err)
		return err;
	if (key->type != NODE_STRING && key->type != NODE_INT)
		return object_error_set(r->err, key->line, key->column,
					"expected a string as key, found %s; put it in quotes",
					node_type_name(key->type));
	*out = key;
	return 0;
}

static int read_map(struct node_reader *r, const yaml_event_t *start, unsigned int depth,
		    struct node **out)
{
	struct node *node = node_new(r, NODE_MAP, start), *merge = NULL;
	struct builder b = { node, node ? &node->child : NULL };
	int err;

	if (!node)
		return -ENOMEM;
	for (;;) {
		_cleanup_event_ yaml_event_t ev = {};
		_cleanup_event_ yaml_event_t value_ev = {};
		struct node *key = NULL, *value = NULL;

		err = next_event(r, &ev);
		if (err || ev.type == YAML_MAPPING_END_EVENT)
			break;
		err = read_key(r, &ev, depth + 1, &key);
		if (!err)
			err = next_event(r, &value_ev);
		if (!err)
			err = read_value(r, &value_ev, depth + 1, &value);
		if (err)
			break;
		if (key->merge && !merge)
			merge = value;
		else
			err = key->merge ? key_twice(r, key) : builder_add(r, &b, key, value);
		if (err)
			break;
	}
	if (!err)
		err = check_keys(r, node);
	if (!err && merge)
		err = merge_value(r, &b, merge);
	if (err)
		return err;
	*out = node;
	return anchor_add(r, start->data.mapping_start.anchor, node);
}

static int read_value(struct node_reader *r, const yaml_event_t *ev, unsigned int depth,
		      struct node **out)
{
	if (depth > NODE_MAX_DEPTH)
		return object_error_set(r->err, (unsigned int)ev->start_mark.line + 1,
					(unsigned int)ev->start_mark.column + 1,
					"maps and lists are nested more than %u deep",
					NODE_MAX_DEPTH);
	if (++r->values > NODE_MAX_VALUES)
		return object_error_set(r->err, (unsigned int)ev->start_mark.line + 1,
					(unsigned int)ev->start_mark.column + 1,
					"the document has more than %u values; split it",
					NODE_MAX_VALUES);
	switch (ev->type) {
	case YAML_ALIAS_EVENT:
		return read_alias(r, ev, out);
	case YAML_SCALAR_EVENT:
		return read_scalar(r, ev, out);
	case YAML_SEQUENCE_START_EVENT:
		return read_list(r, ev, depth, out);
	case YAML_MAPPING_START_EVENT:
		return read_map(r, ev, depth, out);
	default:
		return object_error_set(r->err, (unsigned int)ev->start_mark.line + 1,
					(unsigned int)ev->start_mark.column + 1,
					"expected a value");
	}
}

int node_read(struct node_reader *r, struct arena *mem, struct node **out, struct object_error *err)
{
	r->mem = mem;
	r->err = err;
	r->values = 0;
	for (;;) {
		_cleanup_event_ yaml_event_t ev = {};
		_cleanup_event_ yaml_event_t value_ev = {};
		struct node *node;
		int res = next_event(r, &ev);

		if (res)
			return res;
		if (ev.type == YAML_STREAM_END_EVENT) {
			*out = NULL;
			return 0;
		}
		if (ev.type != YAML_DOCUMENT_START_EVENT)
			continue;
		r->anchors = NULL; /* they belong to a document */
		r->expansion = 0;
		res = next_event(r, &value_ev);
		if (!res)
			res = read_value(r, &value_ev, 0, &node);
		if (res)
			return res;
		if (node->type == NODE_NULL)
			continue;
		*out = node;
		return 0;
	}
}
