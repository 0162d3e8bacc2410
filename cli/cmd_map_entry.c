/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* map get, set and delete. */
#include "map.h"

#include <limits.h>

#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

enum { OPT_PER_CPU = CLI_LONG, OPT_NEW, OPT_EXISTING, OPT_FORCE };

#define TOWPATH_PREFIX "tw_"

/* ---- get -------------------------------------------------------------------------------------- */

static int get_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	cleanup_(cleanup_json) json_t *key = NULL, *value = NULL;
	enum tw_map_cpu_form form = TW_MAP_SUM;
	char err[512] = "";
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != OPT_PER_CPU)
			return CLI_USAGE;
		form = TW_MAP_LIST;
	}
	if (cli_operands(cli, argc, 2, 2, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (ret)
		return ret;
	key = map_word_json("key", argv[optind + 1]);
	if (!key)
		return CLI_REFUSED;
	if (tw_map_get(map, key, form, &value, err, sizeof(err)))
		return cli_refuse("%s", err);
	if (cli->output != CLI_TABLE)
		return cli_print(cli, value);
	if (form == TW_MAP_LIST && tw_map_info(map)->per_cpu) {
		struct map_table *t = map_table_new(cli, map);

		map_table_entry(t, key, value);
		map_table_end(t);
	} else {
		map_value_print(cli, value);
	}
	return CLI_OK;
}

static const struct cli_option get_options[] = {
	{ OPT_PER_CPU, "per-cpu", NULL, "values of each CPU, not their sum" },
	{ 0 },
};

const struct cli_command cmd_map_get = {
	.name = "map get",
	.usage = "MAP KEY [--per-cpu]",
	.summary = "the value of one key",
	.details = "KEY is a number, an address, a prefix, a text, or JSON in the form that dump "
		   "shows.\n",
	.options = get_options,
	.examples = "  sudo towpath map get counts 10.0.0.1\n"
		    "  sudo towpath map get tw_metrics '{\"reason\": 1, \"hook\": 0}'\n"
		    "  sudo towpath map get counts 10.0.0.1 -o json | jq .packets\n",
	.run = get_run,
};

/* ---- set -------------------------------------------------------------------------------------- */

struct set {
	const char *file;
	enum tw_map_cpu_form form;
	uint64_t flags;
	bool force;
};

/* The agent alone writes the maps of the data path, and relies on what it wrote. */
static int own_refuse(const struct tw_map *map, bool force)
{
	const char *name = tw_map_info(map)->name;

	if (force || strncmp(name, TOWPATH_PREFIX, strlen(TOWPATH_PREFIX)))
		return CLI_OK;
	return cli_refuse("%s is a map of Towpath's own data path, which the agent alone writes; "
			  "--force does it all the same",
			  name);
}

/* All are checked before the first is written. */
static int set_file(const struct tw_map *map, const struct set *s)
{
	bool in = !strcmp(s->file, "-");
	const char *name = in ? "<stdin>" : s->file;
	FILE *f = in ? stdin : fopen(s->file, "re");
	json_error_t error;
	char err[512] = "";
	json_t *entry;
	size_t i;

	if (!f)
		return cli_refuse("%s: %m", name);
	cleanup_(cleanup_json) json_t *list = json_loadf(f, JSON_REJECT_DUPLICATES, &error);

	if (!in)
		fclose(f);
	if (!list)
		return cli_refuse("%s:%d:%d: %s", name, error.line, error.column, error.text);
	if (!json_is_array(list))
		return cli_refuse("%s: expected an array of {\"key\": ..., \"value\": ...}", name);
	cleanup_(cleanup_free) void *buf =
		calloc(1, tw_map_value_len(map) + tw_map_info(map)->key_size + 8);

	json_array_foreach(list, i, entry) {
		const json_t *key = json_object_get(entry, "key"),
			     *value = json_object_get(entry, "value");

		if (!key || !value || json_object_size(entry) != 2)
			return cli_refuse("%s: [%zu]: expected {\"key\": ..., \"value\": ...}",
					  name, i);
		if (buf && (tw_map_key_parse(map, key, buf, err, sizeof(err)) ||
			    tw_map_value_parse(map, value, s->form, buf, err, sizeof(err))))
			return cli_refuse("%s: [%zu].%s", name, i, err);
	}
	json_array_foreach(list, i, entry)
		if (tw_map_set(map, json_object_get(entry, "key"), json_object_get(entry, "value"),
			       s->form, s->flags, err, sizeof(err)))
			return cli_refuse("%s: [%zu]: %s (those before it are written)", name, i,
					  err);
	return CLI_OK;
}

static int set_one(const struct tw_map *map, const struct set *s, char **argv)
{
	cleanup_(cleanup_json) json_t *key = map_word_json("key", argv[0]);
	cleanup_(cleanup_json) json_t *value = key ? map_word_json("value", argv[1]) : NULL;
	char err[512] = "";

	if (!key || !value)
		return CLI_REFUSED;
	return tw_map_set(map, key, value, s->form, s->flags, err, sizeof(err))
		       ? cli_refuse("%s", err)
		       : CLI_OK;
}

static int set_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	struct set s = { .form = TW_MAP_SUM };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt == 'f')
			s.file = cli->value;
		else if (opt == OPT_PER_CPU)
			s.form = TW_MAP_LIST;
		else if (opt == OPT_NEW)
			s.flags = BPF_NOEXIST;
		else if (opt == OPT_EXISTING)
			s.flags = BPF_EXIST;
		else if (opt == OPT_FORCE)
			s.force = true;
		else
			return CLI_USAGE;
	}
	if (cli_operands(cli, argc, s.file ? 1 : 3, s.file ? 1 : 3, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (!ret)
		ret = own_refuse(map, s.force);
	if (ret)
		return ret;
	if (map_unreadable(map))
		return CLI_REFUSED;
	return s.file ? set_file(map, &s) : set_one(map, &s, argv + optind + 1);
}

static const struct cli_option set_options[] = {
	{ 'f', "file", "FILE", "entries as dump -o json gives them; - is standard input" },
	{ OPT_NEW, "new", NULL, "only a key that is not there yet" },
	{ OPT_EXISTING, "existing", NULL, "only a key that is there" },
	{ OPT_PER_CPU, "per-cpu", NULL,
	  "the value for every CPU, or a list as --per-cpu shows it" },
	{ OPT_FORCE, "force", NULL, "also a map of Towpath's own" },
	{ 0 },
};

const struct cli_command cmd_map_set = {
	.name = "map set",
	.usage = "MAP {KEY VALUE | -f FILE}",
	.summary = "write one entry, or many from a file",
	.details =
		"KEY and VALUE are numbers, addresses, texts, or JSON in the form that dump shows. "
		"Fields\nthat are not named are 0; variables of .data and .bss that are not named "
		"stay. A file is\nchecked whole before anything is written. Values of per-CPU maps "
		"are sums: the first CPU\ngets all of it, the others 0, unless --per-cpu says "
		"otherwise.\n",
	.options = set_options,
	.examples = "  sudo towpath map set blocked 10.0.0.1 1\n"
		    "  sudo towpath map set limits 10.0.0.0/8 '{\"rate\": 100, \"burst\": 20}'\n"
		    "  sudo towpath map set blocked -f blocked.json\n"
		    "  sudo towpath map set count.bss 0 '{\"enabled\": true}'\n",
	.run = set_run,
};

/* ---- delete ----------------------------------------------------------------------------------- */

static int delete_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	bool force = false;
	char err[512] = "";
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != OPT_FORCE)
			return CLI_USAGE;
		force = true;
	}
	if (cli_operands(cli, argc, 2, INT_MAX, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (!ret)
		ret = own_refuse(map, force);
	if (!ret && map_unreadable(map))
		ret = CLI_REFUSED;
	for (int i = optind + 1; !ret && i < argc; i++) {
		cleanup_(cleanup_json) json_t *key = map_word_json("key", argv[i]);

		if (!key)
			ret = CLI_REFUSED;
		else if (tw_map_delete(map, key, err, sizeof(err)))
			ret = cli_refuse("%s: %s", argv[i], err);
	}
	return ret;
}

static const struct cli_option delete_options[] = {
	{ OPT_FORCE, "force", NULL, "also from a map of Towpath's own" },
	{ 0 },
};

const struct cli_command cmd_map_delete = {
	.name = "map delete",
	.usage = "MAP KEY...",
	.summary = "take keys out of a map",
	.details = "Ends at the first key that is not there; those before it are gone.\n",
	.options = delete_options,
	.examples = "  sudo towpath map delete blocked 10.0.0.1\n"
		    "  sudo towpath map delete limits 10.0.0.0/8 192.0.2.0/24\n",
	.run = delete_run,
};
