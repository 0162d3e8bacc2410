/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Output: tables for people, JSON and YAML for programs. */
#include "cli.h"

#include <stdarg.h>
#include <string.h>
#include <yaml.h>

struct cell {
	const char *color;
	char *text;
};

struct cli_table {
	const struct cli *cli;
	const char *const *heads;
	size_t columns;
	struct cell *cells;
	size_t n, cap;
	size_t *width; /* of the columns, as far as rows were printed */
	bool begun;    /* the heads were */
};

struct cli_table *cli_table_new(const struct cli *cli, const char *const *heads)
{
	struct cli_table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->cli = cli;
	t->heads = heads;
	while (heads[t->columns])
		t->columns++;
	t->width = calloc(t->columns + 1, sizeof(*t->width));
	if (!t->width)
		abort();
	return t;
}

void cli_table_cell(struct cli_table *t, const char *color, const char *fmt, ...)
{
	va_list ap;

	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		struct cell *cells = realloc(t->cells, t->cap * sizeof(*cells));

		if (!cells)
			abort();
		t->cells = cells;
	}
	va_start(ap, fmt);
	if (vasprintf(&t->cells[t->n].text, fmt, ap) < 0)
		abort();
	va_end(ap);
	t->cells[t->n++].color = color;
}

size_t cli_table_rows(const struct cli_table *t)
{
	return t->n / t->columns;
}

const char *cli_color(const struct cli *cli, const char *color)
{
	static char buf[4][16];
	static unsigned int turn; /* several in one printf */

	if (!cli->color || !color)
		return "";
	char *s = buf[turn++ % 4];

	snprintf(s, sizeof(buf[0]), "\033[%sm", color);
	return s;
}

const char *cli_plain(const struct cli *cli)
{
	return cli->color ? "\033[0m" : "";
}

static void print_cell(const struct cli_table *t, size_t column, const char *color,
		       const char *text, size_t width)
{
	bool right = t->heads[column][0] == '>';
	bool last = column + 1 == t->columns;
	int pad = (int)(width - strlen(text));
	const char *plain = color ? cli_plain(t->cli) : "";

	printf("%*s%s%s%s%*s%s", right ? pad : 0, "", cli_color(t->cli, color), text, plain,
	       right || last ? 0 : pad, "", last ? "\n" : "  ");
}

void cli_table_flush(struct cli_table *t)
{
	for (size_t c = 0; !t->begun && c < t->columns; c++)
		t->width[c] = strlen(t->heads[c]) - (t->heads[c][0] == '>');
	for (size_t i = 0; i < t->n; i++) {
		size_t len = strlen(t->cells[i].text);

		if (len > t->width[i % t->columns])
			t->width[i % t->columns] = len;
	}
	for (size_t c = 0; t->n && !t->begun && c < t->columns; c++)
		print_cell(t, c, CLI_BOLD, t->heads[c] + (t->heads[c][0] == '>'), t->width[c]);
	t->begun = t->begun || t->n;
	for (size_t i = 0; i < t->n; i++) {
		print_cell(t, i % t->columns, t->cells[i].color, t->cells[i].text,
			   t->width[i % t->columns]);
		free(t->cells[i].text);
	}
	t->n = 0;
}

void cli_table_print(struct cli_table *t)
{
	cli_table_flush(t);
	free(t->width);
	free(t->cells);
	free(t);
}

/* ---- YAML ---- */

/*
 * Whether a string could be read back as something else (YAML 1.1 and 1.2 alike): numbers,
 * dates, booleans, null. Such strings are quoted.
 */
static bool yaml_ambiguous(const char *s)
{
	static const char *const words[] = { "y",  "n",	   "yes",  "no", "true", "false",
					     "on", "off",  "null", "~",	 "",	 "<<",
					     "=",  ".inf", ".nan", NULL };

	for (size_t i = 0; words[i]; i++)
		if (!strcasecmp(s, words[i]))
			return true;
	return strchr("0123456789+-.", *s);
}

static int yaml_scalar(yaml_emitter_t *e, const char *text, size_t len, yaml_scalar_style_t style)
{
	yaml_event_t ev;

	return yaml_scalar_event_initialize(&ev, NULL, NULL, (const yaml_char_t *)text, (int)len, 1,
					    1, style) &&
	       yaml_emitter_emit(e, &ev);
}

static int yaml_string(yaml_emitter_t *e, const char *s)
{
	return yaml_scalar(e, s, strlen(s),
			   yaml_ambiguous(s) ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
					     : YAML_ANY_SCALAR_STYLE);
}

static int yaml_value(yaml_emitter_t *e, const json_t *v);

static int yaml_object(yaml_emitter_t *e, const json_t *v)
{
	yaml_event_t ev;
	const char *key;
	json_t *member;
	/* jansson's iteration is not const, but changes nothing. */
	json_t *object = (json_t *)v;

	if (!yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1,
						 json_object_size(v) ? YAML_BLOCK_MAPPING_STYLE
								     : YAML_FLOW_MAPPING_STYLE) ||
	    !yaml_emitter_emit(e, &ev))
		return 0;
	json_object_foreach(object, key, member)
		if (!yaml_string(e, key) || !yaml_value(e, member))
			return 0;
	return yaml_mapping_end_event_initialize(&ev) && yaml_emitter_emit(e, &ev);
}

static int yaml_array(yaml_emitter_t *e, const json_t *v)
{
	yaml_event_t ev;
	size_t i;
	json_t *element;

	if (!yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1,
						  json_array_size(v) ? YAML_BLOCK_SEQUENCE_STYLE
								     : YAML_FLOW_SEQUENCE_STYLE) ||
	    !yaml_emitter_emit(e, &ev))
		return 0;
	json_array_foreach(v, i, element)
		if (!yaml_value(e, element))
			return 0;
	return yaml_sequence_end_event_initialize(&ev) && yaml_emitter_emit(e, &ev);
}

static int yaml_value(yaml_emitter_t *e, const json_t *v)
{
	char number[64];

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return yaml_object(e, v);
	case JSON_ARRAY:
		return yaml_array(e, v);
	case JSON_STRING:
		return yaml_string(e, json_string_value(v));
	case JSON_INTEGER:
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		snprintf(number, sizeof(number), "%.17g", json_real_value(v));
		break;
	case JSON_TRUE:
		strcpy(number, "true");
		break;
	case JSON_FALSE:
		strcpy(number, "false");
		break;
	default:
		strcpy(number, "null");
	}
	return yaml_scalar(e, number, strlen(number), YAML_PLAIN_SCALAR_STYLE);
}

int cli_yaml(const json_t *value, FILE *to)
{
	yaml_emitter_t e;
	yaml_event_t ev;
	int ok;

	if (!yaml_emitter_initialize(&e))
		return cli_refuse("out of memory");
	yaml_emitter_set_output_file(&e, to);
	yaml_emitter_set_unicode(&e, 1);
	yaml_emitter_set_width(&e, -1);
	ok = yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING) &&
	     yaml_emitter_emit(&e, &ev) &&
	     yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1) &&
	     yaml_emitter_emit(&e, &ev) && yaml_value(&e, value) &&
	     yaml_document_end_event_initialize(&ev, 1) && yaml_emitter_emit(&e, &ev) &&
	     yaml_stream_end_event_initialize(&ev) && yaml_emitter_emit(&e, &ev);
	yaml_emitter_delete(&e);
	return ok ? CLI_OK : cli_refuse("cannot write the output as YAML");
}

int cli_print(const struct cli *cli, const json_t *value)
{
	if (cli->output == CLI_YAML)
		return cli_yaml(value, stdout);
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	return CLI_OK;
}
