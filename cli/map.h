/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the commands of `towpath map` share. */
#ifndef CLI_MAP_H
#define CLI_MAP_H

#include "cli.h"

#include <towpath/map.h>

/* Opens the map that a word names. CLI_OK, or an exit status after a sentence. */
int map_open(struct tw_map **map, const char *which);
static inline void cleanup_map(struct tw_map **map)
{
	tw_map_close(*map);
}

/* True after a sentence: such a map has no entries that could be read. */
bool map_unreadable(const struct tw_map *map);

/* A word as JSON: what looks like it is read as such, the rest is a string. NULL after a sentence. */
json_t *map_word_json(const char *what, const char *word);

/* ---- map_table.c ---- */

/* Entries as rows; a column for each field where there are not too many. */
struct map_table;

struct map_table *map_table_new(const struct cli *cli, const struct tw_map *map);
/* The first entry decides about the columns. */
void map_table_entry(struct map_table *t, const json_t *key, const json_t *value);
/* Prints and frees; whether there was anything. */
bool map_table_end(struct map_table *t);
/* One value, a field a row. */
void map_value_print(const struct cli *cli, const json_t *value);

#endif
