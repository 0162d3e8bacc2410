/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What all decoders share: paths, refusals, typed values. */
#include "object/decode.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object/names.h"

/* ---- where we are --------------------------------------------------------------------------- */

static size_t path_append(struct decoder *d, const char *text)
{
	size_t was = d->path_len, room = sizeof(d->err->field) - was;
	int n = snprintf(d->err->field + was, room, "%s", text);

	/* A path that does not fit is cut off; the position is exact all the same. */
	d->path_len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
	return was;
}

size_t path_push(struct decoder *d, const char *field)
{
	size_t was = d->path_len;

	if (was)
		path_append(d, ".");
	path_append(d, field);
	return was;
}

size_t path_push_index(struct decoder *d, size_t index)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "[%zu]", index);
	return path_append(d, buf);
}

void path_pop(struct decoder *d, size_t len)
{
	d->path_len = len;
	d->err->field[len] = 0;
}

int decode_fail(struct decoder *d, const struct node *at, const char *fmt, ...)
{
	va_list args;

	d->err->line = at->line;
	d->err->column = at->column;
	va_start(args, fmt);
	vsnprintf(d->err->text, sizeof(d->err->text), fmt, args);
	va_end(args);
	return -EINVAL;
}

int decode_fail_type(struct decoder *d, const struct node *at, const char *expected)
{
	const char *found = node_type_name(at->type);

	if (at->type == NODE_NULL || at->type == NODE_MAP || at->type == NODE_LIST)
		return decode_fail(d, at, "expected %s, found %s", expected, found);
	return decode_fail(d, at, "expected %s, found %s (%.64s)", expected, found, at->text);
}

/* ---- maps and lists ------------------------------------------------------------------------- */

const struct node *map_get(const struct node *map, const char *key)
{
	for (const struct node_child *c = map->child; c; c = c->next)
		if (!strcmp(c->key->text, key))
			return c->value->type == NODE_NULL ? NULL : c->value;
	return NULL;
}

int decode_map(struct decoder *d, const struct node *node)
{
	return node->type == NODE_MAP ? 0 : decode_fail_type(d, node, "a map");
}

int decode_field(struct decoder *d, const struct node *map, const char *key, decode_fn fn,
		 void *out)
{
	const struct node *value = map_get(map, key);
	size_t path;
	int err;

	if (!value)
		return 0;
	path = path_push(d, key);
	err = fn(d, value, out);
	if (!err) /* a refusal keeps the path */
		path_pop(d, path);
	return err;
}

int decode_required(struct decoder *d, const struct node *map, const char *key, decode_fn fn,
		    void *out)
{
	if (!map_get(map, key)) {
		path_push(d, key);
		return decode_fail(d, map, "expected the field %s, which is missing", key);
	}
	return decode_field(d, map, key, fn, out);
}

int decode_list(struct decoder *d, const struct node *list, size_t size, decode_fn fn, void *array,
		size_t *n)
{
	void **out = array;
	char *v;
	size_t i = 0;

	if (list->type != NODE_LIST)
		return decode_fail_type(d, list, "a list");
	v = arena_array(d->mem, list->n_children, size);
	if (!v)
		return -ENOMEM;
	for (const struct node_child *c = list->child; c; c = c->next, i++) {
		struct node empty = *c->value;
		size_t path = path_push_index(d, i);
		int err;

		if (empty.type == NODE_NULL)
			empty.type = NODE_MAP;
		err = fn(d, &empty, v + i * size);
		if (err)
			return err;
		path_pop(d, path);
	}
	*out = v;
	*n = i;
	return 0;
}

int decode_known(struct decoder *d, const struct node *map, const char *const *fields)
{
	for (const struct node_child *c = map->child; c; c = c->next) {
		const char *const *f = fields;
		char list[160] = "";
		size_t n = 0;

		while (*f && strcmp(*f, c->key->text))
			f++;
		if (*f)
			continue;
		for (f = fields; *f && n < sizeof(list); f++)
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
					      f == fields ? ""
					      : f[1]	  ? ", "
							  : " or ",
					      *f);
		path_push(d, c->key->text);
		return decode_fail(d, c->key, "there is no field %.64s here; expected %s",
				   c->key->text, list);
	}
	return 0;
}

/* ---- values --------------------------------------------------------------------------------- */

int decode_string(struct decoder *d, const struct node *node, void *out)
{
	const char **text = out;

	if (node->type == NODE_STRING) {
		*text = node->text;
		return 0;
	}
	if (node->type == NODE_MAP || node->type == NODE_LIST || node->type == NODE_NULL)
		return decode_fail_type(d, node, "a string");
	return decode_fail(d, node, "expected a string, found %s (%.64s); put it in quotes",
			   node_type_name(node->type), node->text);
}

int decode_bool(struct decoder *d, const struct node *node, void *out)
{
	bool *value = out;

	if (node->type != NODE_BOOL)
		return decode_fail_type(d, node, "true or false");
	*value = node->number;
	return 0;
}

int decode_port(struct decoder *d, const struct node *node, void *out)
{
	uint16_t *port = out;

	if (node->type != NODE_INT)
		return decode_fail_type(d, node, "a port number");
	if (node->number < 1 || node->number > 65535)
		return decode_fail(d, node, "expected a port from 1 to 65535, found %.64s",
				   node->text);
	*port = (uint16_t)node->number;
	return 0;
}

int decode_protocol(struct decoder *d, const struct node *node, void *out)
{
	static const struct {
		const char *name;
		uint8_t proto;
	} protos[] = { { "TCP", IPPROTO_TCP }, { "UDP", IPPROTO_UDP }, { "SCTP", IPPROTO_SCTP } };
	uint8_t *proto = out;
	const char *name;
	int err = decode_string(d, node, &name);

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(protos) / sizeof(*protos); i++) {
		if (!strcmp(name, protos[i].name)) {
			*proto = protos[i].proto;
			return 0;
		}
	}
	return decode_fail(d, node, "expected the protocol TCP, UDP or SCTP, found %.64s", name);
}

int decode_name(struct decoder *d, const struct node *node, const char *(*check)(const char *),
		char **out)
{
	const char *text, *expected;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	expected = check(text);
	if (expected)
		return decode_fail(d, node, "expected %s, found '%.64s'", expected, text);
	*out = arena_copy(d->mem, text, strlen(text));
	return *out ? 0 : -ENOMEM;
}

static int label_order(const void *a, const void *b)
{
	const struct label *x = a, *y = b;

	return strcmp(x->key, y->key);
}

int decode_labels(struct decoder *d, const struct node *node, void *out)
{
	struct labels *labels = out;
	int err = decode_map(d, node);

	if (err)
		return err;
	/* One more: a Namespace gets its name as a label. */
	labels->v = arena_array(d->mem, node->n_children + 1, sizeof(*labels->v));
	if (!labels->v)
		return -ENOMEM;
	for (const struct node_child *c = node->child; c; c = c->next) {
		struct label *label = &labels->v[labels->n];
		size_t path = path_push(d, c->key->text);
		struct node key = *c->key;

		key.type = NODE_STRING; /* 1: x is a label named 1 */
		err = decode_name(d, &key, name_check_label_key, &label->key);
		if (!err)
			err = decode_name(d, c->value, name_check_label_value, &label->value);
		if (err)
			return err;
		path_pop(d, path);
		labels->n++;
	}
	qsort(labels->v, labels->n, sizeof(*labels->v), label_order);
	return 0;
}
