/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The type of a plain scalar, as the YAML library of kubectl sees it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object/node.h"

#define NUMBER_MAX 128 /* longer ones are strings to us; nothing here needs them */

static bool text_in(const char *text, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(text, *list))
			return true;
	return false;
}

static int resolve_word(struct node *node, const char *text)
{
	/* YAML 1.1 has y and n too, but most writers do not quote them, so they stay strings. */
	static const char *const yes[] = { "yes",  "Yes", "YES", "true", "True",
					   "TRUE", "on",  "On",	 "ON",	 NULL };
	static const char *const no[] = { "no",	   "No",  "NO",	 "false", "False",
					  "FALSE", "off", "Off", "OFF",	  NULL };
	static const char *const null[] = { "", "~", "null", "Null", "NULL", NULL };

	if (text_in(text, null)) {
		node->type = NODE_NULL;
		node->text = "null";
	} else if (text_in(text, yes) || text_in(text, no)) {
		node->type = NODE_BOOL;
		node->number = text_in(text, yes);
		node->text = node->number ? "true" : "false";
	} else {
		return 0;
	}
	node->len = strlen(node->text);
	return 1;
}

/* An integer as Go's ParseInt(text, 0, 64) takes it: 0x, 0o, 0b and a leading 0 count. */
static bool parse_int(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	const char *digits = text + (*text == '-' || *text == '+');
	int base = 10;
	unsigned long long value;
	char *end;

	if (digits[0] == '0' && digits[1]) {
		char mark = (char)(digits[1] | 0x20);

		base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
		digits += mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1;
	}
	if (!strchr("0123456789abcdefABCDEF", *digits) || !*digits)
		return false;
	errno = 0;
	value = strtoull(digits, &end, base);
	if (errno || *end || value > (unsigned long long)INT64_MAX)
		return false;
	*out = negative ? -(int64_t)value : (int64_t)value;
	return true;
}

static bool is_float(const char *text)
{
	const char *p = text + (*text == '-' || *text == '+');
	size_t before = strspn(p, "0123456789"), after = 0;

	p += before;
	if (*p == '.') {
		after = strspn(p + 1, "0123456789");
		p += 1 + after;
	}
	if (!before && !after)
		return false;
	if (*p == 'e' || *p == 'E') {
		p += 1 + (p[1] == '-' || p[1] == '+');
		if (!strspn(p, "0123456789"))
			return false;
		p += strspn(p, "0123456789");
	}
	return !*p;
}

static int resolve_number(struct node *node, struct arena *mem, const char *text)
{
	char buf[32];
	double value;

	if (parse_int(text, &node->number)) {
		node->type = NODE_INT;
		snprintf(buf, sizeof(buf), "%lld", (long long)node->number);
	} else if (is_float(text) && isfinite(value = strtod(text, NULL))) {
		node->type = NODE_FLOAT;
		/* As short as it can be and still be read as the same value. */
		for (int digits = 15; digits <= 17; digits++) {
			snprintf(buf, sizeof(buf), "%.*g", digits, value);
			if (!(strtod(buf, NULL) < value || strtod(buf, NULL) > value))
				break;
		}
	} else {
		return 0;
	}
	node->len = strlen(buf);
	node->text = arena_copy(mem, buf, node->len);
	return node->text ? 1 : -ENOMEM;
}

int node_resolve(struct node *node, struct arena *mem, const char *text, size_t len)
{
	char plain[NUMBER_MAX];
	size_t n = 0;
	int res = resolve_word(node, text);

	if (!res && len < sizeof(plain) && len && strchr("+-.0123456789", *text)) {
		for (size_t i = 0; i < len; i++)
			if (text[i] != '_') /* 1_000 is a number in YAML 1.1 */
				plain[n++] = text[i];
		plain[n] = 0;
		res = resolve_number(node, mem, plain);
	}
	if (res)
		return res < 0 ? res : 0;
	node->type = NODE_STRING;
	node->text = text;
	node->len = len;
	return 0;
}

const char *node_type_name(enum node_type type)
{
	static const char *const names[] = {
		[NODE_NULL] = "nothing",     [NODE_BOOL] = "a boolean",	 [NODE_INT] = "a number",
		[NODE_FLOAT] = "a fraction", [NODE_STRING] = "a string", [NODE_MAP] = "a map",
		[NODE_LIST] = "a list",
	};

	return names[type];
}
