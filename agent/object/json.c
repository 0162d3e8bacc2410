/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A tree as compact JSON: the form in which objects are stored and shown. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object/node.h"

struct text {
	char *v;
	size_t n;
	size_t cap;
	bool failed;
};

static void text_put(struct text *t, const char *s, size_t len)
{
	if (t->failed)
		return;
	if (t->cap - t->n <= len) {
		size_t cap = (t->n + len + 1) * 2;
		char *v = realloc(t->v, cap);

		if (!v) {
			t->failed = true;
			return;
		}
		t->v = v;
		t->cap = cap;
	}
	memcpy(t->v + t->n, s, len);
	t->n += len;
	t->v[t->n] = 0;
}

static void put_string(struct text *t, const char *s, size_t len)
{
	static const char short_form[] = "btn\vfr"; /* of 8 to 13; 11 has none */
	size_t from = 0;

	text_put(t, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		char buf[8];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		text_put(t, s + from, i - from);
		from = i + 1;
		if (c == '"' || c == '\\')
			snprintf(buf, sizeof(buf), "\\%c", c);
		else if (c >= 8 && c <= 13 && c != 11)
			snprintf(buf, sizeof(buf), "\\%c", short_form[c - 8]);
		else
			snprintf(buf, sizeof(buf), "\\u%04x", c);
		text_put(t, buf, strlen(buf));
	}
	text_put(t, s + from, len - from);
	text_put(t, "\"", 1);
}

static void put_node(struct text *t, const struct node *node)
{
	bool map = node->type == NODE_MAP;

	if (node->type == NODE_STRING) {
		put_string(t, node->text, node->len);
		return;
	}
	if (!map && node->type != NODE_LIST) {
		text_put(t, node->text, node->len);
		return;
	}
	text_put(t, map ? "{" : "[", 1);
	for (const struct node_child *c = node->child; c; c = c->next) {
		if (map) {
			put_string(t, c->key->text, c->key->len);
			text_put(t, ":", 1);
		}
		put_node(t, c->value);
		if (c->next)
			text_put(t, ",", 1);
	}
	text_put(t, map ? "}" : "]", 1);
}

char *node_json(const struct node *node)
{
	struct text t = {};

	put_node(&t, node);
	if (t.failed) {
		free(t.v);
		return NULL;
	}
	char *fit = realloc(t.v, t.n + 1); /* objects live long */
	return fit ? fit : t.v;
}
