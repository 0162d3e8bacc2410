/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Entries of maps as a table: the fields of their types are the columns. */
#include "map.h"

#include <string.h>

#define COLUMNS_MAX 14u /* more do not fit on a screen: then a value is one column */
#define ROWS_AT_ONCE 512u

struct column {
	char *head;
	char *path; /* of the field, with '\n' between names */
	bool of_key;
};

struct map_table {
	const struct cli *cli;
	struct cli_table *rows; /* NULL: no entry yet */
	struct column columns[COLUMNS_MAX + 1];
	const char *heads[COLUMNS_MAX + 2];
	size_t n;
	bool per_cpu;
};

struct map_table *map_table_new(const struct cli *cli, const struct tw_map *map)
{
	struct map_table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->cli = cli;
	t->per_cpu = tw_map_info(map)->per_cpu;
	return t;
}

static void column_add(struct map_table *t, bool of_key, const char *head, const char *path,
		       bool number)
{
	struct column *c = &t->columns[t->n];

	if (t->n < COLUMNS_MAX) {
		c->head = cli_printf("%s%s", number ? ">" : "", head);
		c->path = cli_printf("%s", path);
		c->of_key = of_key;
	}
	t->n++;
}

/* The leaves of a value: n beyond COLUMNS_MAX says that there are too many. */
static void columns_find(struct map_table *t, bool of_key, const char *head, const char *path,
			 const json_t *value)
{
	const char *name;
	json_t *member;

	if (!json_is_object(value) || !json_object_size(value)) {
		column_add(t, of_key,
			   *head    ? head
			   : of_key ? "KEY"
				    : "VALUE",
			   path, json_is_number(value));
		return;
	}
	json_object_foreach((json_t *)value, name, member) {
		cleanup_(cleanup_free) char *h = cli_printf("%s%s%s", head, *head ? "." : "", name);
		cleanup_(cleanup_free) char *p =
			cli_printf("%s%s%s", path, *path ? "\n" : "", name);

		columns_find(t, of_key, h, p, member);
	}
}

static void columns_drop(struct map_table *t, size_t from)
{
	for (size_t i = from; i < t->n && i < COLUMNS_MAX; i++) {
		free(t->columns[i].head);
		free(t->columns[i].path);
	}
	t->n = from;
}

static void columns_make(struct map_table *t, const json_t *key, const json_t *value)
{
	const json_t *const parts[] = { key, value };
	const json_t *cpus = t->per_cpu ? json_array_get(value, 0) : NULL;

	for (size_t i = 0; i < 2; i++) {
		size_t before = t->n;

		if (i && cpus)
			column_add(t, false, "CPU", "cpu", true);
		columns_find(t, !i, "", i && cpus ? "value" : "",
			     i && cpus ? json_object_get(cpus, "value") : parts[i]);
		/* Half of the room for the key, so that there is some for the value. */
		if (t->n <= (i ? COLUMNS_MAX : COLUMNS_MAX / 2))
			continue;
		columns_drop(t, before);
		if (i && cpus)
			column_add(t, false, "CPU", "cpu", true);
		column_add(t, !i, i ? "VALUE" : "KEY", i && cpus ? "value" : "", false);
	}
	for (size_t i = 0; i < t->n; i++)
		t->heads[i] = t->columns[i].head;
	t->rows = cli_table_new(t->cli, t->heads);
}

static const json_t *field_find(const json_t *value, const char *path)
{
	while (value && *path) {
		size_t len = strcspn(path, "\n");
		cleanup_(cleanup_free) char *name = cli_printf("%.*s", (int)len, path);

		value = json_object_get(value, name);
		path += len + (path[len] == '\n');
	}
	return value;
}

static void row_add(struct map_table *t, const json_t *key, const json_t *value)
{
	for (size_t i = 0; i < t->n; i++) {
		const json_t *field =
			field_find(t->columns[i].of_key ? key : value, t->columns[i].path);
		cleanup_(cleanup_free) char *text = field ? cli_text(field) : cli_printf("-");

		cli_table_cell(t->rows, NULL, "%s", text);
	}
	if (cli_table_rows(t->rows) >= ROWS_AT_ONCE)
		cli_table_flush(t->rows);
}

void map_table_entry(struct map_table *t, const json_t *key, const json_t *value)
{
	size_t i;
	json_t *one;

	if (!t->rows)
		columns_make(t, key, value);
	if (!t->per_cpu || !json_is_array(value))
		row_add(t, key, value);
	else
		json_array_foreach(value, i, one)
			row_add(t, key, one);
}

bool map_table_end(struct map_table *t)
{
	bool any = t->rows;

	if (any)
		cli_table_print(t->rows);
	columns_drop(t, 0);
	free(t);
	return any;
}

static void fields_print(struct cli_table *rows, const char *head, const json_t *value)
{
	const char *name;
	json_t *member;

	if (!json_is_object(value) || !json_object_size(value)) {
		cleanup_(cleanup_free) char *text = cli_text(value);

		cli_table_cell(rows, NULL, "%s", head);
		cli_table_cell(rows, NULL, "%s", text);
		return;
	}
	json_object_foreach((json_t *)value, name, member) {
		cleanup_(cleanup_free) char *h = cli_printf("%s%s%s", head, *head ? "." : "", name);

		fields_print(rows, h, member);
	}
}

void map_value_print(const struct cli *cli, const json_t *value)
{
	static const char *const heads[] = { "FIELD", "VALUE", NULL };

	if (!json_is_object(value)) {
		cleanup_(cleanup_free) char *text = cli_text(value);

		printf("%s\n", text);
		return;
	}
	struct cli_table *rows = cli_table_new(cli, heads);

	fields_print(rows, "", value);
	cli_table_print(rows);
}
